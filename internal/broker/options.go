package broker

import (
	"context"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/failpoint"
)

const (
	// dialTimeout covers connecting and the TLS handshake. A listener that does not speak TLS may
	// take the handshake for the beginning of a huge request and wait for the rest of it.
	dialTimeout = 5 * time.Second
	// idleTimeout keeps a quiet producer's connections, so that the first record after a pause does
	// not pay for a handshake and a login. Brokers close idle connections after ten minutes.
	idleTimeout = 9 * time.Minute
)

// Options returns what every client of this configuration has in common: seeds, client id, TLS and
// login. It reads no file: certificates are read at each connection and the password at each
// authentication, so that rotated files serve the next one. Its errors are *fault.Error.
//
// The client retries a connection that ends early, as brokers in a rolling restart do. A wrong TLS
// or SASL setting looks the same, so call Probe before the client is used for anything else.
func Options(c Config) ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Seeds...),
		kgo.ClientID(c.ClientID),
		kgo.Dialer(dialer(c)),
		kgo.ConnIdleTimeout(idleTimeout),
		kgo.AlwaysRetryEOF(),
	}
	opts = append(opts, failpoint.Kafka()...)
	if c.SASL.Mechanism == "" {
		return opts, nil
	}
	if !c.TLS.Enabled && !c.SASL.AllowPlaintext {
		return nil, fault.New(fault.SASLWithoutTLS, "configure the Kafka connection", nil,
			"Set kafka.tls.enabled: true. Only where the network itself is trusted: kafka.sasl.allow_plaintext: true.")
	}
	mechanism, err := login(c.SASL)
	if err != nil {
		return nil, err
	}
	return append(opts, kgo.SASL(mechanism)), nil
}

// dialer connects, with a TLS configuration made anew each time.
func dialer(c Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		conn, err := dial(ctx, network, addr)
		if err != nil || !c.TLS.Enabled {
			return conn, err
		}
		secured, err := handshake(ctx, conn, c.TLS, addr)
		if err != nil {
			_ = conn.Close() // the handshake's error is the one that matters
			return nil, err
		}
		return secured, nil
	}
}
