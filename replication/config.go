package replication

import (
	"context"
	"net"
	"time"

	"github.com/walferry/walferry/vault"
)

// Config says which changes of which database are read, and by what names.
type Config struct {
	// Pipeline is the pipeline's name; it becomes the application name at the server.
	Pipeline string
	// URL is a libpq connection URL or keyword string without a password.
	URL string
	// Password goes before one of the URL, PGPASSWORD or a passfile. Zero means: use those.
	Password vault.Credential
	// Vault gives user and password, or the password alone, in place of the above; nil where it does not.
	Vault *vault.Entry
	// TLSVault gives the client certificate with its key, the server's authority, or both; nil where
	// they are what the URL and the environment say.
	TLSVault *vault.Entry
	// Tables are what is captured. AllTables means every table of the database.
	Tables    []TableSpec
	AllTables bool
	Slot      SlotConfig
	// Publication is made with exactly the configured tables, or expected to exist.
	Publication PublicationConfig
	// MessagePrefixes are the logical messages to yield; the others are counted and dropped.
	MessagePrefixes []string
	// Dial connects to a server. Nil means TCP, or a Unix socket, with the limits that notice a peer that is gone.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// answerIn is how long a server gets for an answer; zero is the constant.
	answerIn time.Duration
}

// TableSpec is one entry of postgres.tables, parsed by SQL's rules of quoting.
type TableSpec struct {
	// Schema and Name are exact. A Name of "*" with Pattern set stands for every table of the
	// schema; in a pattern each * stands for any run of characters.
	Schema, Name string
	Pattern      bool
	// Key overrides the columns of the record key; nil means the replica identity's.
	Key []string
	// Columns are the column list of the publication, nil for all columns; Where is its row filter, an SQL
	// expression, "" for all rows. Both need Postgres 15.
	Columns []string
	Where   string
}

// SlotConfig names the replication slot.
type SlotConfig struct {
	Name string
	// Create lets start-up create the slot where neither slot nor checkpoint exist.
	Create bool
	// Adopt lets start-up go on from a slot for which there is no checkpoint.
	Adopt bool
}

// PublicationConfig names the publication.
type PublicationConfig struct {
	Name string
	// Create lets start-up create the publication where it does not exist.
	Create bool
}
