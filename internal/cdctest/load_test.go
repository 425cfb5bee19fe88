package cdctest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m.Run)) }

// TestTruthIsTrue runs the load and holds the truth against the tables: replayed, it must give
// exactly the rows that are there. It also wants every kind of change to have occurred.
func TestTruthIsTrue(t *testing.T) {
	db := pgtest.Shared(t).Database()
	if err := Setup(t.Context(), db.DSN()); err != nil {
		t.Fatal(err)
	}
	const seed = 1
	load := Load{DSN: db.DSN(), Seed: seed, Workers: 4, Rush: 1}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := load.Run(ctx); err != nil {
		t.Fatal(err)
	}
	truth, err := ReadTruth(t.Context(), db.DSN())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, c := range truth {
		kind := c.Op
		if c.Op == "u" && c.OldKey != c.NewKey {
			kind = "key change"
		}
		seen[kind+" "+c.Table]++
	}
	t.Logf("%d transactions, %d changes: %v", load.Begun(), len(truth), seen)
	for _, kind := range []string{"c", "u", "d", "key change"} {
		for _, table := range []string{"accounts", "Order Lines", "audits"} {
			if seen[kind+" "+table] == 0 {
				t.Errorf("no %s of %s", kind, table)
			}
		}
	}
	for _, table := range []string{"public.accounts", `sales."Order Lines"`, "public.audits", "public.journal"} {
		var want []string
		for _, row := range replay(t, truth, table) {
			want = append(want, canonical(row))
		}
		got := pgtest.Value[[]string](db, fmt.Sprintf(
			`SELECT coalesce(array_agg(cdctest.event_row(to_jsonb(x), (to_jsonb(x)->>'amount')::numeric)::text), '{}') FROM %s x`, table))
		for i := range got {
			got[i] = canonical([]byte(got[i]))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s has %d rows, the truth makes %d of them", table, len(got), len(want))
		}
	}
}

// replay applies the truth of one table and returns the rows that remain.
func replay(t *testing.T, truth []Change, table string) []json.RawMessage {
	t.Helper()
	var rows []json.RawMessage
	remove := func(row json.RawMessage) {
		at := slices.IndexFunc(rows, func(r json.RawMessage) bool { return string(r) == string(row) })
		if at < 0 {
			t.Fatalf("the truth of %s removes a row that is not there: %.200s", table, row)
		}
		rows = slices.Delete(rows, at, at+1)
	}
	for _, c := range truth {
		if name := strings.ReplaceAll(table, `"`, ""); c.Schema+"."+c.Table != name {
			continue
		}
		if c.Op == "t" {
			rows = nil
		}
		if c.OldRow != nil {
			remove(c.OldRow)
		}
		if c.NewRow != nil {
			rows = append(rows, c.NewRow)
		}
	}
	return rows
}
