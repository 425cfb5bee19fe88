// Package cdctest is walferry's promise as code: what a Postgres committed is in the topics, whole
// and in order.
//
//	Load ──random transactions──▶ Postgres ──walferry──▶ Kafka ──Read──▶ Validator
//	                                 │  truth, kept by triggers              ▲
//	                                 └───────────────ReadTruth───────────────┘
//
// The ground truth is kept by Postgres itself: a trigger writes each change into the table
// cdctest.truth within the transaction that made it, so what was rolled back, and what was
// committed while the client's connection broke, is known for certain, without a word from the
// decoder under test. The validator proves from the topics that nothing is lost, out of order or
// invented, and knows from the truth when it has seen everything; no test waits for silence.
//
// Nothing here imports testing: programs that run for hours use it too.
package cdctest
