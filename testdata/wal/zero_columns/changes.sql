INSERT INTO nothing_at_all DEFAULT VALUES;
DELETE FROM nothing_at_all;
INSERT INTO emptied VALUES (1);
ALTER TABLE emptied DROP id;
INSERT INTO emptied DEFAULT VALUES;
TRUNCATE nothing_at_all;
ALTER TABLE emptied ADD id int;
INSERT INTO emptied VALUES (2);
