package broker_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/internal/doctor"
	"github.com/walferry/walferry/internal/kafkaserver"
	"github.com/walferry/walferry/internal/kafkatest"
	"github.com/walferry/walferry/vault"
)

// diagnosed returns the findings of an id that are not in order.
func diagnosed(t *testing.T, c broker.Config, p broker.Plan, id string) (bad, all []doctor.Finding) {
	t.Helper()
	all = broker.Diagnose(t.Context(), c, func() broker.Plan { return p })
	for _, f := range all {
		if f.Severity == doctor.OK {
			continue
		}
		if f.Severity != doctor.Unknown && (f.Why == "" || len(f.Fixes) == 0) {
			t.Errorf("finding without a reason or a way out: %+v", f)
		}
		if f.ID == id {
			bad = append(bad, f)
		}
	}
	return bad, all
}

// shell does what a command of a finding would do, as an administrator.
func shell(t *testing.T, admin *kadm.Client, command string) {
	t.Helper()
	args := strings.Fields(command)
	of := func(flag string) (values []string) {
		for i, a := range args[:len(args)-1] {
			if a == flag {
				values = append(values, args[i+1])
			}
		}
		return values
	}
	var err error
	switch args[0] {
	case "kafka-topics.sh":
		n, errNumber := strconv.Atoi(of("--partitions")[0])
		if errNumber != nil {
			t.Fatal(errNumber)
		}
		_, err = admin.CreateTopic(t.Context(), int32(n), -1, nil, of("--topic")[0])
	case "kafka-configs.sh":
		name, value, _ := strings.Cut(of("--add-config")[0], "=")
		_, err = admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, of("--topic")...)
	case "kafka-acls.sh":
		var ops []kadm.ACLOperation
		for _, name := range of("--operation") {
			ops = append(ops, map[string]kadm.ACLOperation{
				"Read": kadm.OpRead, "Write": kadm.OpWrite, "Describe": kadm.OpDescribe, "Create": kadm.OpCreate, "DescribeConfigs": kadm.OpDescribeConfigs,
			}[name])
		}
		acl := kadm.NewACLs().Allow(of("--allow-principal")...).AllowHosts().Operations(ops...).ResourcePatternType(kadm.ACLPatternLiteral)
		if topics := of("--topic"); len(topics) > 0 {
			acl.Topics(topics...)
		}
		if ids := of("--transactional-id"); len(ids) > 0 {
			acl.TransactionalIDs(ids...)
		}
		var made kadm.CreateACLsResults
		if made, err = admin.CreateACLs(t.Context(), acl); err == nil {
			for _, m := range made {
				if m.Err != nil {
					err = m.Err
				}
			}
		}
	default:
		t.Fatalf("not a command: %s", command)
	}
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
}

// checkpointNeed is the one of the checkpoint room, which this one does not know.
func checkpointNeed(name string) broker.Need {
	return broker.Need{
		Topic: name, For: "the checkpoint", Create: true, Partitions: 1, Replicas: -1, Checkpoint: true,
		Config: map[string]*string{"cleanup.policy": kadm.StringPtr("compact")},
	}
}

// TestFindings makes each finding true on a real broker, does what it says, and sees it gone.
func TestFindings(t *testing.T) {
	b := kafkatest.Shared(t)
	c := broker.Config{Seeds: []string{b.Addr()}, ClientID: "walferry-test"}
	for _, test := range []struct {
		name, id string
		worst    doctor.Severity
		settings map[string]string // of the topic; nil for none
		need     func(topic string) broker.Need
	}{
		{"missing, not to be made", "kafka_topics", doctor.Error, nil, func(s string) broker.Need { return broker.Need{Topic: s, For: "public.a", Partitions: 2} }},
		{"too few replicas", "topic_durability", doctor.Error, map[string]string{"min.insync.replicas": "2"}, func(s string) broker.Need { return broker.Need{Topic: s, For: "public.a"} }},
		{"unclean election", "topic_durability", doctor.Warning, map[string]string{"unclean.leader.election.enable": "true"}, func(s string) broker.Need { return broker.Need{Topic: s, For: "public.a"} }},
		{"small records", "topic_limit", doctor.Warning, map[string]string{"max.message.bytes": "2000"}, func(s string) broker.Need { return broker.Need{Topic: s, For: "public.a"} }},
		{"checkpoint that expires", "checkpoint_topic", doctor.Error, map[string]string{"cleanup.policy": "delete"}, checkpointNeed},
	} {
		t.Run(test.name, func(t *testing.T) {
			topic := "missing-" + strconv.Itoa(len(test.name))
			if test.settings != nil {
				topic = b.Topic("findings", 1)
			}
			for name, value := range test.settings {
				if _, err := b.Admin().AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, topic); err != nil {
					t.Fatal(err)
				}
			}
			p := broker.Plan{Needs: []broker.Need{test.need(topic)}}
			bad, all := diagnosed(t, c, p, test.id)
			if len(bad) != 1 || bad[0].Severity != test.worst {
				t.Fatalf("%+v", all)
			}
			shell(t, b.Admin(), bad[0].Fixes[0].Do)
			again, all := diagnosed(t, c, p, test.id)
			// One broker has one replica, which is told once nothing worse is.
			if len(again) != 0 && (test.id != "topic_durability" || again[0].Found != "one replica") {
				t.Fatalf("after %s: %+v", bad[0].Fixes[0].Do, all)
			}
		})
	}
	t.Run("not to be made like this", func(t *testing.T) {
		p := broker.Plan{Needs: []broker.Need{{Topic: "much-too-safe", For: "public.a", Create: true, Partitions: 1, Replicas: 3}}}
		if bad, all := diagnosed(t, c, p, "kafka_topics"); len(bad) != 1 {
			t.Fatalf("%+v", all)
		}
		p.Needs[0].Replicas = -1
		if bad, all := diagnosed(t, c, p, "kafka_topics"); len(bad) != 0 {
			t.Fatalf("%+v", all)
		}
	})
	t.Run("nothing was made", func(t *testing.T) {
		topics, err := b.Admin().ListTopics(t.Context())
		if err != nil || topics.Has("much-too-safe") {
			t.Errorf("%v %v", err, topics.Names())
		}
	})
}

