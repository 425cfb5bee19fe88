-- Updates of key columns and deletes under each replica identity.
CREATE TABLE by_default (id int PRIMARY KEY, code text NOT NULL UNIQUE, note text);
CREATE TABLE by_full (id int PRIMARY KEY, code text NOT NULL UNIQUE, note text);
CREATE TABLE by_full_without_key (a int, b text);
CREATE TABLE by_index (id int PRIMARY KEY, code text NOT NULL UNIQUE, note text);
CREATE TABLE by_nothing (id int PRIMARY KEY, note text);
CREATE TABLE by_two (b text, n int, a int, PRIMARY KEY (a, b));
ALTER TABLE by_full REPLICA IDENTITY FULL;
ALTER TABLE by_full_without_key REPLICA IDENTITY FULL;
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_code_key;
ALTER TABLE by_nothing REPLICA IDENTITY NOTHING;
CREATE PUBLICATION capture FOR TABLE by_default, by_full, by_full_without_key, by_index, by_nothing, by_two;
