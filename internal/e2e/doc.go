// Package e2e holds tests of the program as an operator runs it: the real binary, a real Postgres,
// a real Kafka broker, and a nemesis that kills one of them under load. What the promise is, and
// how it is proved, is in internal/cdctest.
//
//	WALFERRY_DELIVERY=both  at_least_once (also where it is not set), exactly_once, or both
//	WALFERRY_KILLS=50   how often TestKill9 kills (5)
//	WALFERRY_SEED=7     the seed of the load (drawn, and printed)
//	WALFERRY_PAUSE=0    the mean rest of a connection of the load (5ms)
//	WALFERRY_RACE=1     build the binary with the race detector
//
// The tests need Java for the broker; see internal/kafkatest.
package e2e
