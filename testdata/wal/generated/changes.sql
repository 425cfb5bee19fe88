INSERT INTO orders (id, net, note) VALUES (1, 100, 'a');
UPDATE orders SET net = 200;
DELETE FROM orders;
