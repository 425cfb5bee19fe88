package replication

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m.Run)) }

// configOf is a pipeline of the test's database that captures the tables, given as schema.table or
// schema.pattern.
func configOf(db *pgtest.DB, tables ...string) Config {
	c := Config{
		Pipeline:    "shop",
		URL:         db.DSN(),
		Slot:        SlotConfig{Name: "walferry_" + db.Name, Create: true},
		Publication: PublicationConfig{Name: "walferry_shop", Create: true},
	}
	for _, t := range tables {
		schema, name, _ := strings.Cut(t, ".")
		c.Tables = append(c.Tables, TableSpec{Schema: schema, Name: name, Pattern: strings.Contains(name, "*")})
	}
	return c
}

// prepared runs prepare and closes what it made with the test.
func prepared(t *testing.T, c Config) *Setup {
	t.Helper()
	s, _ := preparedWithLog(t, c)
	return s
}

func preparedWithLog(t *testing.T, c Config) (*Setup, *logBuffer) {
	t.Helper()
	log := new(logBuffer)
	s, err := tryPrepare(t, c, log)
	if err != nil {
		t.Fatalf("prepare: %v\nhint: %s", err, hintOf(err))
	}
	return s, log
}

// tryPrepare runs prepare, which may fail.
func tryPrepare(t *testing.T, c Config, log *logBuffer) (*Setup, error) {
	t.Helper()
	cat := newCatalog(c)
	t.Cleanup(cat.close)
	s, err := prepare(t.Context(), c, cat, log.logger())
	if err == nil {
		t.Cleanup(func() { _ = s.Close() })
	}
	return s, err
}

// refused runs prepare, which must fail with the code, and returns the error.
func refused(t *testing.T, c Config, code fault.Code) *fault.Error {
	t.Helper()
	_, err := tryPrepare(t, c, new(logBuffer))
	if !fault.Is(err, code) {
		t.Fatalf("prepare: %v, want %s", err, code)
	}
	return fault.Of(err)
}

func hintOf(err error) string {
	if f := fault.Of(err); f != nil {
		return f.Hint
	}
	return ""
}

// statements returns the lines of a hint that are SQL.
func statements(hint string) string {
	var sql []string
	for line := range strings.Lines(hint) {
		if strings.HasPrefix(line, "ALTER ") || strings.HasPrefix(line, "CREATE ") {
			sql = append(sql, line)
		}
	}
	return strings.Join(sql, "")
}

// logBuffer keeps what was logged.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
	seen chan struct{} // gets a value for each line where somebody waits; nil for nobody
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen != nil {
		select {
		case b.seen <- struct{}{}:
		default:
		}
	}
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// await waits until a line with the text was logged.
func (b *logBuffer) await(t *testing.T, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !strings.Contains(b.String(), text) {
		select {
		case <-b.seen:
		case <-ctx.Done():
			t.Fatalf("no log line with %q in\n%s", text, b)
		}
	}
}

func newLogBuffer() *logBuffer { return &logBuffer{seen: make(chan struct{}, 1)} }

// role makes a login role that is dropped with the test, and returns the URL of the database for it.
func role(t *testing.T, db *pgtest.DB, name, options string) string {
	t.Helper()
	db.Exec("CREATE ROLE " + name + " LOGIN PASSWORD 'right' " + options)
	t.Cleanup(func() { db.Exec("DROP OWNED BY " + name + "; DROP ROLE " + name) })
	return db.DSNFor(name, "right")
}
