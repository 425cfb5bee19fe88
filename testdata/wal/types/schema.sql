-- A column of every kind that walferry reads in its own way, and some that it passes through.
CREATE EXTENSION hstore;
CREATE EXTENSION citext;
CREATE SCHEMA shop;
CREATE TYPE shop.mood AS ENUM ('happy', 'sad', 'so-so, "really"');
CREATE TYPE shop.address AS (street text, zip int, since date);
CREATE DOMAIN shop.cents AS int4 CHECK (VALUE >= 0);
CREATE DOMAIN shop.moods AS shop.mood[];
CREATE TABLE shop.plain (
    id int8 PRIMARY KEY,
    b bool, i2 int2, i4 int4, i8 int8, o oid,
    f4 float4, f8 float8, n numeric, n2 numeric(30,10),
    t text, vc varchar(20), c char(5), nm name, ci citext,
    by bytea, u uuid, j json, jb jsonb, x xml
);
CREATE TABLE shop.times (
    id int4 PRIMARY KEY,
    ts timestamp, tz timestamptz, ts3 timestamp(3), d date, t time, ttz timetz, i interval
);
CREATE TABLE shop.made (
    id int4 PRIMARY KEY,
    mood shop.mood, cents shop.cents, moods shop.moods, address shop.address, h hstore,
    addresses shop.address[], hs hstore[]
);
CREATE TABLE shop.arrays (
    id int4 PRIMARY KEY,
    ints int4[], texts text[], nested int4[], times timestamptz[], moods shop.mood[], cents shop.cents[],
    boxes box[], jsons jsonb[], byteas bytea[], iv int2vector
);
CREATE TABLE shop.others (
    id int4 PRIMARY KEY,
    inet inet, cidr cidr, mac macaddr, mac8 macaddr8, bits bit(4), vbits varbit,
    ir int4range, tr tstzrange, imr int4multirange, m money, p point, poly polygon, ts tsvector, tq tsquery,
    lsn pg_lsn, x8 xid8, jp jsonpath, r regclass
);
CREATE PUBLICATION capture FOR TABLE shop.plain, shop.times, shop.made, shop.arrays, shop.others;
