INSERT INTO orders VALUES (1);
SELECT pg_replication_origin_session_setup('elsewhere');
BEGIN;
SELECT pg_replication_origin_xact_setup('AA/BB', '2026-05-01 10:00:00+00');
INSERT INTO orders VALUES (2);
COMMIT;
SELECT pg_replication_origin_session_reset();
INSERT INTO orders VALUES (3);
SELECT pg_replication_origin_drop('elsewhere');
