CREATE TABLE orders (id int PRIMARY KEY, note text);
CREATE PUBLICATION capture FOR TABLE orders;
