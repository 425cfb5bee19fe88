// Package oracle holds tests that follow rows from a real Postgres to the bytes of their records and
// compare these with what Postgres itself says of the same rows, at the same moment, in the same
// transaction.
//
//	application ──SQL──▶ Postgres ──WAL──▶ replication.Source ──event──▶ sink/encode ──record──┐
//	     └──SELECT of oracle.sql──▶ what docs/events.md promises of the row ────────────────compare
//
// The oracle is SQL: oracle.sql makes an expression for each column, by its type in the catalog of that
// moment, from to_json, to_char, encode and casts to text. No decoder of ours has a part in it.
//
// By default the tests run on the oldest and the newest version; WALFERRY_PG=15 asks for one of them.
// WALFERRY_FULL=1 takes every type into every encoding and a row of 200 MB. WALFERRY_ROWS and
// WALFERRY_SEED say how many random rows, and which; WALFERRY_TABLES how many tables a database has.
package oracle
