package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/pgtest"
)

// TestWordsOfTheServer holds which errors repeat what the server said.
func TestWordsOfTheServer(t *testing.T) {
	const canary = "canary-value"
	for _, tc := range []struct {
		sqlstate string
		repeated bool
	}{
		{"22P02", false}, // invalid input syntax for type integer: "…"
		{"22P05", false}, // character with byte sequence 0x… has no equivalent
		{"22021", false}, // invalid byte sequence for encoding "UTF8": 0x…
		{"22007", false}, // invalid input syntax for type date: "…"
		{"22030", false}, // duplicate JSON object key value
		{"23505", false}, // detail: Key (id)=(…) already exists.
		{"23502", false}, // detail: Failing row contains (…).
		{"22023", true},  // invalid value for parameter
		{"28P01", true},
		{"42704", true},
		{"55000", true},
		{"57P01", true},
		{"58P01", true},
		{"XX000", true},
		{"", true},
	} {
		t.Run(tc.sqlstate, func(t *testing.T) {
			pg := &pgconn.PgError{Severity: "ERROR", Code: tc.sqlstate, Message: "says " + canary, Detail: canary, Where: canary, InternalQuery: canary}
			err := explain("do it", fmt.Errorf("of a query: %w", pg))
			if got := strings.Contains(err.Error(), canary); got != tc.repeated {
				t.Errorf("repeats the server's words: %t, want %t: %v", got, tc.repeated, err)
			}
			if !strings.Contains(err.Error(), "SQLSTATE "+tc.sqlstate) || !errors.Is(err, pg) {
				t.Errorf("%v does not name its cause", err)
			}
		})
	}
}

// TestFault32_BytesThatAreNoText streams a row that the server cannot send as UTF-8: the stream ends,
// and the error does not repeat the bytes, as the server does.
func TestFault32_BytesThatAreNoText(t *testing.T) {
	for _, tc := range []struct{ encoding, sqlstate, value, words string }{
		// é and more in Latin 1, which a SQL_ASCII database takes as it comes.
		{"SQL_ASCII", "22021", `convert_from('\xe963616e617279', 'SQL_ASCII')`, "0xe9"},
		// A byte that Windows-1252 leaves undefined.
		{"WIN1252", "22P05", "chr(129)", "0x81"},
	} {
		t.Run(tc.encoding, func(t *testing.T) {
			db := pgtest.Shared(t).DatabaseIn(tc.encoding)
			db.Exec("CREATE TABLE t (id int PRIMARY KEY, note text)")
			c := configOf(db, "public.t")
			setup := prepared(t, c)
			if err := errors.Join(setup.CreateSlot(t.Context()), setup.Close()); err != nil {
				t.Fatal(err)
			}
			db.Exec("INSERT INTO t VALUES (1, " + tc.value + ")")
			s := New(c, slog.New(slog.DiscardHandler), nil)
			defer s.Close()
			if _, err := s.Start(t.Context(), func() {}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err := s.Run(ctx)
			f := fault.Of(err)
			if f == nil || f.Code != fault.StreamPoisoned {
				t.Fatalf("got %v", err)
			}
			pg := serverError(err)
			if pg == nil || pg.Code != tc.sqlstate || !strings.Contains(pg.Message, tc.words) {
				t.Fatalf("the server said %v", pg)
			}
			for _, text := range []string{err.Error(), f.Hint, fmt.Sprintf("%+v", err), slog.AnyValue(err).String()} {
				if strings.Contains(text, tc.words) {
					t.Errorf("row data in %s", text)
				}
			}
			if !strings.Contains(err.Error(), tc.sqlstate) {
				t.Errorf("%v does not name the SQLSTATE", err)
			}
			if f.LSN == 0 {
				t.Errorf("%v does not name the place; the server's context is %s", err, pg.Where)
			}
		})
	}
}
