-- The root is published, and everything goes under its name.
CREATE TABLE sales (day date, region text, amount int, PRIMARY KEY (day, region)) PARTITION BY RANGE (day);
CREATE TABLE sales_2025 PARTITION OF sales FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE sales_2026 PARTITION OF sales FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY LIST (region);
CREATE TABLE sales_2026_eu PARTITION OF sales_2026 FOR VALUES IN ('eu');
-- The columns of this partition stand in another order than the root's.
CREATE TABLE sales_2026_us (amount int, region text NOT NULL, gone int, day date NOT NULL);
ALTER TABLE sales_2026_us DROP gone;
ALTER TABLE sales_2026 ATTACH PARTITION sales_2026_us FOR VALUES IN ('us');
CREATE PUBLICATION capture FOR TABLE sales WITH (publish_via_partition_root = true);
