-- session early
BEGIN;
INSERT INTO orders VALUES (1, 'written first, committed last');
-- session late
BEGIN;
INSERT INTO orders VALUES (2, 'written second');
-- session third
INSERT INTO orders VALUES (3, 'committed first');
-- session early
INSERT INTO orders VALUES (4, 'written by the first');
-- session late
COMMIT;
-- session early
COMMIT;
