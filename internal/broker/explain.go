package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/fault"
)

// Explain turns what a Kafka client, a TLS handshake or the network answered into a *fault.Error
// with a hint that names the setting to look at. Op is the verb phrase of what was being done.
// An error that is a fault already stays as it is; nil stays nil; a cancelled context and a closed
// client are wrapped without a code, because nothing is wrong with them. No secret gets into it. A refused login of Vault's has
// Vault asked for a newer one, in the background.
func Explain(op string, err error, c Config) error {
	switch {
	case err == nil:
		return nil
	case fault.Of(err) != nil:
		return fault.Of(err)
	case errors.Is(err, context.Canceled), errors.Is(err, kgo.ErrClientClosed):
		return fmt.Errorf("%s: %w", op, err)
	}
	if c.refused(err) {
		return fault.New(fault.KafkaUnavailable, op, err, "The brokers refuse the login that Vault gave. A rotation may be under way: Vault is asked for a newer one.")
	}
	judges := []func(error, Config) (fault.Code, string){judgeKafka, judgeTLS, judgeProtocol}
	if untried := new(untriedError); errors.As(err, &untried) {
		judges = append(judges, judgeGreeting)
	}
	for _, judge := range judges {
		if code, hint := judge(err, c); code != "" {
			return fault.New(code, op, err, hint)
		}
	}
	if unknown := new(kerr.Error); errors.As(err, &unknown) && !unknown.Retriable {
		return fault.New(fault.KafkaUnsupported, op, err, "The brokers gave an answer that walferry cannot act on.")
	}
	return fault.New(fault.KafkaUnavailable, op, err, unavailableHint(err, c))
}

// refused tells whether a login of Vault's was refused that was good before: it is tried again for a while.
func (c Config) refused(err error) bool {
	return c.SASL.Vault != nil && loginRefused(err) && c.SASL.Vault.Refused(c.SASL.Vault.Version())
}

// loginRefused tells whether the brokers know the mechanism and not the login. To a token they answer
// with a text of their own, which the client does not expect.
func loginRefused(err error) bool {
	return errors.Is(err, kerr.SaslAuthenticationFailed) || strings.Contains(err.Error(), "unexpected data in oauth response")
}

// unavailableHint helps with brokers that cannot be reached.
func unavailableHint(err error, c Config) string {
	if dns := new(net.DNSError); errors.As(err, &dns) && dns.IsNotFound {
		return fmt.Sprintf("The name %s cannot be resolved: check kafka.brokers.", dns.Name)
	}
	return fmt.Sprintf("Check kafka.brokers (%s) and that the brokers are up and can be reached from here.",
		strings.Join(c.Seeds, ", "))
}

// judgeKafka knows the protocol's own error codes.
func judgeKafka(err error, c Config) (fault.Code, string) {
	is := func(codes ...error) bool {
		for _, code := range codes {
			if errors.Is(err, code) {
				return true
			}
		}
		return false
	}
	switch {
	case c.SASL.Mechanism == OAuthBearer && loginRefused(err):
		return fault.KafkaAuth, "The brokers refused the token: see whether it has expired, and whether its audience and issuer are what they expect."
	case loginRefused(err):
		return fault.KafkaAuth, fmt.Sprintf("The brokers refused user %q by %s: check kafka.sasl.username, kafka.sasl.mechanism and the password.",
			c.SASL.Username, c.SASL.Mechanism)
	case is(kerr.UnsupportedSaslMechanism):
		return fault.KafkaAuth, fmt.Sprintf("The listener does not offer %s: set kafka.sasl.mechanism to one that it has.", c.SASL.Mechanism)
	case is(kerr.IllegalSaslState):
		return fault.KafkaAuth, "The listener does not take this login: check kafka.sasl.mechanism, or the port in kafka.brokers."
	case is(kerr.TopicAuthorizationFailed):
		return fault.KafkaACL, fmt.Sprintf("Give %s the ACLs Write, Describe and DescribeConfigs on the pipeline's topics, Create where walferry creates them, and Read on its checkpoint topic.", principal(c))
	case is(kerr.ClusterAuthorizationFailed):
		return fault.KafkaACL, fmt.Sprintf("Give %s the ACL Create on the cluster, or create the topics yourself (kafka.topics.create: false). Brokers before 3.0 also want IdempotentWrite on the cluster.", principal(c))
	case is(kerr.TransactionalIDAuthorizationFailed):
		return fault.KafkaACL, fmt.Sprintf("Give %s the ACLs Write and Describe on the transactional id walferry.<name>.", principal(c))
	case is(kerr.GroupAuthorizationFailed):
		return fault.KafkaACL, fmt.Sprintf("Give %s the ACL Read on the consumer group.", principal(c))
	case is(kerr.ProducerFenced, kerr.InvalidProducerEpoch):
		return fault.Fenced, "Another instance of this pipeline has taken over. Two pipelines on one Kafka cluster need different names."
	case is(kerr.UnsupportedVersion, kerr.UnsupportedForMessageFormat, kerr.UnsupportedCompressionType),
		strings.Contains(err.Error(), "broker is too old"):
		return fault.KafkaUnsupported, "walferry needs the protocol of Apache Kafka 2.5 or later."
	case is(kerr.UnknownTopicOrPartition, kerr.UnknownTopicID):
		return fault.TopicMissing, "The topic was deleted, or may not be seen: it needs the ACL Describe."
	case is(kerr.MessageTooLarge, kerr.RecordListTooLarge):
		return fault.RecordTooLarge, "Raise max.message.bytes of the topic, or set kafka.oversize: dead_letter."
	case is(kerr.InvalidRecord, kerr.InvalidTimestamp):
		return fault.RecordRefused, "The brokers' log says why. A clock that is more than an hour off is one cause."
	case is(kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID):
		return fault.RecordRefused, "The brokers have lost records that they had acknowledged, or forgot this producer. Look for an unclean leader election before you go on; a restart sends what was not acknowledged again."
	default:
		return "", ""
	}
}

