-- Transactions that were themselves replicated from elsewhere.
CREATE TABLE orders (id int PRIMARY KEY);
CREATE PUBLICATION capture FOR TABLE orders;
SELECT pg_replication_origin_create('elsewhere');
