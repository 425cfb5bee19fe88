CREATE TABLE orders (id serial PRIMARY KEY, note text);
CREATE TABLE lines (id serial PRIMARY KEY, order_id int REFERENCES orders, note text);
CREATE TABLE other (id int PRIMARY KEY);
CREATE TABLE unpublished (id int PRIMARY KEY);
CREATE PUBLICATION capture FOR TABLE orders, lines, other;
