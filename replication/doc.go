// Package replication reads WAL: connection, slot, publication, stream, and the assembly of messages into events.
package replication
