package cdctest

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"testing"

	"github.com/walferry/walferry/event"
)

const parts = 3

// truth is a small history in which every kind of record occurs.
func truth() []Change {
	row := func(id, v int) json.RawMessage {
		return fmt.Appendf(nil, `{"id": %d, "v": %d, "note": "n"}`, id, v)
	}
	key := func(id int) string { return fmt.Sprintf(`{"id": %d}`, id) }
	c := func(xid uint32, seq uint64, op string, oldID, oldV, newID, newV int) Change {
		ch := Change{XID: xid, Seq: seq, Op: op, Schema: "public", Table: "accounts"}
		if oldID != 0 {
			ch.OldKey, ch.OldRow = key(oldID), row(oldID, oldV)
		}
		if newID != 0 {
			ch.NewKey, ch.NewRow = key(newID), row(newID, newV)
		}
		return ch
	}
	journal := func(xid uint32, seq uint64, v int) Change {
		return Change{XID: xid, Seq: seq, Op: "c", Schema: "public", Table: "journal", NewRow: fmt.Appendf(nil, `{"v": %d}`, v)}
	}
	return []Change{
		c(10, 1, "c", 0, 0, 1, 0),
		c(10, 2, "c", 0, 0, 2, 0),
		journal(10, 3, 1),
		c(11, 1, "u", 1, 0, 1, 1),
		c(11, 2, "u", 1, 1, 1, 2), // the same key again
		journal(11, 3, 2),
		c(12, 1, "u", 2, 0, 3, 0), // a key change
		c(12, 2, "d", 1, 2, 0, 0),
		{XID: 13, Seq: 1, Op: "t", Schema: "public", Table: "accounts"},
		c(13, 2, "c", 0, 0, 1, 7),
	}
}

// publish is what a faultless pipeline writes for the truth.
func publish(t *testing.T, truth []Change) []Record {
	t.Helper()
	var out []Record
	for _, c := range truth {
		pos := event.Position{Commit: event.LSN(0x1000 + uint64(c.XID)), Seq: c.Seq}
		add := func(part, partition int, key, op, oldKey string, old, row json.RawMessage) {
			r := Record{Topic: Topic("p", c.Schema, c.Table), Partition: int32(partition), Pos: string(pos.AppendRecord(nil, part))}
			if key != "" {
				r.Key = []byte(key)
			}
			if op != "" {
				v := map[string]any{"op": op, "schema": c.Schema, "table": c.Table, "pos": r.Pos, "xid": c.XID}
				if old != nil {
					v["before"] = old
				}
				if row != nil {
					var columns map[string]json.RawMessage
					if err := json.Unmarshal(row, &columns); err != nil {
						t.Fatal(err)
					}
					if op == "u" && columns["note"] != nil {
						delete(columns, "note")
						v["unchanged"] = []string{"note"}
					}
					v["after"] = columns
				}
				if oldKey != "" {
					v["old_key"] = json.RawMessage(oldKey)
				}
				var err error
				if r.Value, err = json.Marshal(v); err != nil {
					t.Fatal(err)
				}
			}
			out = append(out, r)
		}
		switch {
		case c.Op == "t":
			for p := range parts {
				add(p, p, `{"truncate":"public.accounts"}`, "t", "", nil, nil)
			}
		case c.Op == "d":
			add(0, home(c.OldKey), c.OldKey, "d", "", json.RawMessage(c.OldKey), nil)
			add(1, home(c.OldKey), c.OldKey, "", "", nil, nil)
		case c.OldKey != "" && c.OldKey != c.NewKey:
			add(0, home(c.OldKey), c.OldKey, "d", "", json.RawMessage(c.OldKey), nil)
			add(1, home(c.OldKey), c.OldKey, "", "", nil, nil)
			add(2, home(c.NewKey), c.NewKey, "u", c.OldKey, nil, c.NewRow)
		default:
			add(0, home(c.NewKey), c.NewKey, c.Op, "", nil, c.NewRow)
		}
	}
	return out
}

