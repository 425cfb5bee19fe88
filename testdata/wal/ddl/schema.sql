-- The shape of a table changes between two rows of one transaction.
CREATE TYPE mood AS ENUM ('happy', 'sad');
CREATE TABLE orders (id int PRIMARY KEY, note text, mood mood);
CREATE PUBLICATION capture FOR TABLE orders;
