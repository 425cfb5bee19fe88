// Package walcapture records what a real Postgres sends for a script of changes, and reads such
// records back, so that decoders are tested against bytes that nobody made up.
//
//	testdata/wal/<case>/schema.sql    tables and a publication named capture
//	                    changes.sql   what is done to them
//	                    options       more options of START_REPLICATION; seldom there
//	                    pg14/, pg18/  what each version sent:
//	                        frames.bin       the CopyData contents, each behind its length
//	                        messages.golden  the same for people, by replication/pgoutput
//	                        events.golden    the records they become, by replication and sink/encode
//
// How the folder is filled again is said in testdata/wal/README.md. The package is for tests.
package walcapture
