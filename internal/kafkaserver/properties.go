package kafkaserver

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/walferry/walferry/internal/childproc"
	"github.com/walferry/walferry/internal/testca"
)

// write puts server.properties, the certificates and the log's configuration into the folder.
func (s *Server) write(o Options) error {
	var err error
	for _, port := range []*int{&s.plain, &s.sasl, &s.controller, &s.proxied} {
		if *port, err = childproc.FreePort(); err != nil {
			return err
		}
	}
	ca, err := testca.New("walferry test authority")
	if err != nil {
		return err
	}
	cert, key, err := ca.Issue("broker", "localhost", "127.0.0.1")
	if err != nil {
		return err
	}
	props := s.properties()
	if o.ACLs {
		props["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
		props["super.users"] = "User:ANONYMOUS"
	}
	if o.Proxy != "" {
		props["listeners"] += ",PROXIED://" + addr(s.proxied)
		props["advertised.listeners"] += ",PROXIED://" + o.Proxy
		props["listener.security.protocol.map"] += ",PROXIED:PLAINTEXT"
	}
	maps.Copy(props, o.Settings)
	var text strings.Builder
	for _, k := range slices.Sorted(maps.Keys(props)) {
		fmt.Fprintf(&text, "%s=%s\n", k, props[k])
	}
	return errors.Join(
		s.file("server.properties", text.String()),
		s.file("server.pem", string(key)+string(cert)),
		s.file("ca.pem", string(ca.PEM())),
		s.file("log4j2.properties", logging))
}

// properties is the smallest sensible broker: one replica and one partition of everything, no
// waiting for a group to gather, and a short broker session, without which a restart after kill -9
// takes 12 seconds instead of 4.
func (s *Server) properties() map[string]string {
	return map[string]string{
		"node.id":                                               "1",
		"process.roles":                                         "broker,controller",
		"controller.quorum.bootstrap.servers":                   addr(s.controller),
		"controller.listener.names":                             "CONTROLLER",
		"listeners":                                             "PLAINTEXT://" + addr(s.plain) + ",SASL_SSL://" + addr(s.sasl) + ",CONTROLLER://" + addr(s.controller),
		"advertised.listeners":                                  "PLAINTEXT://" + addr(s.plain) + ",SASL_SSL://" + addr(s.sasl) + ",CONTROLLER://" + addr(s.controller),
		"listener.security.protocol.map":                        "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name":                            "PLAINTEXT",
		"log.dirs":                                              s.path("data"),
		"auto.create.topics.enable":                             "false",
		"num.partitions":                                        "1",
		"default.replication.factor":                            "1",
		"offsets.topic.replication.factor":                      "1",
		"offsets.topic.num.partitions":                          "1",
		"transaction.state.log.replication.factor":              "1",
		"transaction.state.log.min.isr":                         "1",
		"transaction.state.log.num.partitions":                  "1",
		"share.coordinator.state.topic.replication.factor":      "1",
		"share.coordinator.state.topic.min.isr":                 "1",
		"share.coordinator.state.topic.num.partitions":          "1",
		"group.initial.rebalance.delay.ms":                      "0",
		"broker.session.timeout.ms":                             "2000",
		"broker.heartbeat.interval.ms":                          "500",
		"log.cleaner.dedupe.buffer.size":                        "4194304", // 128 MB otherwise, a quarter of the heap
		"sasl.enabled.mechanisms":                               "SCRAM-SHA-512,SCRAM-SHA-256",
		"listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"listener.name.sasl_ssl.ssl.keystore.type":              "PEM",
		"listener.name.sasl_ssl.ssl.keystore.location":          s.path("server.pem"),
		"listener.name.sasl_ssl.ssl.truststore.type":            "PEM",
		"listener.name.sasl_ssl.ssl.truststore.location":        s.path("ca.pem"),
	}
}

// logging sends warnings, and what becomes of transactions, to the standard output, which is the server's log file.
const logging = `rootLogger.level = WARN
logger.transactions.name = kafka.coordinator.transaction
logger.transactions.level = INFO
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1}: %m%n
`

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Server) file(name, text string) error {
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// clusterID is what Kafka calls a Uuid: 16 random bytes in URL-safe base64 without padding. The first
// bit is 0, because an id that begins with - would be taken for an option.
func clusterID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[0] &= 0x7f
	return base64.RawURLEncoding.EncodeToString(id[:])
}

func addr(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
