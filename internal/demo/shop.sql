-- The shop of `walferry demo`. Every row has a revision, by which the demo tells each change from
-- every other; the rest is there to show types.
CREATE SCHEMA shop;
CREATE TYPE shop.status AS ENUM ('new', 'paid', 'shipped');
CREATE TYPE shop.address AS (street text, city text);

CREATE TABLE shop.customers (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name     text NOT NULL,
    tags     text[] NOT NULL DEFAULT '{}',
    home     shop.address,
    born     date,
    active   boolean NOT NULL DEFAULT true,
    profile  jsonb,
    joined   timestamptz NOT NULL DEFAULT clock_timestamp(),
    revision integer NOT NULL DEFAULT 1
);

CREATE TABLE shop.orders (
    id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    customer bigint NOT NULL REFERENCES shop.customers,
    status   shop.status NOT NULL DEFAULT 'new',
    amount   numeric(12, 2) NOT NULL,
    items    text[] NOT NULL,
    delivery tstzrange,
    within   interval,
    note     text,
    revision integer NOT NULL DEFAULT 1
);

CREATE TABLE shop.stock (
    sku      text PRIMARY KEY,
    pieces   integer NOT NULL,
    price    numeric(12, 2) NOT NULL,
    weight   double precision NOT NULL,
    digest   bytea,
    counted  timestamp,
    revision integer NOT NULL DEFAULT 1
);

INSERT INTO shop.stock (sku, pieces, price, weight, digest, counted) VALUES
    ('kettle',  120, 39.90, 1.25,  '\x00ff10', localtimestamp),
    ('teapot',   80, 24.50, 0.8,   '\xcafe',   localtimestamp),
    ('cup',     900,  4.20, 0.15,  NULL,       localtimestamp),
    ('saucer',  900,  2.10, 0.1,   NULL,       NULL),
    ('tea',    4000,  6.75, 0.125, '\x01',     localtimestamp);
