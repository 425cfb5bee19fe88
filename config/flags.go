package config

import (
	"github.com/spf13/pflag"
)

// Flags are the settings that every command takes on its command line. A flag that was given, even
// as an empty text, goes before the file.
type Flags struct {
	// Config is the file; not given means that there is none.
	Config   Flag
	Name     Flag
	From     Flag
	To       Flag
	Tables   Flag
	Delivery Flag
	Format   Flag
}

// Flag is one flag's text, and whether it was given.
type Flag struct {
	Text  string
	Given bool
}

// String returns the text; with Set and Type it makes a *Flag a pflag.Value.
func (f *Flag) String() string { return f.Text }

// Set keeps the text.
func (f *Flag) Set(text string) error {
	f.Text, f.Given = text, true
	return nil
}

// Type names the flag's type.
func (f *Flag) Type() string { return "string" }

// AddFlags registers the flags with fs and returns where they will be. Every command takes all of
// them, so that one command line serves them all; a command that does not need one ignores it.
// Their values are checked by Load and LoadKafka.
func AddFlags(fs *pflag.FlagSet) *Flags {
	f := &Flags{}
	fs.Var(&f.Config, "config", "configuration `FILE`")
	fs.Var(&f.Name, "name", "`NAME` of the pipeline (default walferry)")
	fs.Var(&f.From, "from", "Postgres `URL`, without a password (use PGPASSWORD, a passfile or postgres.password_file)")
	fs.Var(&f.To, "to", "Kafka `BROKERS`, host:port with commas between; TLS is on unless all are on loopback")
	fs.Var(&f.Tables, "tables", "`TABLES` to capture: all, or schema.table and schema.* with commas between")
	fs.Var(&f.Delivery, "delivery", "`GUARANTEE`: exactly_once (default) or at_least_once")
	fs.Var(&f.Format, "format", "`FORMAT` of the records: json (default)")
	return f
}

// flagKeys says which key each flag stands for.
func (f Flags) flagKeys() []struct {
	flag Flag
	name string
	key  string
} {
	return []struct {
		flag Flag
		name string
		key  string
	}{
		{f.Name, "--name", "name"},
		{f.From, "--from", "postgres.url"},
		{f.To, "--to", "kafka.brokers"},
		{f.Tables, "--tables", "postgres.tables"},
		{f.Delivery, "--delivery", "delivery"},
		{f.Format, "--format", "format"},
	}
}
