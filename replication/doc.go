// Package replication reads Postgres: from the bytes of the WAL to events.
//
// Two things live here. The set-up (setup.go and the files it names: tables, identity, publication,
// slot, createslot, describe) looks at the database over SQL before anything is read, refuses what
// would lose changes or break an application, and creates what it may. The stream (source.go) then
// holds one replication connection after the other:
//
//	walsender ──bytes──▶ stream ──batch──▶ assembler ──event──▶ Next
//	    ▲                  │  (one goroutine: Run)      (the caller's)
//	    └──────status──────┘◀── Confirm
//
// stream.go is the goroutine that owns the connection: it reads, rests while bytes gather (pace.go),
// and answers the server on time whatever the other side does (status.go). Whole messages travel in
// batches (batch.go). assemble.go decodes them (package pgoutput), keeps the transaction, its
// sequence and the tables as the stream describes them, and asks the catalog for what the stream does
// not tell (catalog.go, types.go).
//
// # What it promises
//
// Next yields every committed change of the captured tables from the slot's confirmed position on,
// in commit order, whole transactions at a time but for a lost connection, after which the cut-off
// transaction begins again. The server hears of a position only by Confirm, never of one that this
// connection has not named, and gets a status update at least every ten seconds. What is not asked
// for is counted and dropped here. A publication that is gone ends the stream: the server would only
// warn and go on without its changes.
//
// # What it does not do
//
// It does not drop or recreate slots, does not decide where to go on (package checkpoint does), and
// does not remember what was published: it may yield the same transaction again on each connection.
package replication
