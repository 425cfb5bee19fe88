INSERT INTO plain VALUES (1, true, -1, 0.1, 19.90, 'Größe', '\x00ff', '2026-05-01 10:00:00.123456+00', '{"k": 1}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{1,NULL}', 'sad');
INSERT INTO plain (id, t, by) VALUES (2, '', '');
UPDATE plain SET id = 3 WHERE id = 1;
DELETE FROM plain WHERE id = 2;
