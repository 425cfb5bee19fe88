package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walferry/walferry/fault"
)

const (
	// A broker that is closing down ends connections in the greeting like one that was spoken to in
	// the wrong protocol. It does so for a moment only, hence a second and a third look.
	greetings    = 3
	greetingRest = 300 * time.Millisecond
)

// Probe connects to the seeds until one answers, then to the brokers it names, and explains what
// stands in the way. A client by itself would go on trying for as long as a request may take. It
// returns at the first broker that can be used, and within seconds where the credentials or the
// certificates are wrong; brokers that cannot be reached are a retryable fault.
//
// One answering broker is enough; but where a seed answers and all the addresses that it names
// cannot be used, that is an error: nothing could be written.
//
// It is for settings that have not worked yet: where a connection ends or stays silent in the greeting,
// it guesses which of them is wrong. See ProbeAgain.
func Probe(ctx context.Context, cl *kgo.Client, c Config) error {
	return probe(ctx, cl, c, func(err error) error { return &untriedError{err} })
}

// ProbeAgain is Probe for settings that have worked in this process before. A connection that ends or
// stays silent in the greeting is that of a broker in trouble then, or of a load balancer whose broker is
// down, and a retryable fault.
func ProbeAgain(ctx context.Context, cl *kgo.Client, c Config) error {
	return probe(ctx, cl, c, func(err error) error { return err })
}

func probe(ctx context.Context, cl *kgo.Client, c Config, mark func(error) error) error {
	const op = "connect to Kafka"
	explain := func(err error) error {
		if err == nil {
			return nil
		}
		return Explain(op, mark(err), c)
	}
	if err := explain(firstAnswer(ctx, cl.SeedBrokers(), explain)); err != nil {
		return err
	}
	if err := explain(cl.Ping(ctx)); err != nil { // learns the brokers' own addresses
		return err
	}
	err := explain(firstAnswer(ctx, cl.DiscoveredBrokers(), explain))
	if f := fault.Of(err); f != nil {
		f.Hint = fmt.Sprintf("%s answers, but the addresses that the cluster advertises for its brokers cannot be used: check advertised.listeners. %s",
			strings.Join(c.Seeds, ", "), f.Hint)
	}
	return err
}

// firstAnswer asks one broker after the other until one answers. Of several failures it returns one
// that a person must see to, where there is one.
func firstAnswer(ctx context.Context, brokers []*kgo.Broker, explain func(error) error) error {
	var failure error
	for _, b := range brokers {
		err := greet(ctx, b)
		if err == nil {
			return nil
		}
		if failure == nil || fault.Retryable(explain(failure)) {
			failure = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return failure
}

// greet asks one broker for something every broker answers to whoever is logged in.
func greet(ctx context.Context, b *kgo.Broker) error {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{}
	for try := 1; ; try++ {
		_, err := b.Request(ctx, req)
		switch {
		case !errors.Is(err, io.EOF):
			return err
		case try == greetings:
			return &hungUpError{err}
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(greetingRest):
		}
	}
}

// hungUpError is a broker that closed the connection in each greeting.
type hungUpError struct{ err error }

func (e *hungUpError) Error() string {
	return fmt.Sprintf("the broker closed the connection %d times: %v", greetings, e.err)
}

func (e *hungUpError) Unwrap() error { return e.err }

// untriedError is what went wrong with settings that have not worked yet.
type untriedError struct{ err error }

func (e *untriedError) Error() string { return e.err.Error() }
func (e *untriedError) Unwrap() error { return e.err }
