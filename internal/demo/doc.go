// Package demo is what `walferry demo` puts around a pipeline: a Postgres and a Kafka broker of its
// own, a small shop that writes to the one, a consumer that reads from the other, and a ledger that
// compares what was committed with what arrived.
//
//	Shop ──rows──▶ Postgres ──▶ the pipeline ──▶ broker ──records──▶ Watch
//	  └────────── wrote ──▶ Ledger ◀── arrived ───────────────────────┘
//
// The pipeline itself is not here: the command runs the same one as `walferry run`.
package demo
