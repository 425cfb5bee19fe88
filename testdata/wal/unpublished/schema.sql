CREATE TABLE published (id int PRIMARY KEY, note text);
CREATE TABLE unpublished (id int PRIMARY KEY, note text);
CREATE PUBLICATION capture FOR TABLE published;
