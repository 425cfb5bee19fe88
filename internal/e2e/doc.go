// Package e2e holds tests of the program as an operator runs it: the real binary, a real Postgres,
// a real Kafka broker, and a nemesis that kills one of them under load. What the promise is, and
// how it is proved, is in internal/cdctest.
//
//	WALFERRY_DELIVERY=both  exactly_once (also where it is not set), at_least_once, or both
//	WALFERRY_KILLS=50   how often TestFault01_Kill9 kills (5)
//	WALFERRY_FAILPOINTS=20  how often TestFault02_FailPoints dies at each point, under every delivery (1, one)
//	WALFERRY_HOURS=8, WALFERRY_FAULTS='kill -9=50'  what TestSoak does (nothing)
//	WALFERRY_LONG=1     also the tests that need servers of their own, or a timeout to run out
//	WALFERRY_SEED=7     the seed of the load and of the faults (drawn, and printed)
//	WALFERRY_PAUSE=0    the mean rest of a connection of the load (5ms)
//	WALFERRY_RACE=1     build the binary with the race detector
//
// The tests need Java for the broker; see internal/kafkatest.
package e2e
