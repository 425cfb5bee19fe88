package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/doctor"
)

// checkTimeout bounds each check of a diagnosis.
const checkTimeout = 10 * time.Second

// Need is a topic that a pipeline writes, and what it expects of it.
type Need struct {
	Topic string
	For   string // schema.table, or words
	// Create says that walferry makes the topic where it does not exist, with what follows.
	Create     bool
	Partitions int32
	Replicas   int16
	Config     map[string]*string
	// Checkpoint says that it holds the checkpoint: it is read as well, has one partition and is compacted.
	Checkpoint bool
}

// Plan is what a pipeline needs of the brokers.
type Plan struct {
	Needs []Need
	// TransactionalID is the id that its producers claim.
	TransactionalID string
}

// Diagnose looks at everything that a start of a pipeline needs of the brokers, and changes nothing
// there: rights are tried by requests that are checked and not carried out. Plan is called once the brokers have
// answered; it may block for as long as it takes to know the tables. What is wrong is a finding.
func Diagnose(ctx context.Context, c Config, plan func() Plan) []doctor.Finding {
	const id = "kafka_connection"
	d := &diagnosis{cfg: c}
	err := d.connect(ctx)
	if d.client != nil {
		defer d.client.Close()
	}
	p := plan()
	if err != nil {
		d.add(doctor.FromFault(id, err))
		for _, later := range []string{"kafka_topics", "kafka_acl", "topic_durability", "topic_limit", "checkpoint_topic"} {
			d.add(doctor.Skipped(later, id))
		}
		return d.found
	}
	d.ok(id, "the brokers answer")
	d.checkEncryption()
	for _, check := range []struct {
		id  string
		run func(context.Context, Plan) error
	}{{"kafka_topics", d.checkTopics}, {"kafka_acl", d.checkTransactionalID}, {"topic_durability", d.checkConfigs}} {
		one, cancel := context.WithTimeout(ctx, checkTimeout)
		err := check.run(one, p)
		cancel()
		if err != nil {
			d.add(doctor.FromFault(check.id, err))
		}
	}
	return d.found
}

// diagnosis is one run of all checks.
type diagnosis struct {
	cfg    Config
	client *kgo.Client
	// existing are the topics of the plan that are there.
	existing map[string]kmsg.MetadataResponseTopic
	found    []doctor.Finding
}

func (d *diagnosis) add(f doctor.Finding) { d.found = append(d.found, f) }

func (d *diagnosis) ok(id, format string, args ...any) {
	d.add(doctor.Finding{ID: id, Severity: doctor.OK, Found: fmt.Sprintf(format, args...)})
}

// connect makes a client and probes. Produce requests are kept at the last version that names topics,
// because a topic that does not exist has no id: see mayWrite.
func (d *diagnosis) connect(ctx context.Context) error {
	opts, err := Options(d.cfg)
	if err != nil {
		return err
	}
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(int16(kmsg.Produce), 12)
	if d.client, err = kgo.NewClient(append(opts, kgo.MaxVersions(versions))...); err != nil {
		return fault.New(fault.ConfigInvalid, "configure the Kafka connection", err, "")
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return Probe(ctx, d.client, d.cfg)
}

// checkEncryption tells of a connection that others can read or fake.
func (d *diagnosis) checkEncryption() {
	const id = "kafka_encryption"
	local := !slices.ContainsFunc(d.cfg.Seeds, func(seed string) bool {
		host, _, err := net.SplitHostPort(seed)
		ip := net.ParseIP(host)
		return err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback())
	})
	f := doctor.Finding{ID: id, Severity: doctor.Warning, Why: "whoever is in between can read every row, and change it"}
	switch {
	case d.cfg.TLS.Enabled && d.cfg.TLS.InsecureSkipVerify:
		f.Found = "the brokers' certificates are not checked"
		f.Fixes = []doctor.Fix{{Kind: doctor.Advice, Do: "Set kafka.tls.ca_file, and remove kafka.tls.insecure_skip_verify."}}
	case d.cfg.TLS.Enabled:
		d.ok(id, "connections are encrypted, certificates are checked")
		return
	case local:
		d.ok(id, "no TLS, but on this machine only")
		return
	default:
		f.Found = "no TLS, and the brokers are not on this machine"
		f.Fixes = []doctor.Fix{{Kind: doctor.Advice, Do: "Set kafka.tls.enabled: true, and a listener with TLS in kafka.brokers."}}
	}
	d.add(f)
}

