-- The same kinds of values in Postgres's binary form.
CREATE TYPE mood AS ENUM ('happy', 'sad');
CREATE TABLE plain (id int8 PRIMARY KEY, b bool, i int4, f float8, n numeric, t text, by bytea, ts timestamptz, j jsonb, u uuid, ints int4[], mood mood);
CREATE PUBLICATION capture FOR TABLE plain;