func home(key string) int {
	h := fnv.New32()
	_, _ = h.Write([]byte(key))
	return int(h.Sum32() % parts)
}

func judge(truth []Change, records []Record, repeats bool) *Validator {
	v := NewValidator(truth, "p", map[string]int{"p.public.accounts": parts, "p.public.journal": parts}, repeats)
	for _, r := range records {
		v.Note(r)
	}
	return v
}

func TestFaultless(t *testing.T) {
	v := judge(truth(), publish(t, truth()), false)
	if f := v.Failures(); len(f) != 0 || v.Missing() != 0 || v.Expected() != 15 {
		t.Fatalf("%d of %d missing:\n%s", v.Missing(), v.Expected(), strings.Join(f, "\n"))
	}
}

func TestRepeatsAllowed(t *testing.T) {
	records := publish(t, truth())
	v := judge(truth(), append(records[:9:9], records[2:]...), true)
	if f := v.Failures(); len(f) != 0 || v.Repeats() != 7 {
		t.Fatalf("%d repeats:\n%s", v.Repeats(), strings.Join(f, "\n"))
	}
}

// TestRounds judges a history in two halves: what comes again in the second half, and what goes to another
// partition than in the first, is noticed.
func TestRounds(t *testing.T) {
	all := truth()
	first, second := publish(t, all[:6]), publish(t, all[6:])
	begin := func(repeats bool) *Validator {
		v := judge(all[:6], first, repeats)
		v.Next(all[6:], map[string]int{"p.public.accounts": parts, "p.public.journal": parts})
		return v
	}
	v := begin(false)
	for _, r := range second {
		v.Note(r)
	}
	if f := v.Failures(); len(f) != 0 || v.Missing() != 0 {
		t.Fatalf("%d missing:\n%s", v.Missing(), strings.Join(f, "\n"))
	}
	for repeats, failures := range map[bool]int{false: 1, true: 0} {
		v := begin(repeats)
		for _, r := range append(first[2:3:3], second...) {
			v.Note(r)
		}
		if n := len(v.Failures()); n != failures || v.Repeats() != 1 {
			t.Errorf("repeats allowed %t: %d failures, %d repeats", repeats, n, v.Repeats())
		}
	}
	v = begin(false)
	for _, r := range second {
		r.Partition = (r.Partition + 1) % parts
		v.Note(r)
	}
	if len(v.Failures()) == 0 {
		t.Error("keys that move between rounds are not noticed")
	}
}