// checkTopics looks for the topics, and has the brokers check those that would be made.
func (d *diagnosis) checkTopics(ctx context.Context, p Plan) error {
	const op = "look up the topics"
	req := kmsg.NewPtrMetadataRequest()
	req.IncludeTopicAuthorizedOperations = true
	for _, n := range p.Needs {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &n.Topic
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, d.client)
	if err != nil {
		return Explain(op, err, d.cfg)
	}
	d.existing = map[string]kmsg.MetadataResponseTopic{}
	errs := map[string]error{}
	for _, t := range resp.Topics {
		if t.Topic == nil {
			continue
		}
		if errs[*t.Topic] = kerr.ErrorForCode(t.ErrorCode); errs[*t.Topic] == nil {
			d.existing[*t.Topic] = t
		}
	}
	for _, n := range p.Needs {
		t, there := d.existing[n.Topic]
		switch err := errs[n.Topic]; {
		case there:
			d.judgeTopic(n, t)
		case errors.Is(err, kerr.UnknownTopicOrPartition):
			d.judgeMissing(ctx, n)
		default:
			d.add(d.lacksACL(n, err))
		}
	}
	return nil
}

// judgeTopic looks at a topic that is there.
func (d *diagnosis) judgeTopic(n Need, t kmsg.MetadataResponseTopic) {
	if n.Checkpoint && len(t.Partitions) != 1 {
		d.add(doctor.Finding{
			ID: "checkpoint_topic", Severity: doctor.Error, Subject: n.Topic, Code: fault.CheckpointTopic,
			Found: fmt.Sprintf("it has %d partitions, not one", len(t.Partitions)), Why: "there must be one newest checkpoint",
			Fixes: []doctor.Fix{{Kind: doctor.Advice, Do: "Delete the topic, if it holds no checkpoint that is needed: walferry creates it."}},
		})
	}
	if t.AuthorizedOperations != math.MinInt32 { // else the brokers do not tell
		has := kadm.DecodeACLOperations(t.AuthorizedOperations)
		for _, o := range n.operations() {
			if !slices.Contains(has, o) {
				d.add(d.lacksACL(n, fmt.Errorf("%s is not granted", o)))
				return
			}
		}
	}
	d.ok("kafka_topics", "%s (%s) exists with %d partitions", n.Topic, n.For, len(t.Partitions))
}

// operations are what the pipeline does with the topic.
func (n Need) operations() []kadm.ACLOperation {
	ops := []kadm.ACLOperation{kadm.OpWrite, kadm.OpDescribe}
	if n.Checkpoint {
		ops = append(ops, kadm.OpRead, kadm.OpDescribeConfigs)
	}
	return ops
}

// judgeMissing looks at a topic that is not there.
func (d *diagnosis) judgeMissing(ctx context.Context, n Need) {
	const id = "kafka_topics"
	if !n.Create {
		d.add(doctor.Finding{
			ID: id, Severity: doctor.Error, Subject: n.Topic, Code: fault.TopicMissing, Found: "it does not exist, and kafka.topics.create is false",
			Why: "a start does not make it", Fixes: []doctor.Fix{{Kind: doctor.Command, Do: d.createCommand(n), Undo: d.tool("kafka-topics.sh") + " --delete --topic " + n.Topic}},
		})
		return
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.ValidateOnly, req.TimeoutMillis = true, int32(checkTimeout/time.Millisecond)
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = n.Topic, n.Partitions, n.Replicas
	for name, value := range n.Config {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = name, value
		t.Configs = append(t.Configs, c)
	}
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, d.client)
	if err == nil && len(resp.Topics) == 1 {
		if err = kerr.ErrorForCode(resp.Topics[0].ErrorCode); err != nil && resp.Topics[0].ErrorMessage != nil {
			err = fmt.Errorf("%w (%s)", err, *resp.Topics[0].ErrorMessage)
		}
	}
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		d.add(d.lacksACL(n, fmt.Errorf("it does not exist and may not be created: %w", err)))
	case err != nil:
		d.add(doctor.Finding{
			ID: id, Severity: doctor.Error, Subject: n.Topic, Code: fault.TopicMissing, Found: "it does not exist, and the brokers would not make it: " + err.Error(),
			Why: "a start fails the same way", Fixes: []doctor.Fix{{Kind: doctor.Advice, Do: "Check kafka.topics.partitions, kafka.topics.replication_factor and kafka.topics.config, or create the topic yourself."}},
		})
	case !d.mayWrite(ctx, n.Topic):
		d.add(d.lacksACL(n, errors.New("it could be created, but not written")))
	default:
		d.ok(id, "%s (%s) does not exist: the first start makes it", n.Topic, n.For)
	}
}

