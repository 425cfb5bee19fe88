// Package model checks the algorithm of both deliveries by trying everything: every order in which the
// steps of two instances, the brokers, the server and a bounded number of faults can follow each other.
//
//	instance A ─┐            ┌─ slot (held by one, may rewind)
//	instance B ─┼─ one step ─┼─ transactional id (newest claimant, open transaction, markers)
//	faults     ─┘            └─ checkpoint record, records that a read_committed consumer has seen
//
// A state is all that there is at one moment. From it each step that is possible leads to another state;
// the search (search.go) visits all of them, shortest way first, and stops at the first one that breaks
// the promise, with the way there in words.
//
// What an instance does stands in programs (program.go): lists of operations, in the order of the code, each
// with the function that does it. A mutation (mutation.go) is the same algorithm with two neighbouring
// operations swapped, one left out, or a rule forgotten; the tests hold for each of them that the search
// finds the bug, or say why there is none.
//
// It promises to visit every state within its bounds, in the same order each time. It does not promise
// that the code does what the programs say: that is what the simulation and the tests on real servers are
// for. What is left out stands in docs/guarantees.md.
package model
