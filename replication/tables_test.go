package replication

import (
	"strings"
	"testing"

	"github.com/walferry/walferry/fault"
)

func TestExpand(t *testing.T) {
	all := []dbTable{
		{oid: 1, schema: "public", name: "orders", kind: "r", persistence: "p"},
		{oid: 2, schema: "public", name: "order_items", kind: "r", persistence: "p"},
		{oid: 3, schema: "public", name: "events", kind: "p", persistence: "p"},
		{oid: 4, schema: "public", name: "events_2026", kind: "r", persistence: "p", isPartition: true, parent: 3},
		{oid: 5, schema: "public", name: "open_orders", kind: "v", persistence: "p"},
		{oid: 6, schema: "public", name: "sums", kind: "m", persistence: "p"},
		{oid: 7, schema: "public", name: "remote", kind: "f", persistence: "p"},
		{oid: 8, schema: "public", name: "cache", kind: "r", persistence: "u"},
		{oid: 9, schema: "Shop", name: "Wörter \"x\"", kind: "r", persistence: "p"},
	}
	table := func(schema, name string) TableSpec { return TableSpec{Schema: schema, Name: name} }
	pattern := func(schema, name string) TableSpec { return TableSpec{Schema: schema, Name: name, Pattern: true} }
	for _, test := range []struct {
		name  string
		cfg   Config
		want  string // names
		empty string
		err   string // in the error or its hint
	}{
		{name: "named", cfg: Config{Tables: []TableSpec{table("public", "orders"), table("Shop", "Wörter \"x\"")}}, want: `"Shop"."Wörter ""x""", public.orders`},
		{name: "a partition by name", cfg: Config{Tables: []TableSpec{table("public", "events_2026")}}, want: "public.events_2026"},
		{name: "pattern", cfg: Config{Tables: []TableSpec{pattern("public", "*")}}, want: "public.events, public.order_items, public.orders"},
		{name: "stars", cfg: Config{Tables: []TableSpec{pattern("public", "o*d*s")}}, want: "public.order_items, public.orders"},
		{name: "named twice", cfg: Config{Tables: []TableSpec{table("public", "orders"), pattern("public", "ord*")}}, want: "public.order_items, public.orders"},
		{name: "all", cfg: Config{AllTables: true}, want: `"Shop"."Wörter ""x""", public.events, public.order_items, public.orders`},
		{name: "a pattern without a table", cfg: Config{Tables: []TableSpec{table("public", "orders"), pattern("nope", "*")}}, want: "public.orders", empty: "nope.*"},
		{name: "nothing at all", cfg: Config{Tables: []TableSpec{pattern("nope", "*")}}, err: "nope.*"},
		{name: "misspelt", cfg: Config{Tables: []TableSpec{table("public", "ordes")}}, err: "Instead of public.ordes there is public.orders."},
		{name: "wrong schema", cfg: Config{Tables: []TableSpec{table("inventory_of_the_shop", "orders")}}, err: "there is public.orders."},
		{name: "nothing like it", cfg: Config{Tables: []TableSpec{table("public", "zzzzzzzzzzzz")}}, err: "public.zzzzzzzzzzzz does not exist"},
		{name: "view", cfg: Config{Tables: []TableSpec{table("public", "open_orders")}}, err: "is a view"},
		{name: "materialized view", cfg: Config{Tables: []TableSpec{table("public", "sums")}}, err: "is a view"},
		{name: "foreign", cfg: Config{Tables: []TableSpec{table("public", "remote")}}, err: "is a foreign table"},
		{name: "unlogged", cfg: Config{Tables: []TableSpec{table("public", "cache")}}, err: "is unlogged"},
		{name: "a partition and its root", cfg: Config{Tables: []TableSpec{table("public", "events_2026"), table("public", "events")}}, err: "public.events_2026 is a partition of public.events"},
		{name: "all that is wrong at once", cfg: Config{Tables: []TableSpec{table("public", "cache"), table("public", "x")}}, err: "public.cache is unlogged: its changes are not in the WAL; public.x does not exist"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tables, empty, err := test.cfg.expand(all)
			if test.err != "" {
				if !fault.Is(err, fault.TableMissing) || !strings.Contains(err.Error()+hintOf(err), test.err) {
					t.Fatalf("got %v (%s), want %q", err, hintOf(err), test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(names(tables), ", "); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if got := strings.Join(empty, ", "); got != test.empty {
				t.Errorf("without a table: %q, want %q", got, test.empty)
			}
		})
	}
}

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"orders", "ordes", 1}, {"kitten", "sitting", 3}, {"a", "b", 1}} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("distance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

func TestParseHistory(t *testing.T) {
	got, err := parseHistory([]byte("1\t0/3000000\tno recovery target specified\n\n# comment\n2\tA/B374D848\tat 2026-05-01\n"))
	if err != nil || len(got) != 2 || got[0].Timeline != 1 || got[0].At != 0x3000000 || got[1].Timeline != 2 || got[1].At != 0xAB374D848 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"1", "x 0/1", "1 0-1", "99999999999 0/1"} {
		if _, err := parseHistory([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	if got, err := parseHistory(nil); err != nil || len(got) != 0 {
		t.Errorf("an empty history: %v, %v", got, err)
	}
}