// mayWrite asks a broker to take nothing for a topic that does not exist. It checks the right to write
// before it looks for the topic. Where the question fails the start will tell.
func (d *diagnosis) mayWrite(ctx context.Context, topic string) bool {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 1000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = topic
	t.Partitions = append(t.Partitions, kmsg.NewProduceRequestTopicPartition())
	req.Topics = append(req.Topics, t)
	for _, b := range d.client.DiscoveredBrokers() {
		answer, err := b.Request(ctx, req)
		resp, ok := answer.(*kmsg.ProduceResponse)
		if err != nil || !ok || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			continue
		}
		return !errors.Is(kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode), kerr.TopicAuthorizationFailed)
	}
	return true
}

// checkTransactionalID asks for the end of a transaction by a producer that does not exist: the
// coordinator checks the rights, and then finds no such producer. Claiming the id would shut out a running instance.
func (d *diagnosis) checkTransactionalID(ctx context.Context, p Plan) error {
	const id, op = "kafka_acl", "look at the transactional id"
	if p.TransactionalID == "" {
		return nil
	}
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = p.TransactionalID, math.MaxInt64, 0
	resp, err := req.RequestWith(ctx, d.client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	switch {
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		d.add(doctor.Finding{
			ID: id, Severity: doctor.Error, Subject: p.TransactionalID, Code: fault.KafkaACL, Found: "the transactional id may not be used",
			Why:   "checkpoints, and with exactly_once the records, are written in its transactions",
			Fixes: []doctor.Fix{d.grant("--transactional-id "+p.TransactionalID, kadm.OpWrite, kadm.OpDescribe)},
		})
	case err == nil, errors.Is(err, kerr.InvalidProducerIDMapping), errors.Is(err, kerr.InvalidProducerEpoch),
		errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidTxnState), errors.Is(err, kerr.TransactionalIDNotFound):
		d.ok(id, "the transactional id %s may be used", p.TransactionalID)
	default:
		return Explain(op, err, d.cfg)
	}
	return nil
}

// lacksACL is of a topic whose rights are not enough.
func (d *diagnosis) lacksACL(n Need, err error) doctor.Finding {
	ops := append(n.operations(), kadm.OpDescribeConfigs)
	if n.Create {
		ops = append(ops, kadm.OpCreate)
	}
	slices.Sort(ops)
	return doctor.Finding{
		ID: "kafka_acl", Severity: doctor.Error, Subject: n.Topic, Code: fault.KafkaACL, Found: err.Error(),
		Why: "records of " + n.For + " cannot be written", Fixes: []doctor.Fix{d.grant("--topic "+n.Topic, slices.Compact(ops)...)},
	}
}

// grant is the command that gives the principal rights.
func (d *diagnosis) grant(resource string, ops ...kadm.ACLOperation) doctor.Fix {
	who := principal(d.cfg)
	if d.cfg.SASL.Username == "" {
		who = "User:PRINCIPAL"
	}
	rights := " --allow-principal " + who
	for _, o := range ops {
		rights += " --operation " + operationName(o)
	}
	tool := d.tool("kafka-acls.sh")
	return doctor.Fix{
		Kind: doctor.Command, Do: tool + " --add" + rights + " " + resource, Undo: tool + " --remove" + rights + " " + resource,
		Note: "by an administrator of the brokers; Redpanda: rpk security acl create with the same",
	}
}

// operationName is how kafka-acls.sh spells it.
func operationName(o kadm.ACLOperation) string {
	return map[kadm.ACLOperation]string{
		kadm.OpRead: "Read", kadm.OpWrite: "Write", kadm.OpDescribe: "Describe", kadm.OpCreate: "Create", kadm.OpDescribeConfigs: "DescribeConfigs",
	}[o]
}

func (d *diagnosis) tool(name string) string {
	return name + " --bootstrap-server " + strings.Join(d.cfg.Seeds, ",")
}

func (d *diagnosis) createCommand(n Need) string {
	return fmt.Sprintf("%s --create --topic %s --partitions %d", d.tool("kafka-topics.sh"), n.Topic, max(n.Partitions, 1))
}

// defaultLimit is max.message.bytes as brokers come.
const defaultLimit = 1_000_000

