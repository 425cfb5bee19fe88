package config

import (
	"time"

	"github.com/walferry/walferry/pipeline"
)

// settings is the file as it is written: its keys, types and defaults. The tags are the keys, so
// this is the one list of them; docs/configuration.md is tested against it.
type settings struct {
	Name         string              `yaml:"name"`
	Vault        vaultSettings       `yaml:"vault"`
	Postgres     postgresSettings    `yaml:"postgres"`
	Kafka        kafkaSettings       `yaml:"kafka"`
	Delivery     string              `yaml:"delivery"`
	Transactions transactionSettings `yaml:"transactions"`
	Format       string              `yaml:"format"`
	Events       eventSettings       `yaml:"events"`
	Checkpoint   checkpointSettings  `yaml:"checkpoint"`
	StartTimeout time.Duration       `yaml:"start_timeout"`
	HTTP         httpSettings        `yaml:"http"`
	Log          logSettings         `yaml:"log"`
}

type vaultSettings struct {
	Address      string        `yaml:"address"`
	Namespace    string        `yaml:"namespace"`
	CAFile       string        `yaml:"ca_file"`
	ServerName   string        `yaml:"server_name"`
	Redirects    []string      `yaml:"redirects"`
	StartTimeout time.Duration `yaml:"start_timeout"`
	PollInterval time.Duration `yaml:"poll_interval"`
	Auth         authSettings  `yaml:"auth"`
}

type authSettings struct {
	Method          string `yaml:"method"`
	Mount           string `yaml:"mount"`
	Role            string `yaml:"role"`
	RoleID          string `yaml:"role_id"`
	SecretIDFile    string `yaml:"secret_id_file"`
	SecretIDWrapped bool   `yaml:"secret_id_wrapped"`
	Token           string `yaml:"token"`
	TokenFile       string `yaml:"token_file"`
	JWTFile         string `yaml:"jwt_file"`
	CertFile        string `yaml:"cert_file"`
	KeyFile         string `yaml:"key_file"`
}

// secretSettings name one secret in Vault, in place of a file.
type secretSettings struct {
	Path   string            `yaml:"path"`
	Fields map[string]string `yaml:"fields"`
	Params map[string]string `yaml:"params"`
}

type postgresSettings struct {
	URL          string              `yaml:"url"`
	Password     string              `yaml:"password"`
	PasswordFile string              `yaml:"password_file"`
	Vault        secretSettings      `yaml:"vault"`
	TLS          postgresTLSSettings `yaml:"tls"`
	Tables       tableList           `yaml:"tables"`
	Slot         slotSettings        `yaml:"slot"`
	Publication  publicationSettings `yaml:"publication"`
	Messages     messageSettings     `yaml:"messages"`
}

type postgresTLSSettings struct {
	Vault secretSettings `yaml:"vault"`
}

type slotSettings struct {
	Name   string `yaml:"name"`
	Create bool   `yaml:"create"`
	Adopt  bool   `yaml:"adopt"`
}

type publicationSettings struct {
	Name   string `yaml:"name"`
	Manage string `yaml:"manage"`
}

type messageSettings struct {
	Prefixes []string `yaml:"prefixes"`
}

type kafkaSettings struct {
	Brokers         []string      `yaml:"brokers"`
	TLS             tlsSettings   `yaml:"tls"`
	SASL            saslSettings  `yaml:"sasl"`
	Topics          topicSettings `yaml:"topics"`
	Compression     string        `yaml:"compression"`
	Oversize        string        `yaml:"oversize"`
	DeadLetterTopic string        `yaml:"dead_letter_topic"`
}

type tlsSettings struct {
	Enabled            bool   `yaml:"enabled"`
	CAFile             string `yaml:"ca_file"`
	CertFile           string `yaml:"cert_file"`
	KeyFile            string `yaml:"key_file"`
	ServerName         string `yaml:"server_name"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`

	Vault secretSettings `yaml:"vault"`
}

type saslSettings struct {
	Mechanism      string `yaml:"mechanism"`
	Username       string `yaml:"username"`
	Password       string `yaml:"password"`
	PasswordFile   string `yaml:"password_file"`
	AllowPlaintext bool   `yaml:"allow_plaintext"`

	Vault secretSettings `yaml:"vault"`
}

type topicSettings struct {
	Name              string            `yaml:"name"`
	Create            bool              `yaml:"create"`
	Partitions        int               `yaml:"partitions"`
	ReplicationFactor int               `yaml:"replication_factor"`
	Config            map[string]string `yaml:"config"`
}

type eventSettings struct {
	Tombstones bool     `yaml:"tombstones"`
	Numeric    string   `yaml:"numeric"`
	Int8       string   `yaml:"int8"`
	Headers    []string `yaml:"headers"`
}

type checkpointSettings struct {
	Store string `yaml:"store"`
	Path  string `yaml:"path"`
}

type httpSettings struct {
	Listen string `yaml:"listen"`
}

type transactionSettings struct {
	Interval time.Duration `yaml:"interval"`
	MaxRows  int           `yaml:"max_rows"`
	MaxBytes int           `yaml:"max_bytes"`
	MaxOpen  time.Duration `yaml:"max_open"`
}

type logSettings struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// tableList is the value of postgres.tables: the word all, or entries.
type tableList struct {
	all     bool
	entries []tableEntry
}

// tableEntry is one table as it is written. The long form has the keys of the tags; a text stands
// for Table alone.
type tableEntry struct {
	Table   string   `yaml:"table"`
	Key     []string `yaml:"key"`
	Columns []string `yaml:"columns"`
	Where   string   `yaml:"where"`
}

// defaultSettings returns what holds where nothing is said. Names that follow the pipeline's are
// empty here; build fills them in.
func defaultSettings() settings {
	return settings{
		Name:  "walferry",
		Vault: vaultSettings{StartTimeout: time.Minute, PollInterval: time.Minute},
		Postgres: postgresSettings{
			Slot:        slotSettings{Create: true},
			Publication: publicationSettings{Manage: "create"},
		},
		Kafka: kafkaSettings{
			Topics: topicSettings{
				Name:              "{name}.{schema}.{table}",
				Create:            true,
				Partitions:        6,
				ReplicationFactor: -1,
			},
			Compression: "lz4",
			Oversize:    "stop",
		},
		Delivery:     string(ExactlyOnce),
		Transactions: defaultTransactions(),
		Format:       "json",
		Events:       eventSettings{Tombstones: true, Numeric: "string", Int8: "number"},
		Checkpoint:   checkpointSettings{Store: string(StoreKafka)},
		StartTimeout: time.Minute,
		HTTP:         httpSettings{Listen: "127.0.0.1:9630"},
		Log:          logSettings{Level: "info", Format: "text"},
	}
}

func defaultTransactions() transactionSettings {
	t := pipeline.DefaultTransactions()
	return transactionSettings{Interval: t.Interval, MaxRows: int(t.MaxRows), MaxBytes: int(t.MaxBytes), MaxOpen: t.MaxOpen}
}
