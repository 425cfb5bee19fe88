package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/sink"
	"github.com/walferry/walferry/vault"
)

// kafka builds the connection to the brokers.
func (d *decoder) kafka(s settings) broker.Config {
	k := s.Kafka
	local := d.brokers(k.Brokers)
	t := k.TLS
	cfg := broker.Config{
		Seeds:    k.Brokers,
		ClientID: "walferry-" + s.Name,
		TLS: broker.TLSConfig{
			Enabled: t.Enabled, CAFile: t.CAFile, CertFile: t.CertFile, KeyFile: t.KeyFile,
			ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify,
		},
	}
	if !d.given("kafka.tls.enabled") {
		// Whoever names a certificate wants TLS, on loopback too.
		cfg.TLS.Enabled = !local || d.givenWithin("kafka.tls")
	}
	d.tlsFiles(t)
	cfg.TLS.Vault = d.certificate("kafka.tls", "kafka_tls", t.Vault)
	if cfg.TLS.Vault != nil {
		d.twice("kafka.tls.cert_file", t.CertFile != "" && cfg.TLS.Vault.Has(vault.FieldCertificate))
		d.twice("kafka.tls.ca_file", t.CAFile != "" && cfg.TLS.Vault.Has(vault.FieldCA))
	}
	cfg.SASL = d.sasl(k.SASL, cfg.TLS.Enabled)
	return cfg
}

// brokers checks the addresses and tells whether all of them are on loopback.
func (d *decoder) brokers(seeds []string) bool {
	const key = "kafka.brokers"
	if len(seeds) == 0 && !d.rejected(key) {
		d.reject(key, "is missing: say host:port of a broker here or by --to")
	}
	local := len(seeds) > 0
	for i, seed := range seeds {
		item := fmt.Sprintf("%s[%d]", key, i)
		if strings.Contains(seed, "@") {
			// What stands before an @ is likely a password: the text is not shown.
			d.reject(item, "want host:port alone; a login belongs to kafka.sasl")
			continue
		}
		if err := checkAddress(seed, 1); err != nil && !d.rejected(item) {
			d.reject(item, "%s %v", d.shown(item, seed), err)
			continue
		}
		host, _, _ := net.SplitHostPort(seed)
		local = local && isLoopback(host)
	}
	return local
}

// rejected tells whether a key has a problem already, whose consequences need not be told.
func (d *decoder) rejected(key string) bool {
	for _, p := range d.problems {
		if p.key == key {
			return true
		}
	}
	return false
}

// checkAddress wants host:port with a port of at least lowest. The host may be empty where port 0
// may be asked for, which is where an address is listened on.
func checkAddress(addr string, lowest int) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("is not host:port")
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < lowest || n > 65535 {
		return fmt.Errorf("is not host:port: the port is a number up to 65535")
	}
	if host == "" && lowest > 0 {
		return errors.New("is not host:port: the host is missing")
	}
	if strings.ContainsAny(host, " /") {
		return errors.New("is not host:port: the host is a name or an address")
	}
	return nil
}

// isLoopback tells whether a connection to host cannot leave this machine.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func (d *decoder) tlsFiles(t tlsSettings) {
	if (t.CertFile == "") != (t.KeyFile == "") {
		missing := "key_file"
		if t.CertFile == "" {
			missing = "cert_file"
		}
		d.reject("kafka.tls", "cert_file and key_file go together; %s is missing", missing)
	}
	for _, f := range []struct{ key, name string }{{"kafka.tls.ca_file", t.CAFile}, {"kafka.tls.cert_file", t.CertFile}} {
		if f.name == "" {
			continue
		}
		if err := checkFile(f.name); err != nil {
			d.reject(f.key, "%v", err)
		}
	}
	if t.KeyFile != "" {
		if err := checkSecretFile(t.KeyFile); err != nil {
			d.reject("kafka.tls.key_file", "%v", err)
		}
	}
}

