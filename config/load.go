package config

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/pipeline"
	"github.com/walferry/walferry/sink"
	"github.com/walferry/walferry/sink/encode"
)

// maxOpenLimit leaves time for a commit before the brokers give a transaction up.
const maxOpenLimit = 30 * time.Second

// maxFile bounds what is read of a configuration file. Ours have kilobytes.
const maxFile = 1 << 20

// Load reads the file at path, none where path is empty, puts the flags over it, checks everything
// and fills in the defaults. env looks up environment variables, as os.LookupEnv does; the PG…
// variables are read by the Postgres client itself.
//
// The error is a *fault.Error of kind KindConfig whose text lists every problem.
func Load(path string, flags Flags, env func(string) (string, bool)) (Config, error) {
	_, _, cfg, err := load(path, flags, env)
	return cfg, err
}

// load is Load that also returns what was written, and where.
func load(path string, flags Flags, env func(string) (string, bool)) (*decoder, settings, Config, error) {
	d, s, err := read(path, flags, env)
	if err != nil {
		return nil, s, Config{}, err
	}
	cfg := Config{Name: s.Name, Format: s.Format, Delivery: Delivery(s.Delivery), StartTimeout: s.StartTimeout}
	d.name(s.Name)
	cfg.Postgres = d.postgres(s)
	cfg.Kafka = d.kafka(s)
	cfg.Sink = d.sink(s, cfg)
	cfg.Vault, cfg.Secrets = d.vault(s.Vault), d.secrets
	d.delivery(s)
	cfg.Transactions = d.transactions(s.Transactions)
	d.oneOf("format", s.Format)
	cfg.Events = d.events(s.Events)
	cfg.Checkpoint = d.checkpoint(s.Checkpoint)
	cfg.HTTP = d.http(s.HTTP)
	cfg.Log = d.log(s.Log)
	if err := d.problems.fault(); err != nil {
		return nil, s, Config{}, err
	}
	return d, s, cfg, nil
}

// LoadKafka is Load for a command that only reads topics: of the Config it fills Name, Vault, Secrets,
// Kafka and Sink.Topics, and neither demands nor looks at the rest, so that it works where the secrets of
// Postgres are not at hand.
func LoadKafka(path string, flags Flags, env func(string) (string, bool)) (Config, error) {
	d, s, err := read(path, flags, env, "name", "vault", "kafka")
	if err != nil {
		return Config{}, err
	}
	d.name(s.Name)
	if flags.From.Given {
		d.connection(s.Postgres) // A password there is refused by every command.
	}
	cfg := Config{Name: s.Name, Kafka: d.kafka(s)}
	cfg.Vault, cfg.Secrets = d.vault(s.Vault), d.secrets
	cfg.Sink = sink.Config{Pipeline: s.Name, Topics: d.topics(s.Kafka.Topics)}
	if err := d.problems.fault(); err != nil {
		return Config{}, err
	}
	return cfg, nil
}

// read gathers the settings, of the named sections only if there are names. The error is of a file
// that cannot be read as one; other problems stay with the decoder.
func read(path string, flags Flags, env func(string) (string, bool), only ...string) (*decoder, settings, error) {
	d := &decoder{file: path, env: env, places: map[string]place{}, only: only}
	s := defaultSettings()
	if path == "" && flags.Config.Given {
		return nil, s, fault.New(fault.ConfigInvalid, "read configuration", fmt.Errorf("--config: the flag is empty"), "")
	}
	if path != "" {
		text, err := readFile(path)
		if err != nil {
			return nil, s, fault.New(fault.ConfigInvalid, "read configuration", err, "")
		}
		if !d.decodeFile(text, &s) {
			return nil, s, d.problems.fault()
		}
	}
	d.applyFlags(flags, &s)
	return d, s, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, readableReason(path, err)
	}
	defer func() { _ = f.Close() }() // It was only read.
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes: is it the right file?", path, maxFile)
	}
	return text, nil
}