// TestACLFindings gives a principal without rights one right after the other, as the findings say.
func TestACLFindings(t *testing.T) {
	b := kafkatest.Start(t, kafkaserver.Options{ACLs: true})
	c := broker.Config{
		Seeds: []string{b.SASLAddr()}, ClientID: "walferry-test", TLS: broker.TLSConfig{Enabled: true, CAFile: b.CAFile()},
		SASL: broker.SASLConfig{Mechanism: "scram-sha-512", Username: kafkaserver.Username, Password: vault.Credential{Text: vault.NewSecret(kafkaserver.Password)}},
	}
	there := b.Topic("there", 1)
	p := broker.Plan{
		Needs:           []broker.Need{{Topic: there, For: "public.a", Create: true}, {Topic: "to-be-made", For: "public.b", Create: true, Partitions: 1, Replicas: -1}, checkpointNeed("_walferry.shop.checkpoint")},
		TransactionalID: "walferry.shop",
	}
	bad, all := diagnosed(t, c, p, "kafka_acl")
	subjects := make([]string, 0, len(bad))
	for _, f := range bad {
		subjects = append(subjects, f.Subject)
	}
	slices.Sort(subjects)
	if want := []string{"_walferry.shop.checkpoint", there, "to-be-made", "walferry.shop"}; !slices.Equal(subjects, want) {
		t.Fatalf("found %q, want %q: %+v", subjects, want, all)
	}
	for _, f := range bad {
		shell(t, b.Admin(), f.Fixes[0].Do)
	}
	if bad, all := diagnosed(t, c, p, "kafka_acl"); len(bad) != 0 {
		t.Fatalf("after all grants: %+v", all)
	}
	// A right to create alone is not enough.
	only := kadm.NewACLs().Allow("User:"+kafkaserver.Username).AllowHosts().Operations(kadm.OpCreate, kadm.OpDescribe).ResourcePatternType(kadm.ACLPatternLiteral).Topics("not-written")
	if _, err := b.Admin().CreateACLs(t.Context(), only); err != nil {
		t.Fatal(err)
	}
	p.Needs = []broker.Need{{Topic: "not-written", For: "public.c", Create: true, Partitions: 1, Replicas: -1}}
	if bad, all := diagnosed(t, c, p, "kafka_acl"); len(bad) != 1 || !strings.Contains(bad[0].Found, "not written") {
		t.Errorf("%+v", all)
	}
}

// TestDiagnoseClaimsNothing asks while a producer is in the middle of a transaction under the id.
func TestDiagnoseClaimsNothing(t *testing.T) {
	b := kafkatest.Shared(t)
	topic := b.Topic("claimed", 1)
	running := b.Client(kgo.TransactionalID("walferry.running"), kgo.DefaultProduceTopic(topic))
	if err := running.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := running.ProduceSync(t.Context(), kgo.StringRecord("half")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	c := broker.Config{Seeds: []string{b.Addr()}, ClientID: "walferry-test"}
	p := broker.Plan{Needs: []broker.Need{{Topic: topic, For: "public.a"}}, TransactionalID: "walferry.running"}
	if bad, all := diagnosed(t, c, p, "kafka_acl"); len(bad) != 0 {
		t.Errorf("%+v", all)
	}
	if err := running.ProduceSync(t.Context(), kgo.StringRecord("whole")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := running.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Errorf("the transaction was disturbed: %v", err)
	}
}

func TestReplicasAndEncryption(t *testing.T) {
	c := kafkatest.StartFake(t, kfake.NumBrokers(3), kfake.SeedTopics(1, "three"))
	cfg := broker.Config{Seeds: c.ListenAddrs()}
	p := broker.Plan{Needs: []broker.Need{{Topic: "three", For: "public.a"}}}
	bad, all := diagnosed(t, cfg, p, "topic_durability")
	if len(bad) != 1 || !strings.Contains(bad[0].Fixes[0].Do, "min.insync.replicas=2") {
		t.Fatalf("%+v", all)
	}
	cfg.TLS = broker.TLSConfig{Enabled: true, InsecureSkipVerify: true}
	if bad, _ := diagnosed(t, cfg, p, "kafka_connection"); len(bad) != 1 {
		t.Error("TLS to a broker without TLS is in order")
	}
	to := fakeTarget(t)
	to.good.TLS.CAFile, to.good.TLS.InsecureSkipVerify = "", true
	if bad, all := diagnosed(t, to.good, broker.Plan{}, "kafka_encryption"); len(bad) != 1 {
		t.Errorf("%+v", all)
	}
}