func (d *decoder) sasl(s saslSettings, tls bool) broker.SASLConfig {
	const key = "kafka.sasl"
	cfg := broker.SASLConfig{
		Mechanism:      s.Mechanism,
		Username:       s.Username,
		Password:       d.credential(key+".password", s.Password, s.PasswordFile),
		AllowPlaintext: s.AllowPlaintext,
	}
	cfg.Vault = d.login(key, "kafka_sasl", s.Vault, s.Username != "" || s.Mechanism == broker.OAuthBearer)
	if cfg.Vault != nil {
		d.twice(key+".password", !cfg.Password.IsZero())
		d.twice(key+".username", s.Username != "" && cfg.Vault.Has(vault.FieldUsername))
	}
	if s.Mechanism == "" {
		if cfg.Vault != nil || s.Username != "" || !cfg.Password.IsZero() {
			d.reject(key+".mechanism", "is missing: want one of %s", strings.Join(broker.Mechanisms(), ", "))
		}
		return cfg
	}
	d.oneOf(key+".mechanism", s.Mechanism)
	if s.Username == "" && s.Mechanism != broker.OAuthBearer && (cfg.Vault == nil || !cfg.Vault.Has(vault.FieldUsername)) {
		d.reject(key+".username", "is missing")
	}
	if cfg.Password.IsZero() && cfg.Vault == nil && !d.rejected(key+".password") && !d.rejected(key+".password_file") {
		d.reject(key+".password_file", "is missing: say the password by it, or by password: ${NAME}")
	}
	if !tls && !s.AllowPlaintext {
		d.add(problem{
			at: d.placeOf(key), key: key, code: fault.SASLWithoutTLS,
			text: "SASL without TLS would send the login in the open",
			hint: "Set kafka.tls.enabled: true, or kafka.sasl.allow_plaintext: true if nobody can listen between here and the brokers.",
		})
	}
	return cfg
}

// sink builds what becomes of changes; cfg holds the tables.
func (d *decoder) sink(s settings, cfg Config) sink.Config {
	k := s.Kafka
	d.oneOf("kafka.compression", k.Compression)
	d.oneOf("kafka.oversize", k.Oversize)
	const dead = "kafka.dead_letter_topic"
	switch {
	case k.Oversize == "dead_letter" && k.DeadLetterTopic == "":
		d.reject(dead, "is missing; oversize: dead_letter needs one")
	case k.Oversize == "stop" && k.DeadLetterTopic != "":
		d.reject(dead, "is not used; set oversize: dead_letter, or leave it out")
	case k.DeadLetterTopic == "." || k.DeadLetterTopic == ".." || k.DeadLetterTopic != "" && !topicName.MatchString(k.DeadLetterTopic):
		d.reject(dead, "%s is not a topic name: want at most 249 of letters, digits, '.', '_' and '-'", d.shown(dead, k.DeadLetterTopic))
	}
	keys := map[string][]string{}
	for _, t := range cfg.Postgres.Tables {
		if t.Key != nil {
			keys[(&event.Table{Schema: t.Schema, Name: t.Name}).String()] = t.Key
		}
	}
	return sink.Config{
		Pipeline:        s.Name,
		Topics:          d.topics(k.Topics),
		Compression:     k.Compression,
		DeadLetterTopic: k.DeadLetterTopic,
		Keys:            keys,
		Messages:        len(cfg.Postgres.MessagePrefixes) > 0,
	}
}

var (
	topicName    = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)
	placeholder  = regexp.MustCompile(`\{([^{}]*)\}`)
	templateText = regexp.MustCompile(`^[A-Za-z0-9._-]*$`)
)

func (d *decoder) topics(s topicSettings) sink.TopicConfig {
	const key = "kafka.topics"
	d.topicTemplate(key+".name", s.Name)
	if s.Partitions != -1 && s.Partitions < 1 {
		d.reject(key+".partitions", "want a number from 1 on, or -1 for the brokers' default")
	}
	if s.ReplicationFactor != -1 && (s.ReplicationFactor < 1 || s.ReplicationFactor > 1<<15-1) {
		d.reject(key+".replication_factor", "want a number from 1 to 32767, or -1 for the brokers' default")
		s.ReplicationFactor = -1
	}
	return sink.TopicConfig{
		Name:              s.Name,
		Create:            s.Create,
		Partitions:        int32(s.Partitions),        //nolint:gosec // the decoder takes 32 bits only
		ReplicationFactor: int16(s.ReplicationFactor), //nolint:gosec // the range is checked above
		Config:            s.Config,
	}
}

// topicTemplate checks the template alone; the names it makes of tables are checked by the sink.
func (d *decoder) topicTemplate(key, template string) {
	known := []string{"name", "schema", "table"}
	for _, m := range placeholder.FindAllStringSubmatch(template, -1) {
		switch m[1] {
		case "name", "schema", "table":
		default:
			text := fmt.Sprintf("{%s} is not one of {name}, {schema}, {table}", m[1])
			if best := Nearest(m[1], known); best != "" {
				text += fmt.Sprintf("; did you mean {%s}?", best)
			}
			d.reject(key, "%s", text)
		}
	}
	rest := placeholder.ReplaceAllString(template, "")
	if template == "" || !templateText.MatchString(rest) {
		d.reject(key, "%s: beside {name}, {schema} and {table} want letters, digits, '.', '_' and '-'", d.shown(key, template))
	}
}
