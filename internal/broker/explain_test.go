package broker_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
)

func TestExplain(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code fault.Code
		hint string
	}{
		{kerr.TopicAuthorizationFailed, fault.KafkaACL, "User:u the ACLs Write"},
		{kerr.ClusterAuthorizationFailed, fault.KafkaACL, "Create"},
		{kerr.TransactionalIDAuthorizationFailed, fault.KafkaACL, "transactional id"},
		{kerr.ProducerFenced, fault.Fenced, "Another instance"},
		{kerr.InvalidProducerEpoch, fault.Fenced, "Another instance"},
		{kerr.UnsupportedVersion, fault.KafkaUnsupported, "2.5"},
		{kerr.UnknownTopicID, fault.TopicMissing, "deleted"},
		{kerr.MessageTooLarge, fault.RecordTooLarge, "max.message.bytes"},
		{kerr.InvalidTimestamp, fault.RecordRefused, "clock"},
		{kerr.UnknownProducerID, fault.RecordRefused, "unclean"},
		{kerr.InvalidRequest, fault.KafkaUnsupported, ""},
		{kerr.NotEnoughReplicas, fault.KafkaUnavailable, "kafka.brokers"},
		{context.DeadlineExceeded, fault.KafkaUnavailable, "kafka.brokers"},
		{&net.DNSError{Name: "no.example", IsNotFound: true}, fault.KafkaUnavailable, "no.example"},
		{errors.New("invalid large response size 1213486160 > limit 104857600"), fault.KafkaUnsupported, "not a Kafka broker"},
	} {
		t.Run(tc.err.Error(), func(t *testing.T) {
			c := broker.Config{Seeds: []string{"b:1"}, SASL: broker.SASLConfig{Username: "u"}}
			err := broker.Explain("try", fmt.Errorf("wrapped: %w", tc.err), c)
			if !fault.Is(err, tc.code) || !errors.Is(err, tc.err) || !strings.Contains(hintOf(err), tc.hint) {
				t.Errorf("got %v, hint %q", err, hintOf(err))
			}
		})
	}
	if err := broker.Explain("try", nil, broker.Config{}); err != nil {
		t.Errorf("nil became %v", err)
	}
	given := fault.New(fault.TopicName, "name", nil, "")
	if err := broker.Explain("try", fmt.Errorf("dial: %w", given), broker.Config{}); !errors.Is(err, given) {
		t.Errorf("a fault became %v", err)
	}
}