// TestBroken breaks each part of the promise and wants to be told.
func TestBroken(t *testing.T) {
	const insert1, insert2, journal1, update1, update1b, journal2, keyDelete, keyTombstone, keyNew, delete1, tombstone1, truncate0, insert1b = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14
	edit := func(i int, from, to string) func([]Record) []Record {
		return func(r []Record) []Record {
			r[i].Value = []byte(strings.Replace(string(r[i].Value), from, to, 1))
			return r
		}
	}
	drop := func(i int) func([]Record) []Record {
		return func(r []Record) []Record { return slices.Delete(r, i, i+1) }
	}
	swap := func(i, j int) func([]Record) []Record {
		return func(r []Record) []Record { r[i], r[j] = r[j], r[i]; return r }
	}
	cases := []struct {
		name    string
		breakIt func([]Record) []Record
		want    string
	}{
		{"lost in the middle", drop(update1), "arrived, number 1 (u of transaction 11, 1:0) did not"},
		{"lost at the end", drop(insert1b), "lost: 1 of 15"},
		{"lost tombstone", drop(tombstone1), "lost: tombstone"},
		{"lost old key of a key change", drop(keyDelete), "lost: d of"},
		{"lost without a key", drop(journal1), "lost: c of p.public.journal"},
		{"lost truncate of one partition", drop(truncate0), "lost: t of"},
		{"order of a key", swap(update1, update1b), "arrived for the first time after position"},
		{"order without a key", swap(journal1, journal2), "arrived for the first time after position"},
		{"order of transactions", swap(insert1, update1), "did not"},
		{"delete behind its tombstone", swap(delete1, tombstone1), "arrived for the first time after position"},
		{"phantom", func(r []Record) []Record {
			p := r[insert2]
			p.Pos = strings.Replace(p.Pos, ":0000000002:", ":0000000009:", 1)
			p.Value = []byte(strings.Replace(string(p.Value), ":0000000002:", ":0000000009:", 1))
			return append(r, p)
		}, "phantom"},
		{"phantom of a transaction that was rolled back", edit(insert1, `"xid":10`, `"xid":99`), "phantom"},
		{"tombstone of nothing", func(r []Record) []Record {
			return append(r, Record{Topic: r[0].Topic, Key: r[0].Key, Pos: "0000000000009999:0000000001:1"})
		}, "phantom"},
		{"repeat", func(r []Record) []Record { return append(r, r[insert1]) }, "repeated"},
		{"repeat with another value", func(r []Record) []Record {
			p := r[insert1]
			p.Value = []byte(strings.Replace(string(p.Value), `"v":0`, `"v":1`, 1))
			return append(r, p)
		}, "repeated with another key or value"},
		{"wrong value", edit(insert1, `"v":0`, `"v":1`), "after.v does not hold the new value"},
		{"null for unchanged", edit(update1, `"unchanged":["note"]`, `"unchanged":[]`), "or in neither"},
		{"changed but named as unchanged", func(r []Record) []Record {
			return edit(update1, `"after":{"id":1,"v":1},`, `"after":{"id":1},`)(edit(update1, `"unchanged":["note"]`, `"unchanged":["note","v"]`)(r))
		}, "named as unchanged but did change"},
		{"one column too many", edit(insert1, `"id":1`, `"id":1,"more":null`), "4 columns, want 3"},
		{"wrong op", edit(insert1, `"op":"c"`, `"op":"u"`), `op "u"`},
		{"wrong before", edit(delete1, `"before":{"id":1}`, `"before":{"id":1,"v":9}`), "before.v does not hold"},
		{"wrong old key", edit(keyNew, `"old_key":{"id":2}`, `"old_key":{"id":1}`), "old_key"},
		{"wrong key", func(r []Record) []Record { r[insert1].Key = []byte(`{"id":9}`); return r }, "key {"},
		{"key in two partitions", func(r []Record) []Record { r[update1].Partition = (r[update1].Partition + 1) % parts; return r }, "the key was in partition"},
		{"truncate in the wrong partition", func(r []Record) []Record { r[truncate0].Partition = 1; return r }, "the truncate of partition 0"},
		{"other topic", func(r []Record) []Record { r[insert1].Topic = r[journal1].Topic; return r }, "phantom"},
		{"two positions for one transaction", func(r []Record) []Record {
			p := &r[insert2]
			p.Pos = "00" + p.Pos[2:15] + "F" + p.Pos[16:]
			p.Value = []byte(strings.Replace(string(p.Value), `"pos":"`+publish(t, truth())[insert2].Pos, `"pos":"`+p.Pos, 1))
			return r
		}, "two commit positions"},
		{"header and value differ", edit(insert1, `:0000000001:0"`, `:0000000001:1"`), "the header says"},
		{"no header", func(r []Record) []Record { r[insert1].Pos = ""; return r }, "parse position"},
		{"no JSON", func(r []Record) []Record { r[insert1].Value = []byte("{"); return r }, "read the value"},
		{"value where a tombstone belongs", func(r []Record) []Record { r[keyTombstone].Value = r[keyDelete].Value; return r }, "phantom"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			f := strings.Join(judge(truth(), tc.breakIt(publish(t, truth())), false).Failures(), "\n")
			if !strings.Contains(f, tc.want) {
				t.Fatalf("want %q among the failures:\n%s", tc.want, f)
			}
		})
	}
}

func TestTopic(t *testing.T) {
	if got := Topic("p", "sales", "Order Lines"); got != "p.sales.Order_Lines" {
		t.Fatal(got)
	}
}
