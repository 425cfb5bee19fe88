package checkpoint

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/internal/kafkaserver"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/vault"
)

// savedBy returns a store that has acquired and saved as an instance does.
func savedBy(t *testing.T, seed, pipeline, instance string) *KafkaStore {
	t.Helper()
	s := newKafkaStore(t, seed, pipeline)
	_, err := s.Acquire(t.Context())
	noError(t, err)
	r := recordAt(10)
	r.Instance = instance
	noError(t, s.Save(t.Context(), r))
	return s
}

// TestFault51_Truncated: records that were deleted are not taken for a checkpoint that never was, neither
// by a running instance nor by a start; the claim is held all the same, so that an operator can replace it.
func TestFault51_Truncated(t *testing.T) {
	onBothBrokers(t, func(t *testing.T, seed, pipeline string) {
		ctx := t.Context()
		running := savedBy(t, seed, pipeline, "running")
		admin := newAdmin(t, seed)
		policy := func(to string) {
			_, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: &to}}, Topic(pipeline))
			noError(t, err)
		}
		ends, err := admin.ListEndOffsets(ctx, Topic(pipeline))
		noError(t, err)
		policy("delete") // Kafka deletes no records of a topic that is compacted alone
		deleted, err := admin.DeleteRecords(ctx, ends.Offsets())
		noError(t, err)
		noError(t, deleted.Error())
		policy("compact")

		next := newKafkaStore(t, seed, pipeline)
		_, err = next.Peek(ctx)
		wantCode(t, err, fault.CheckpointLost)
		_, err = next.Load(ctx)
		wantCode(t, err, fault.CheckpointLost)
		if f := fault.Of(err); f.Topic != Topic(pipeline) || !strings.Contains(f.Error(), "before offset ") || !strings.Contains(f.Hint, "walferry slot adopt") {
			t.Errorf("the error says %v, hint %s", f, f.Hint)
		}
		_, err = running.Acquire(ctx)
		wantCode(t, err, fault.CheckpointLost)

		_, err = next.Acquire(ctx)
		wantCode(t, err, fault.CheckpointLost)
		noError(t, next.Save(ctx, recordAt(20)))
		r, err := next.Load(ctx)
		wantEnd(t, r, err, 20)
	})
}

// TestFault51_Deleted: a running instance whose topic is deleted, or deleted and made again, stops, and
// makes none in its place.
func TestFault51_Deleted(t *testing.T) {
	onBothBrokers(t, func(t *testing.T, seed, pipeline string) {
		ctx := t.Context()
		running := savedBy(t, seed, pipeline, "running")
		admin := newAdmin(t, seed)
		deleted, err := admin.DeleteTopics(ctx, Topic(pipeline))
		noError(t, err)
		noError(t, deleted.Error())
		_, err = running.Acquire(ctx)
		wantCode(t, err, fault.CheckpointLost)
		if r, err := newKafkaStore(t, seed, pipeline).Peek(ctx); r != nil || err != nil {
			t.Errorf("without a topic Peek says %v, %v", r, err)
		}
		if topics, err := admin.ListTopics(ctx); err != nil || topics.Has(Topic(pipeline)) {
			t.Errorf("the topic was made again, %v", err)
		}
		r, err := newKafkaStore(t, seed, pipeline).Acquire(ctx) // a start makes it
		wantEnd(t, r, err, 0)
		_, err = running.Acquire(ctx)
		wantCode(t, err, fault.CheckpointLost)
	})
}

// TestForget: the record is gone for everybody, the topic stays, and only who has acquired may do it.
func TestForget(t *testing.T) {
	onBothBrokers(t, func(t *testing.T, seed, pipeline string) {
		ctx := t.Context()
		s := savedBy(t, seed, pipeline, "one")
		other := newKafkaStore(t, seed, pipeline)
		if err := other.Forget(ctx); err == nil {
			t.Error("forgotten without a claim")
		}
		noError(t, s.Forget(ctx))
		r, err := other.Load(ctx)
		wantEnd(t, r, err, 0)
		r, err = s.Acquire(ctx)
		wantEnd(t, r, err, 0)
		noError(t, s.Save(ctx, recordAt(30)))
	})
}

// TestUnreadableIsReplaced: a record that cannot be read is refused, and the claim is held all the same.
func TestUnreadableIsReplaced(t *testing.T) {
	onBothBrokers(t, func(t *testing.T, seed, pipeline string) {
		ctx := t.Context()
		for value, code := range map[string]fault.Code{"hello": fault.CheckpointInvalid, `{"v":99}`: fault.CheckpointNewer} {
			s := savedBy(t, seed, pipeline, "one")
			noError(t, s.write(ctx, "somebody", []byte(value)))
			next := newKafkaStore(t, seed, pipeline)
			_, err := next.Acquire(ctx)
			wantCode(t, err, code)
			if !strings.Contains(fault.Of(err).Hint, "walferry slot adopt") {
				t.Errorf("the hint %q does not name the command", fault.Of(err).Hint)
			}
			noError(t, next.Save(ctx, recordAt(40)))
			r, err := next.Load(ctx)
			wantEnd(t, r, err, 40)
		}
	})
}

// TestFault51_ACLs names on a real broker the ACL that is missing for each step, before and in mid-run.
func TestFault51_ACLs(t *testing.T) {
	t.Parallel()
	b := kafkatest.Start(t, kafkaserver.Options{ACLs: true})
	topic, id := Topic("shop"), TransactionalID("shop")
	onTopic := func(ops ...kadm.ACLOperation) *kadm.ACLBuilder {
		return kadm.NewACLs().Allow("User:" + kafkaserver.Username).AllowHosts("*").Topics(topic).
			Operations(ops...).ResourcePatternType(kadm.ACLPatternLiteral)
	}
	onID := kadm.NewACLs().Allow("User:"+kafkaserver.Username).AllowHosts("*").TransactionalIDs(id).
		Operations(kadm.OpWrite, kadm.OpDescribe).ResourcePatternType(kadm.ACLPatternLiteral)
	s := NewKafkaStore("shop", broker.Config{
		Seeds: []string{b.SASLAddr()}, ClientID: "walferry-test", TLS: broker.TLSConfig{Enabled: true, CAFile: b.CAFile()},
		SASL: broker.SASLConfig{Mechanism: "scram-sha-512", Username: kafkaserver.Username, Password: vault.Credential{Text: vault.NewSecret(kafkaserver.Password)}},
	}, nil, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { noError(t, s.Close()) })
	try := func() error {
		_, err := s.Acquire(t.Context())
		if err == nil {
			err = s.Save(t.Context(), recordAt(10))
		}
		return err
	}
	for _, step := range []struct {
		lacks string
		then  *kadm.ACLBuilder
	}{
		{"Describe", onTopic(kadm.OpDescribe, kadm.OpCreate)},
		{"DescribeConfigs", onTopic(kadm.OpDescribeConfigs)},
		{"transactional id", onID},
		{"Read", onTopic(kadm.OpRead)},
		{"Write", onTopic(kadm.OpWrite)},
	} {
		err := try()
		f := fault.Of(err)
		if f == nil || f.Code != fault.KafkaACL || f.Topic != topic || !strings.Contains(f.Hint, step.lacks) {
			t.Fatalf("without %s: %v", step.lacks, err)
		}
		b.Allow(step.then)
	}
	noError(t, try())
	b.Forbid(onTopic(kadm.OpWrite))
	wantCode(t, try(), fault.KafkaACL)
	b.Allow(onTopic(kadm.OpWrite))
	b.Forbid(onTopic(kadm.OpRead))
	wantCode(t, try(), fault.KafkaACL)
}
