package oracle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/walferry/walferry/sink/encode"
)

// object is a JSON object, its values as they stand in the text but for two escapes; see spell.
type object map[string]string

func (o object) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(o)) {
		fmt.Fprintf(&b, " %s=%s", name, o[name])
	}
	return "{" + strings.TrimPrefix(b.String(), " ") + "}"
}

// pick returns the named columns.
func (o object) pick(names []string) object {
	if names == nil {
		return nil
	}
	some := object{}
	for _, name := range names {
		some[name] = o[name]
	}
	return some
}

// spell writes backspace and form feed as walferry does: the server has letters for them.
func spell(text []byte) string {
	var out []byte
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) {
			i++
			switch text[i] {
			case 'b':
				out = append(out, `\u0008`...)
			case 'f':
				out = append(out, `\u000c`...)
			default:
				out = append(out, '\\', text[i])
			}
			continue
		}
		out = append(out, text[i])
	}
	return string(out)
}

func newObject(t *testing.T, text []byte) object {
	t.Helper()
	if text == nil {
		return nil
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		t.Fatalf("%.2000s: %v", text, err)
	}
	o := object{}
	for name, value := range raw {
		o[name] = spell(value)
	}
	return o
}

// row is what the oracle says of a row.
type row struct {
	object
	jsonNull []string
}

func newRow(t *testing.T, columns, nulls []byte) row {
	t.Helper()
	r := row{object: newObject(t, columns)}
	if err := json.Unmarshal(nulls, &r.jsonNull); err != nil {
		t.Fatalf("%s: %v", nulls, err)
	}
	return r
}

// record is one record. Its maps are nil where the value has no such member.
type record struct {
	op, table     string // op is empty for a tombstone
	key           string
	part          int
	before, after object
	oldKey        object
	unchanged     []string
	jsonNull      []string
	// loose, of a record that is to come, are columns that may also be unchanged: whether the server
	// stores a value apart is its own affair.
	loose []string
}

func (r record) String() string {
	return fmt.Sprintf("%s %s key %.200s part %d\n  before %.400v\n  after %.400v\n  old_key %.200v\n  unchanged %v json_null %v",
		r.op, r.table, r.key, r.part, r.before, r.after, r.oldKey, r.unchanged, r.jsonNull)
}

// newRecord reads a record. The key is spelled as its columns are.
func newRecord(t *testing.T, key, value []byte, form encode.Record) record {
	t.Helper()
	r := record{part: form.Part}
	if key != nil {
		r.key = keyText(newObject(t, key))
		if !json.Valid(key) {
			t.Fatalf("the key %s is no JSON", key)
		}
	}
	if !form.HasValue() {
		return r
	}
	var v struct {
		Op, Schema, Table     string
		Before, After         json.RawMessage
		OldKey                json.RawMessage `json:"old_key"`
		Unchanged             []string
		JSONNull              []string `json:"json_null"`
		Pos, Ts               string
		Xid, Split            json.Number
		Cascade, RestartIdent bool
	}
	if err := json.NewDecoder(bytes.NewReader(value)).Decode(&v); err != nil {
		t.Fatalf("%.2000s: %v", value, err)
	}
	r.op, r.table = v.Op, v.Schema+"."+v.Table
	r.before, r.after, r.oldKey = newObject(t, v.Before), newObject(t, v.After), newObject(t, v.OldKey)
	r.unchanged, r.jsonNull = v.Unchanged, v.JSONNull
	return r
}

// keyText is a record key as text; the empty text stands for a null key.
func keyText(o object) string {
	if len(o) == 0 {
		return ""
	}
	return o.String()
}

// wants are the records that are to come, by table and key, each list in its order.
type wants map[string][]record

func (w *wants) add(r record) {
	if *w == nil {
		*w = wants{}
	}
	(*w)[r.key] = append((*w)[r.key], r)
}

// shape is what decides which records a change makes.
type shape struct {
	rel   string   // as SQL names the table
	table string   // schema.table, unquoted
	key   []string // nil for none
	old   []string // the columns that a delete carries; all says that these are the whole row
	all   bool
}

// insert, update and remove note what one statement did to one row. The columns of unchanged are not sent
// again; those of loose perhaps.
func (w *wants) insert(s shape, is row) {
	w.add(record{op: "c", table: s.table, key: keyText(is.pick(s.key)), after: is.object, jsonNull: is.jsonNull})
}

func (w *wants) remove(s shape, was row) {
	key := keyText(was.pick(s.key))
	w.add(record{op: "d", table: s.table, key: key, before: was.pick(s.old), jsonNull: among(was.jsonNull, s.old)})
	if s.key != nil {
		w.add(record{key: key, part: 1})
	}
}

