package config

import (
	"log/slog"
	"time"

	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/pipeline"
	"github.com/walferry/walferry/replication"
	"github.com/walferry/walferry/sink"
	"github.com/walferry/walferry/sink/encode"
	"github.com/walferry/walferry/vault"
)

// Config is a whole pipeline, validated: every value can be used as it is, and no URL in it holds
// a password.
type Config struct {
	// Name is the pipeline's name; Postgres, Kafka and Sink repeat it where they need it.
	Name string
	// Vault says where Vault is. Secrets are what is read from it, none where Vault is not used; Postgres
	// and Kafka hold the same entries, which vault.New brings to life.
	Vault    vault.Config
	Secrets  []*vault.Entry
	Postgres replication.Config
	Kafka    broker.Config
	Sink     sink.Config
	Delivery Delivery
	// Transactions are the limits of exactly_once.
	Transactions pipeline.Transactions
	// Format is the format of the records; json today.
	Format     string
	Events     encode.Options
	Checkpoint Checkpoint
	// StartTimeout is how long a server that cannot be reached at start is waited for; above zero.
	StartTimeout time.Duration
	HTTP         HTTP
	Log          Log
}

// Delivery is a guarantee.
type Delivery string

// The guarantees.
const (
	ExactlyOnce Delivery = "exactly_once"  // a read_committed consumer sees each record once
	AtLeastOnce Delivery = "at_least_once" // repeats records after a crash and loses none
)

// Checkpoint says where the checkpoint is kept.
type Checkpoint struct {
	Store Store
	// Path is the file of StoreFile, else empty.
	Path string
}

// Store is a kind of checkpoint store.
type Store string

// The stores.
const (
	StoreKafka Store = "kafka" // a topic of the brokers
	StoreFile  Store = "file"  // a file of this machine
)

// HTTP is the endpoint of metrics, health and status.
type HTTP struct {
	// Listen is host:port; empty means that there is no endpoint.
	Listen string
	// Explicit tells that the user chose Listen: then it must be free, where the default may be taken.
	Explicit bool
}

// Log says what is logged, and how: Format is text or json.
type Log struct {
	Level  slog.Level
	Format string
}
