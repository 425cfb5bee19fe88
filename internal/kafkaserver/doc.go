// Package kafkaserver starts a real Apache Kafka 4 broker: one node, KRaft, on 127.0.0.1 and free
// ports, with everything in one temporary folder. It needs Java 17 and, for the first start,
// Maven, which brings the jars. The broker dies with this process.
//
// Two listeners take clients: one in plaintext, where everybody is the super user
// User:ANONYMOUS, and one with SASL_SSL, where Username logs in by SCRAM-SHA-512 and the
// certificate is signed by an authority of the broker's own.
package kafkaserver
