package fault

import "slices"

// Code names a cause. Codes are a contract: once released, a code keeps its meaning.
type Code string

// Kind says who can help.
type Kind uint8

// The kinds and the exit codes they end in.
const (
	KindInternal    Kind = iota // 70: a bug in walferry
	KindConfig                  // 2: the configuration or the command line is wrong
	KindRetry                   // 3 once walferry gives up at start; in mid-run it tries again for ever
	KindPerson                  // 3: somebody must change something first
	KindUndelivered             // 4: committed changes are still to be delivered
	KindFenced                  // 5: another instance has taken over
)

// ExitCode returns the exit code of docs/configuration.md.
func (k Kind) ExitCode() int {
	switch k {
	case KindConfig:
		return 2
	case KindRetry, KindPerson:
		return 3
	case KindUndelivered:
		return 4
	case KindFenced:
		return 5
	case KindInternal:
		return 70
	}
	return 70
}

// The codes, by the room that meets them.
const (
	ConfigInvalid       Code = "config_invalid"
	PasswordInArguments Code = "password_in_arguments"
	DeliveryUnsupported Code = "delivery_unsupported"
	SASLWithoutTLS      Code = "sasl_without_tls"

	PostgresUnavailable Code = "postgres_unavailable"
	PostgresAuth        Code = "postgres_auth"
	PostgresTLS         Code = "postgres_tls"
	PostgresPrivilege   Code = "postgres_privilege"
	PostgresSettings    Code = "postgres_settings"

	PublicationMissing    Code = "publication_missing"
	PublicationLacksTable Code = "publication_lacks_table"
	PublicationOptions    Code = "publication_options"
	TableMissing          Code = "table_missing"
	TableIdentity         Code = "table_identity"
	TableKey              Code = "table_key"

	SlotBusy     Code = "slot_busy"
	SlotMissing  Code = "slot_missing"
	SlotUnknown  Code = "slot_unknown"
	SlotLost     Code = "slot_lost"
	SlotTwoPhase Code = "slot_two_phase"
	SlotPlugin   Code = "slot_plugin"
	SlotDatabase Code = "slot_database"

	StreamInvalid  Code = "stream_invalid"
	StreamPoisoned Code = "stream_poisoned"
	StreamDiverged Code = "stream_diverged"

	CheckpointGap      Code = "checkpoint_gap"
	CheckpointAhead    Code = "checkpoint_ahead"
	CheckpointOrigin   Code = "checkpoint_origin"
	CheckpointTimeline Code = "checkpoint_timeline"
	CheckpointInvalid  Code = "checkpoint_invalid"
	CheckpointLost     Code = "checkpoint_lost"
	CheckpointNewer    Code = "checkpoint_newer"
	CheckpointOptions  Code = "checkpoint_options"
	CheckpointTopic    Code = "checkpoint_topic"
	CheckpointFile     Code = "checkpoint_file"

	KafkaUnavailable Code = "kafka_unavailable"
	KafkaAuth        Code = "kafka_auth"
	KafkaTLS         Code = "kafka_tls"
	KafkaACL         Code = "kafka_acl"
	KafkaUnsupported Code = "kafka_unsupported"

	VaultUnavailable Code = "vault_unavailable"
	VaultAuth        Code = "vault_auth"
	VaultDenied      Code = "vault_denied"
	VaultSecret      Code = "vault_secret"
	VaultTLS         Code = "vault_tls"
	VaultUnwrap      Code = "vault_unwrap"

	CredentialRotated Code = "credential_rotated" //nolint:gosec // a name

	TopicMissing    Code = "topic_missing"
	TopicName       Code = "topic_name"
	TopicCollision  Code = "topic_collision"
	TopicCompacted  Code = "topic_compacted"
	TopicPartitions Code = "topic_partitions"

	RecordTooLarge Code = "record_too_large"
	RecordRefused  Code = "record_refused"
	ValueInvalid   Code = "value_invalid"
	Undelivered    Code = "undelivered"

	Fenced     Code = "fenced"
	HTTPListen Code = "http_listen"
	Internal   Code = "internal"
)

// meaning is what every code has: the kind, and a title that stands for the cause where none is known.
type meaning struct {
	kind  Kind
	title string
}

