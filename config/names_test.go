package config

import (
	"strings"
	"testing"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/replication"
)

func TestParseTable(t *testing.T) {
	tests := []struct {
		text    string
		want    replication.TableSpec
		problem string
	}{
		{text: "public.orders", want: replication.TableSpec{Schema: "public", Name: "orders"}},
		{text: " Public . ORDERS ", want: replication.TableSpec{Schema: "public", Name: "orders"}},
		{text: `"Public"."Or.d""er"`, want: replication.TableSpec{Schema: "Public", Name: `Or.d"er`}},
		{text: `public."a*"`, want: replication.TableSpec{Schema: "public", Name: "a*"}},
		{text: "public.a$1_ü", want: replication.TableSpec{Schema: "public", Name: "a$1_ü"}},
		{text: "public.ÜBER", want: replication.TableSpec{Schema: "public", Name: "Über"}},
		{text: "inventory.*", want: replication.TableSpec{Schema: "inventory", Name: "*", Pattern: true}},
		{text: `"I"."x`, problem: "a double quote is not closed"},
		{text: "inventory.Ord*9", want: replication.TableSpec{Schema: "inventory", Name: "ord*9", Pattern: true}},
		{text: "inventory.*_2026", want: replication.TableSpec{Schema: "inventory", Name: "*_2026", Pattern: true}},
		{text: "inventory.*2026", want: replication.TableSpec{Schema: "inventory", Name: "*2026", Pattern: true}},
		{text: "orders", problem: "lacks a schema: write public.orders"},
		{text: "Orders", problem: "lacks a schema: write public.orders"},
		{text: `"Orders"`, problem: `lacks a schema: write public."Orders"`},
		{text: "ord*", problem: "lacks a schema: write public.ord*"},
		{text: "*", problem: "tables: all"},
		{text: "*.orders", problem: "a * may stand in the table's name only"},
		{text: "shop.public.orders", problem: "has 3 parts"},
		{text: "public.my-table", problem: `must be in double quotes: "my-table"`},
		{text: "public.2fa", problem: `must be in double quotes: "2fa"`},
		{text: `public.a"b"`, problem: "must be in double quotes"},
		{text: `public."a"b`, problem: "ends before the name does"},
		{text: `public."a"b"c"`, problem: "ends before the name does"},
		{text: "public.", problem: "a name is empty"},
		{text: `public.""`, problem: "a name is empty"},
		{text: "", problem: "a name is empty"},
		{text: "public." + strings.Repeat("x", 64), problem: "64 bytes long"},
		{text: "public.a b", problem: "must be in double quotes"},
		{text: "public.\"a\xff\"", problem: "not valid text"},
	}
	for _, tc := range tests {
		got, err := parseTable(tc.text)
		if tc.problem != "" {
			if err == nil || !strings.Contains(err.Error(), tc.problem) {
				t.Errorf("%s: got %+v, %v; want the problem %q", tc.text, got, err, tc.problem)
			}
			continue
		}
		if diff := compare(tc.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v %s", tc.text, err, diff)
		}
	}
}

// FuzzParseTable: no input panics, and a name that is taken reads back from its quoted form.
func FuzzParseTable(f *testing.F) {
	for _, seed := range []string{"public.orders", `"A"."b""c"`, "x.*", `"`, ".", `a."b`, "Ü.ü*"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseTable(text)
		if err != nil || got.Pattern {
			return
		}
		if got.Schema == "" || got.Name == "" {
			t.Fatalf("%q: empty name in %+v", text, got)
		}
		again, err := parseTable((&event.Table{Schema: got.Schema, Name: got.Name}).String())
		if diff := compare(got, again); err != nil || diff != "" {
			t.Errorf("%q reads back as %+v, %v", text, again, err)
		}
	})
}

func TestNearest(t *testing.T) {
	keys := []string{"brokers", "tls", "sasl", "topics", "compression", "oversize", "dead_letter_topic"}
	for word, want := range map[string]string{
		"broker": "brokers", "Brokers": "brokers", "compressoin": "compression", "deadLetterTopic": "dead_letter_topic",
		"dead-letter": "", "tsl": "tls", "zzzzzz": "", "": "", strings.Repeat("x", 1000): "",
	} {
		if got := Nearest(word, keys); got != want {
			t.Errorf("nearest %q is %q, want %q", word, got, want)
		}
	}
}

func TestExpand(t *testing.T) {
	env := environment(map[string]string{"A": "1", "EMPTY": ""})
	for text, want := range map[string]string{
		"": "", "x": "x", "${A}": "1", "a${A}b${A}": "a1b1", "$A": "$A", "$$": "$", "$${A}": "${A}", "a$": "a$",
		"${B:-d}": "d", "${EMPTY:-d}": "d", "${EMPTY}": "", "${B:-}": "", "${A:-d}": "1", "${B:-a:-b}": "a:-b", "${B:-$x}": "$x",
	} {
		if got, err := expand(text, env); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"${B}", "${", "${}", "${a-b}", "${A", "${ A}", "${:-x}"} {
		if got, err := expand(text, env); err == nil {
			t.Errorf("%s: got %q, want an error", text, got)
		}
	}
}

// FuzzConnection: what a URL says as a password is in no part of what is left, whatever else stands there.
func FuzzConnection(f *testing.F) {
	for _, seed := range [][2]string{
		{"postgres://cdc:%s@db:5432/shop", "word"}, {"postgresql://cdc@db/shop?sslmode=disable&password=%s", "wo rd"},
		{"host=db user=cdc password=%s dbname=shop", "w"}, {"host=db password='%s'", "it's"}, {"postgres://u:%s@a,b/x?host=@", "p"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, form, password string) {
		bare, secret, err := splitPassword(strings.Replace(form, "%s", password, 1))
		if err != nil {
			if secret != "" {
				t.Fatalf("an error came with the password %q of %q", secret, bare)
			}
			return
		}
		if again, left, err := splitPassword(bare); err != nil || left != "" || again != bare {
			t.Fatalf("%q still holds a password, or is none any more: %q, %v", bare, again, err)
		}
		if secret == password && len(password) > 8 && strings.Count(form, "%s") == 1 && !strings.Contains(form, password) && strings.Contains(bare, password) {
			t.Fatalf("%q is left", bare)
		}
	})
}

// FuzzExpand: text without a dollar sign stays as it is, and doubled dollar signs come back single.
func FuzzExpand(f *testing.F) {
	for _, seed := range []string{"", "$", "$$", "${A}", "${A:-b}", "${", "${ }", "$$${A}$x", "${A:-${A}}"} {
		f.Add(seed)
	}
	env := environment(map[string]string{"A": "$value}"})
	f.Fuzz(func(t *testing.T, text string) {
		got, err := expand(strings.ReplaceAll(text, "$", "$$"), env)
		if err != nil || got != text {
			t.Fatalf("%q became %q, %v", text, got, err)
		}
		if got, err := expand(text, env); err != nil && got != "" {
			t.Fatalf("an error came with %q", got)
		}
	})
}
