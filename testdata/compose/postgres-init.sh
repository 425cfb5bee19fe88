#!/usr/bin/env bash
# Runs once, as the superuser of an empty database: a small shop, the role walferry logs in as, and
# the publication, made by the owner of the tables, so that walferry needs no more than REPLICATION.
set -euo pipefail
psql -v ON_ERROR_STOP=1 -U postgres -d shop -v password="$(cat /run/secrets/cdc)" <<'SQL'
CREATE TABLE public.orders (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	customer text NOT NULL,
	status text NOT NULL DEFAULT 'new',
	amount numeric(12, 2) NOT NULL,
	at timestamptz NOT NULL DEFAULT now()
);
CREATE SCHEMA inventory;
CREATE TABLE inventory.items (
	sku text PRIMARY KEY,
	stock integer NOT NULL,
	tags text[] NOT NULL DEFAULT '{}'
);
CREATE ROLE cdc LOGIN REPLICATION PASSWORD :'password';
CREATE PUBLICATION walferry_shop FOR TABLE public.orders, inventory.items
	WITH (publish_via_partition_root = true);
SQL