var meanings = map[Code]meaning{
	ConfigInvalid:       {KindConfig, "the configuration is not valid"},
	PasswordInArguments: {KindConfig, "a password stands in the arguments, where every user of the machine can read it"},
	DeliveryUnsupported: {KindConfig, "the checkpoint store cannot give this delivery guarantee"},
	SASLWithoutTLS:      {KindConfig, "SASL without TLS would send credentials in the open"},

	PostgresUnavailable: {KindRetry, "Postgres cannot be reached"},
	PostgresAuth:        {KindPerson, "Postgres refused the login"},
	PostgresTLS:         {KindPerson, "the TLS connection to Postgres could not be trusted"},
	PostgresPrivilege:   {KindPerson, "the Postgres role lacks a privilege"},
	PostgresSettings:    {KindPerson, "a Postgres setting prevents logical replication"},

	PublicationMissing:    {KindPerson, "the publication does not exist"},
	PublicationLacksTable: {KindPerson, "the publication lacks a configured table"},
	PublicationOptions:    {KindPerson, "the publication leaves out changes that are asked for"},
	TableMissing:          {KindPerson, "a configured table does not exist"},
	TableIdentity:         {KindPerson, "a table has no usable replica identity: publishing it would break the application"},
	TableKey:              {KindPerson, "the configured record key cannot be supplied by a delete"},

	SlotBusy:     {KindRetry, "another walsender holds the replication slot"},
	SlotMissing:  {KindPerson, "there is a checkpoint, but the replication slot is gone"},
	SlotUnknown:  {KindPerson, "the replication slot exists, but there is no checkpoint for it"},
	SlotLost:     {KindPerson, "the replication slot was invalidated: the server has dropped WAL it needed"},
	SlotTwoPhase: {KindPerson, "the replication slot was made with two_phase"},
	SlotPlugin:   {KindPerson, "the replication slot does not use pgoutput"},
	SlotDatabase: {KindPerson, "the replication slot belongs to another database"},

	StreamInvalid:  {KindInternal, "the replication stream held bytes that cannot be decoded"},
	StreamPoisoned: {KindPerson, "the server cannot send a change"},
	StreamDiverged: {KindPerson, "the stream did not go on where it stopped"},

	CheckpointGap:      {KindPerson, "the slot was moved past the checkpoint: changes between them are not in the stream any more"},
	CheckpointAhead:    {KindPerson, "the checkpoint is ahead of the server"},
	CheckpointOrigin:   {KindPerson, "the checkpoint belongs to another server, database or slot"},
	CheckpointTimeline: {KindPerson, "the server's history left the checkpoint's timeline before the checkpoint"},
	CheckpointInvalid:  {KindPerson, "the checkpoint cannot be read"},
	CheckpointLost:     {KindPerson, "the checkpoint was there and is gone"},
	CheckpointNewer:    {KindPerson, "the checkpoint was written by a newer walferry"},
	CheckpointOptions:  {KindPerson, "publication or options changed in the middle of a transaction that was split"},
	CheckpointTopic:    {KindPerson, "the checkpoint topic is not fit for a checkpoint"},
	CheckpointFile:     {KindPerson, "the checkpoint file cannot be used"},

	KafkaUnavailable: {KindRetry, "the Kafka brokers cannot be reached"},
	KafkaAuth:        {KindPerson, "the Kafka brokers refused the credentials"},
	KafkaTLS:         {KindPerson, "the TLS connection to a Kafka broker could not be trusted"},
	KafkaACL:         {KindPerson, "the Kafka principal lacks a permission"},
	KafkaUnsupported: {KindPerson, "the Kafka cluster lacks something walferry needs"},

	VaultUnavailable: {KindRetry, "Vault cannot be reached or does not answer"},
	VaultAuth:        {KindPerson, "Vault refused the login"},
	VaultDenied:      {KindPerson, "the Vault policy does not allow a path"},
	VaultSecret:      {KindPerson, "a secret in Vault is missing or not what it should be"},
	VaultTLS:         {KindPerson, "the TLS connection to Vault could not be trusted"},
	VaultUnwrap:      {KindPerson, "a wrapping token was spent or has expired: a secret id may be stolen"},

	CredentialRotated: {KindRetry, "a connection is given up for one with a newer credential"},

	TopicMissing:    {KindPerson, "a topic does not exist and may not be created"},
	TopicName:       {KindPerson, "a topic name is not legal in Kafka"},
	TopicCollision:  {KindPerson, "two tables would share one topic"},
	TopicCompacted:  {KindPerson, "a compacted topic cannot take records without a key"},
	TopicPartitions: {KindPerson, "a topic's number of partitions has changed: keys would move to other partitions"},

	RecordTooLarge: {KindUndelivered, "a record is larger than its topic takes"},
	RecordRefused:  {KindUndelivered, "the brokers refused a record"},
	ValueInvalid:   {KindUndelivered, "a value cannot be written in the chosen format"},
	Undelivered:    {KindUndelivered, "stopped with changes that were not acknowledged"},

	Fenced:     {KindFenced, "another instance has taken over this pipeline"},
	HTTPListen: {KindPerson, "the HTTP address cannot be used"},
	Internal:   {KindInternal, "an unexpected failure: please report it"},
}

// Kind returns the code's kind; KindInternal for a code that is not known.
func (c Code) Kind() Kind { return meanings[c].kind }

// Title returns the code's meaning in one line.
func (c Code) Title() string { return meanings[c].title }

// Codes returns all codes, sorted.
func Codes() []Code {
	all := make([]Code, 0, len(meanings))
	for c := range meanings {
		all = append(all, c)
	}
	slices.Sort(all)
	return all
}
