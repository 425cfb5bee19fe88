// Package sim is a world to run pipelines in, of which everything that happens is drawn from a seed: a
// model of a Postgres, a fake Kafka cluster, the network between them, faults, and a clock that skips
// every wait. A minute of outages takes some milliseconds.
//
//	          ┌ Postgres: WAL, one slot, walsender, catalog       (spoken to by pgproto3)
//	director ─┼ network: delay, cut at any byte, stall, kill
//	          ├ Kafka: kfake, three brokers, with faults
//	          └ instances of the pipeline under test ──▶ Verdict
//
// World.Run must be called within a bubble of testing/synctest: there the clock stands still while
// anybody works, and jumps to the next timer when all wait. The instances are the real thing, from
// the bytes of the connections inwards; the caller brings them (Start), because only cmd knows how the
// rooms are joined.
//
// A statement that pipelines run and the model does not know is a failure that names it: it gets its
// answer in statements.go.
//
// What it promises: the schedule of faults, of the load and of every delay follows from the seed
// and the time of the virtual clock alone. What it does not: Go chooses by chance among goroutines
// that can run at the same instant, among the ready cases of a select, and the order of a map, so a seed
// replays the same faults against the same load, but not always to the byte. Two deliveries never
// share an instant, which leaves chance little to decide.
package sim
