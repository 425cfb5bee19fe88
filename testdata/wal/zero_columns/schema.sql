CREATE TABLE nothing_at_all ();
CREATE TABLE emptied (id int PRIMARY KEY);
ALTER TABLE nothing_at_all REPLICA IDENTITY FULL;
CREATE PUBLICATION capture FOR TABLE nothing_at_all, emptied;