const noTLS = "The listener does not speak TLS: use the port of a TLS listener in kafka.brokers, or set kafka.tls.enabled: false."

// judgeTLS knows what crypto/tls and crypto/x509 say.
func judgeTLS(err error, c Config) (fault.Code, string) {
	var (
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
		header  tls.RecordHeaderError
		alert   tls.AlertError
		verify  *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &host):
		return fault.KafkaTLS, fmt.Sprintf("The broker's certificate is not for %q. Use a name it holds in kafka.brokers, or set kafka.tls.server_name. A name you did not configure is one that the brokers advertise.", host.Host)
	case errors.As(err, &unknown):
		if c.TLS.CAFile == "" {
			return fault.KafkaTLS, "The broker's certificate is signed by none of the system's CAs: set kafka.tls.ca_file to the CA that signed it."
		}
		return fault.KafkaTLS, fmt.Sprintf("The broker's certificate is not signed by a CA in kafka.tls.ca_file (%s).", c.TLS.CAFile)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fault.KafkaTLS, "The broker's certificate has expired or is not valid yet: renew it, or check this machine's clock."
	case errors.As(err, &header):
		return fault.KafkaTLS, noTLS
	case errors.As(err, &alert), strings.Contains(err.Error(), "remote error: tls:"):
		return fault.KafkaTLS, "The broker refused this side of the TLS connection: where it asks for client certificates, check kafka.tls.cert_file and kafka.tls.key_file."
	case errors.As(err, &verify), errors.As(err, &invalid):
		return fault.KafkaTLS, "The broker's certificate could not be verified: check it and kafka.tls.ca_file."
	default:
		return "", ""
	}
}

// judgeProtocol knows answers that are no Kafka responses.
func judgeProtocol(err error, _ Config) (fault.Code, string) {
	text := err.Error()
	switch {
	case strings.Contains(text, "appear to be a tls alert"), strings.Contains(text, "invalid large response size 352518912"):
		return fault.KafkaTLS, "The listener speaks TLS and this side does not: set kafka.tls.enabled: true."
	case strings.Contains(text, "invalid large response size"), strings.Contains(text, "invalid negative response size"):
		return fault.KafkaUnsupported, "What answers is not a Kafka broker: check the ports in kafka.brokers."
	default:
		return "", ""
	}
}

// judgeGreeting guesses what a listener expected that closes the connection in the greeting, or does not
// answer: with the client's own settings at hand, that tells which of them is missing.
func judgeGreeting(err error, c Config) (fault.Code, string) {
	var (
		early  *kgo.ErrFirstReadEOF
		hungUp *hungUpError
		silent *silentError
	)
	switch {
	case errors.As(err, &silent):
		return fault.KafkaTLS, noTLS
	case !errors.As(err, &early) && errors.As(err, &hungUp) && c.SASL.Mechanism != "":
		return fault.KafkaAuth, "The broker closed the connection during the login: check kafka.sasl.username, kafka.sasl.mechanism and the password."
	case !errors.As(err, &early):
		return "", ""
	case strings.Contains(err.Error(), "is SASL missing?") && c.SASL.Mechanism == "":
		return fault.KafkaAuth, "The broker closed the connection at the first request: it wants a login. Set kafka.sasl.mechanism, kafka.sasl.username and kafka.sasl.password_file."
	case c.TLS.Enabled:
		return fault.KafkaTLS, "The broker closed the connection during the greeting. Most often the port is one without TLS: check kafka.brokers and kafka.tls.enabled."
	default:
		return fault.KafkaTLS, "The broker closed the connection during the greeting. Most often the port is one with TLS: set kafka.tls.enabled: true, or check kafka.brokers."
	}
}

// principal names whom the brokers see, as far as this side knows.
func principal(c Config) string {
	if c.SASL.Username != "" {
		return "User:" + c.SASL.Username
	}
	return "the principal of this connection"
}