// checkConfigs looks at what decides whether acknowledged records stay, and which fit.
func (d *diagnosis) checkConfigs(ctx context.Context, p Plan) error {
	const op = "read the topics' configurations"
	var names []string
	for _, n := range p.Needs {
		if _, there := d.existing[n.Topic]; there {
			names = append(names, n.Topic)
		}
	}
	if len(names) == 0 {
		d.add(doctor.Finding{ID: "topic_durability", Severity: doctor.Unknown, Found: "no topic exists yet"})
		return nil
	}
	described, err := kadm.NewClient(d.client).DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return Explain(op, err, d.cfg)
	}
	for _, n := range p.Needs {
		t, there := d.existing[n.Topic]
		if !there {
			continue
		}
		r, err := described.On(n.Topic, nil)
		if err == nil {
			err = r.Err
		}
		if err != nil {
			f := d.lacksACL(n, err)
			f.Severity, f.Why = doctor.Warning, "what decides about lost records and large ones cannot be read"
			if n.Checkpoint {
				f.Severity = doctor.Error
			}
			d.add(f)
			continue
		}
		config := map[string]string{}
		for _, c := range r.Configs {
			config[c.Key] = c.MaybeValue()
		}
		d.judgeDurability(n, t, config)
		d.judgeConfig(n, config)
	}
	return nil
}

// judgeDurability looks at replicas.
func (d *diagnosis) judgeDurability(n Need, t kmsg.MetadataResponseTopic, config map[string]string) {
	const id = "topic_durability"
	replicas := math.MaxInt
	for _, p := range t.Partitions {
		replicas = min(replicas, len(p.Replicas))
	}
	least, err := strconv.Atoi(config["min.insync.replicas"])
	if err != nil {
		least = 1
	}
	f := doctor.Finding{ID: id, Severity: doctor.Warning, Subject: n.Topic, Why: "a record that was acknowledged, and forgotten by Postgres, can be lost with one broker"}
	alter := func(setting string) []doctor.Fix {
		return []doctor.Fix{{Kind: doctor.Command, Do: fmt.Sprintf("%s --alter --topic %s --add-config %s", d.tool("kafka-configs.sh"), n.Topic, setting)}}
	}
	switch {
	case least > replicas:
		f.Severity, f.Code = doctor.Error, fault.KafkaUnsupported
		f.Found = fmt.Sprintf("%d replicas, and min.insync.replicas is %d", replicas, least)
		f.Why = "no record can be written with acks=all"
		f.Fixes = alter(fmt.Sprintf("min.insync.replicas=%d", replicas))
	case config["write.caching"] == "true":
		f.Found, f.Fixes = "write.caching is on: brokers acknowledge what is not on disk", alter("write.caching=false")
	case config["unclean.leader.election.enable"] == "true":
		f.Found, f.Fixes = "a broker that lacks records may become leader (unclean.leader.election.enable)", alter("unclean.leader.election.enable=false")
	case replicas == 1:
		f.Found = "one replica"
		f.Fixes = []doctor.Fix{{Kind: doctor.Advice, Do: "Give it three replicas by kafka-reassign-partitions.sh; for topics that walferry makes set kafka.topics.replication_factor: 3."}}
	case least == 1:
		f.Found, f.Fixes = fmt.Sprintf("%d replicas, but one is enough to acknowledge (min.insync.replicas is 1)", replicas), alter("min.insync.replicas=2")
	default:
		d.ok(id, "%s: %d replicas, %d of them acknowledge", n.Topic, replicas, least)
		return
	}
	d.add(f)
}

// judgeConfig looks at the largest record, and at the checkpoint's topic.
func (d *diagnosis) judgeConfig(n Need, config map[string]string) {
	if n.Checkpoint {
		if policy := config["cleanup.policy"]; policy != "compact" {
			d.add(doctor.Finding{
				ID: "checkpoint_topic", Severity: doctor.Error, Subject: n.Topic, Code: fault.CheckpointTopic, Found: fmt.Sprintf("cleanup.policy is %q", policy),
				Why: "the checkpoint would be deleted when it gets old",
				Fixes: []doctor.Fix{{
					Kind: doctor.Command, Do: fmt.Sprintf("%s --alter --topic %s --add-config cleanup.policy=compact", d.tool("kafka-configs.sh"), n.Topic),
				}},
			})
		}
		return
	}
	limit, err := strconv.Atoi(config["max.message.bytes"])
	if err != nil || limit >= defaultLimit {
		d.ok("topic_limit", "%s takes %d bytes", n.Topic, limit)
		return
	}
	d.add(doctor.Finding{
		ID: "topic_limit", Severity: doctor.Warning, Subject: n.Topic, Found: fmt.Sprintf("max.message.bytes is %d, less than brokers come with", limit),
		Why:   "a larger record stops the pipeline, or goes to the dead-letter topic",
		Fixes: []doctor.Fix{{Kind: doctor.Command, Do: fmt.Sprintf("%s --alter --topic %s --add-config max.message.bytes=1048588", d.tool("kafka-configs.sh"), n.Topic)}},
	})
}