func (w *wants) update(s shape, was, is row, unchanged, loose []string) {
	oldKey, newKey := was.pick(s.key), is.pick(s.key)
	var before object
	if s.all || !maps.Equal(was.pick(s.old), is.pick(s.old)) {
		before = was.pick(s.old)
	}
	u := record{op: "u", table: s.table, key: keyText(newKey), before: before, after: maps.Clone(is.object), jsonNull: is.jsonNull, loose: loose}
	for _, name := range unchanged {
		delete(u.after, name)
		u.unchanged = append(u.unchanged, name)
	}
	if s.key != nil && !maps.Equal(oldKey, newKey) {
		w.add(record{op: "d", table: s.table, key: keyText(oldKey), before: before, jsonNull: among(was.jsonNull, s.old)})
		w.add(record{key: keyText(oldKey), part: 1})
		u.part, u.oldKey = 2, oldKey
	}
	w.add(u)
}

// do runs a statement and notes what it did to the rows of the table: which are new, gone or other than
// before. The columns of unchanged are not sent again.
func (r *rig) do(s shape, statement string, unchanged ...string) {
	r.t.Helper()
	query := r.query(s.rel)
	was := r.after("SELECT", query)
	r.note(s, was, r.after(statement, query), unchanged)
}

func (r *rig) note(s shape, was, is map[string]row, unchanged []string) {
	r.t.Helper()
	changes := 0
	for _, uid := range slices.Sorted(maps.Keys(was)) {
		before := was[uid]
		after, there := is[uid]
		switch {
		case !there:
			r.want.remove(s, before)
		case maps.Equal(before.object, after.object):
			continue
		default:
			r.want.update(s, before, after, unchanged, nil)
		}
		changes++
	}
	for _, uid := range slices.Sorted(maps.Keys(is)) {
		if _, there := was[uid]; !there {
			r.want.insert(s, is[uid])
			changes++
		}
	}
	if changes == 0 {
		r.t.Fatal("the statement changed no row")
	}
}

func among(names, all []string) []string {
	var some []string
	for _, name := range names {
		if slices.Contains(all, name) {
			some = append(some, name)
		}
	}
	return some
}

// maxShown bounds how many differences are told.
const maxShown = 3

// check reads what was committed and compares it with what was noted, key by key; the notes are
// used up. It returns how many records were compared.
func (r *rig) check() int {
	r.t.Helper()
	return r.compare(r.read())
}

func (r *rig) compare(got []record) int {
	r.t.Helper()
	shown := 0
	differ := func(format string, args ...any) {
		r.t.Helper()
		if shown++; shown <= maxShown {
			r.t.Errorf(format, args...)
		}
	}
	for _, g := range got {
		list := r.want[g.key]
		if len(list) == 0 {
			differ("nobody asked for %v", g)
			continue
		}
		w := list[0]
		r.want[g.key] = list[1:]
		if word := difference(w, g); word != "" {
			differ("%s\n got %v\nwant %v", word, g, w)
		}
	}
	for _, list := range r.want {
		for _, w := range list {
			differ("missing: %v", w)
		}
	}
	if shown > maxShown {
		r.t.Errorf("%d differences in all", shown)
	}
	r.want = nil
	return len(got)
}

// difference says where two records differ, "" for nowhere.
func difference(want, got record) string {
	for _, name := range got.unchanged {
		if _, sent := got.after[name]; !sent && slices.Contains(want.loose, name) {
			want.after, want.unchanged = maps.Clone(want.after), append(slices.Clone(want.unchanged), name)
			delete(want.after, name)
		}
	}
	switch {
	case !slices.Equal(sorted(want.unchanged), sorted(got.unchanged)):
		return "unchanged differs"
	case want.op != got.op || want.table != got.table || want.part != got.part:
		return "another record"
	case !slices.Equal(sorted(want.jsonNull), sorted(got.jsonNull)):
		return "json_null differs"
	}
	for _, c := range []struct {
		name      string
		want, got object
	}{{"before", want.before, got.before}, {"after", want.after, got.after}, {"old_key", want.oldKey, got.oldKey}} {
		if (c.want == nil) != (c.got == nil) {
			return c.name + " is there for one"
		}
		for name := range c.want {
			if g, ok := c.got[name]; !ok || g != c.want[name] {
				return fmt.Sprintf("%s of %s:\n got %.500s\nwant %.500s", name, c.name, g, c.want[name])
			}
		}
		if len(c.got) != len(c.want) {
			return c.name + " has more columns"
		}
	}
	return ""
}

func sorted(names []string) []string {
	names = slices.Clone(names)
	sort.Strings(names)
	return names
}
