-- A value of 3,000 bytes that is stored out of line, under each replica identity.
CREATE TABLE by_default (id int PRIMARY KEY, note text, big text);
CREATE TABLE by_full (id int PRIMARY KEY, note text, big text);
CREATE TABLE by_index (id int PRIMARY KEY, code text NOT NULL UNIQUE, big text);
ALTER TABLE by_default ALTER big SET STORAGE EXTERNAL;
ALTER TABLE by_full ALTER big SET STORAGE EXTERNAL;
ALTER TABLE by_index ALTER big SET STORAGE EXTERNAL;
ALTER TABLE by_full REPLICA IDENTITY FULL;
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_code_key;
CREATE PUBLICATION capture FOR TABLE by_default, by_full, by_index;
