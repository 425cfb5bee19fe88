// Package e2e holds tests of the program as an operator runs it: the real binary, a real Postgres,
// a real Kafka broker, and a nemesis that kills one of them under load. What the promise is, and
// how it is proved, is in internal/cdctest.
//
//	WALFERRY_KILLS=50   how often TestKill9 kills (5)
//	WALFERRY_SEED=7     the seed of the load (drawn, and printed)
//	WALFERRY_RACE=1     build the binary with the race detector
//
// The tests need Java for the broker; see internal/kafkatest.
package e2e