var pipelineName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,53}$`)

func (d *decoder) name(name string) {
	if !pipelineName.MatchString(name) {
		d.reject("name", "%s is not a pipeline name: want a lower-case letter, then at most 53 lower-case letters, digits and underscores", d.shown("name", name))
	}
}

// oneOf checks a value against the closed set of its key; that of a list's item is the list's.
func (d *decoder) oneOf(key, value string) {
	list, _, _ := strings.Cut(key, "[")
	set := closedSet(list)
	if slices.Contains(set, value) {
		return
	}
	if d.rejected(key) {
		return
	}
	text := fmt.Sprintf("%s is not one of %s", d.shown(key, value), strings.Join(set, ", "))
	if len(set) == 1 {
		text = fmt.Sprintf("%s is not known; want %s", d.shown(key, value), set[0])
	}
	if best := Nearest(value, set); best != "" {
		text += fmt.Sprintf("; did you mean %q?", best)
	}
	d.reject(key, "%s", text)
}

func (d *decoder) delivery(s settings) {
	d.oneOf("delivery", s.Delivery)
	if Delivery(s.Delivery) != ExactlyOnce || Store(s.Checkpoint.Store) != StoreFile {
		return
	}
	p := problem{
		at: d.placeOf("delivery"), key: "delivery", code: fault.DeliveryUnsupported,
		text: "exactly_once needs the checkpoint in the brokers, where it is committed together with the records; checkpoint.store is file",
		hint: "Remove checkpoint.store, or use at_least_once.",
	}
	if !d.given("delivery") {
		p.at, p.key = d.placeOf("checkpoint.store"), "checkpoint.store"
		p.text = "a file cannot hold the checkpoint of delivery: exactly_once, the default, which commits it together with the records"
		p.hint = "Remove checkpoint.store, or add delivery: at_least_once."
	}
	d.add(p)
}

// transactions checks the limits of exactly_once.
func (d *decoder) transactions(s transactionSettings) pipeline.Transactions {
	if s.MaxRows < 1 {
		d.reject("transactions.max_rows", "%d is not a number of rows above zero", s.MaxRows)
	}
	if s.MaxBytes < 1<<20 {
		d.reject("transactions.max_bytes", "%d is too small; want 1048576 or more", s.MaxBytes)
	}
	if s.MaxOpen > maxOpenLimit {
		d.reject("transactions.max_open", "%s is too long: the brokers end a transaction after a minute; want %s or less", s.MaxOpen, maxOpenLimit)
	}
	if s.Interval > s.MaxOpen {
		d.reject("transactions.interval", "%s is longer than transactions.max_open", s.Interval)
	}
	return pipeline.Transactions{Interval: s.Interval, MaxRows: int64(s.MaxRows), MaxBytes: int64(s.MaxBytes), MaxOpen: s.MaxOpen}
}

func (d *decoder) events(s eventSettings) encode.Options {
	d.oneOf("events.numeric", s.Numeric)
	d.oneOf("events.int8", s.Int8)
	for i, h := range s.Headers {
		key := fmt.Sprintf("events.headers[%d]", i)
		d.oneOf(key, h)
		if slices.Contains(s.Headers[:i], h) {
			d.reject(key, "%q stands there twice", h)
		}
	}
	return encode.Options{
		Tombstones:      s.Tombstones,
		NumericAsNumber: s.Numeric == "number",
		Int8AsString:    s.Int8 == "string",
		Headers:         s.Headers,
	}
}

func (d *decoder) checkpoint(s checkpointSettings) Checkpoint {
	d.oneOf("checkpoint.store", s.Store)
	switch Store(s.Store) {
	case StoreFile:
		if s.Path == "" {
			d.reject("checkpoint.path", "is missing; the store file needs one")
		}
	case StoreKafka:
		if s.Path != "" {
			d.reject("checkpoint.path", "is of the store file only; the store is kafka")
		}
	}
	return Checkpoint{Store: Store(s.Store), Path: s.Path}
}

func (d *decoder) http(s httpSettings) HTTP {
	h := HTTP{Listen: s.Listen, Explicit: d.given("http.listen")}
	if s.Listen == "off" || s.Listen == "" {
		h.Listen = ""
		return h
	}
	if err := checkAddress(s.Listen, 0); err != nil {
		d.reject("http.listen", "%s %v; off means no endpoint", d.shown("http.listen", s.Listen), err)
	}
	return h
}

func (d *decoder) log(s logSettings) Log {
	d.oneOf("log.level", s.Level)
	d.oneOf("log.format", s.Format)
	l := Log{Format: s.Format}
	if err := l.Level.UnmarshalText([]byte(s.Level)); err != nil {
		l.Level = slog.LevelInfo // The problem is noted already.
	}
	return l
}
