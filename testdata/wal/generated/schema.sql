-- Generated columns are not in the stream.
CREATE TABLE orders (id int PRIMARY KEY, net int, gross int GENERATED ALWAYS AS (net * 119 / 100) STORED, note text);
CREATE PUBLICATION capture FOR TABLE orders;
