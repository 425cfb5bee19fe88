package replication

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/walcapture"
	"github.com/walferry/walferry/replication/pgoutput"
	"github.com/walferry/walferry/sink/encode"
)

var updateFlag = flag.Bool("update", false, "rewrite the event goldens of testdata/wal from the recorded frames")

// TestGoldenEvents follows captures of real servers from the frames to the records, and compares
// these with the goldens, which people have read.
func TestGoldenEvents(t *testing.T) {
	all, err := walcapture.List("../testdata/wal")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		t.Run(c.String(), func(t *testing.T) {
			frames, err := c.Frames()
			if err != nil {
				t.Fatal(err)
			}
			got := printRecords(t, frames)
			golden := filepath.Join(c.Dir, "events.golden")
			if *updateFlag {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("other records than in %s (-want +got):\n%s", golden, diff)
			}
		})
	}
}

// printRecords prints the records that the frames make, one line each.
func printRecords(t *testing.T, frames [][]byte) string {
	t.Helper()
	cfg := Config{AllTables: true, MessagePrefixes: []string{"audit", "heartbeat", "", `a prefix with "quotes"`}}
	a := newAssembler(cfg, newScriptCatalog(t, frames), nil)
	p := recordPrinter{plans: map[*event.Table]*encode.Plan{}}
	for i, f := range frames {
		ev, err := a.frame(context.Background(), f)
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		for ; ev != nil; ev = a.pending() {
			if err := p.print(ev); err != nil {
				t.Fatalf("frame %d: %v", i, err)
			}
		}
	}
	return p.out.String()
}

// recordPrinter makes records as the sink does.
type recordPrinter struct {
	encoder encode.Encoder
	plans   map[*event.Table]*encode.Plan
	out     strings.Builder
}

func (p *recordPrinter) print(ev event.Event) error {
	switch ev := ev.(type) {
	case *event.Change:
		return p.change(ev)
	case *event.Truncate:
		plan, err := p.plan(ev.Table)
		if err != nil {
			return err
		}
		for partition := range 2 { // of a topic with two partitions
			form := plan.Truncate(partition)
			p.record(ev.Pos, partition, p.encoder.AppendTruncateKey(nil, plan), p.encoder.AppendTruncateValue(nil, ev, form))
		}
	case *event.Message:
		key, err1 := p.encoder.AppendMessageKey(nil, ev)
		value, err2 := p.encoder.AppendMessageValue(nil, ev)
		if err1 != nil || err2 != nil {
			return fmt.Errorf("message: %w, %w", err1, err2)
		}
		p.record(ev.Pos, 0, key, value)
	case *event.Begin, *event.Commit, *event.Progress: // no records
	}
	return nil
}

func (p *recordPrinter) change(ch *event.Change) error {
	plan, err := p.plan(ch.Table)
	if err != nil {
		return err
	}
	for _, form := range plan.Records(ch) {
		key, err := p.encoder.AppendKey(nil, plan, ch, form)
		var value []byte
		if err == nil {
			value, err = p.encoder.AppendValue(nil, plan, ch, form)
		}
		switch {
		case err == nil:
			p.record(ch.Pos, form.Part, key, value)
		case fault.Is(err, fault.ValueInvalid): // a pipeline stops here
			fmt.Fprintf(&p.out, "%s\t!\t%v\n", ch.Pos.AppendRecord(nil, form.Part), err)
		default:
			return err
		}
	}
	return nil
}

func (p *recordPrinter) plan(t *event.Table) (*encode.Plan, error) {
	if p.plans[t] == nil {
		plan, err := encode.NewPlan(t, nil, encode.DefaultOptions())
		if err != nil {
			return nil, err
		}
		p.plans[t] = plan
	}
	return p.plans[t], nil
}

// record prints a position, a key and a value; "-" stands for one that is null.
func (p *recordPrinter) record(pos event.Position, part int, key, value []byte) {
	for _, b := range []*[]byte{&key, &value} {
		if len(*b) == 0 {
			*b = []byte("-")
		}
	}
	fmt.Fprintf(&p.out, "%s\t%s\t%s\n", pos.AppendRecord(nil, part), key, value)
}

// scriptCatalog stands for the database's catalog: it knows the types and primary keys that the
// scripts of the captures make, by the names the stream gives.
type scriptCatalog struct {
	*fakeCatalog
	made map[string]*event.Type
}

func newScriptCatalog(t *testing.T, frames [][]byte) scriptCatalog {
	t.Helper()
	c := scriptCatalog{fakeCatalog: newFakeCatalog(), made: scriptTypes()}
	var d pgoutput.Decoder
	for _, data := range frames {
		f, err := d.DecodeFrame(data)
		if err != nil {
			t.Fatal(err)
		}
		x, ok := f.(*pgoutput.XLogData)
		if !ok {
			continue
		}
		m, err := d.Decode(x.Payload)
		if err != nil {
			t.Fatal(err)
		}
		// Only under full identity the catalog is asked for the key.
		if r, ok := m.(*pgoutput.Relation); ok && (r.Name == "by_full" || r.Name == "purchases") {
			c.keys[r.ID] = []string{"id"}
		}
	}
	return c
}

// scriptTypes are the types of the scripts whose values are not text.
func scriptTypes() map[string]*event.Type {
	builtin := builtinTypes()
	arrayOf := func(elem *event.Type) *event.Type {
		return &event.Type{Kind: event.KindArray, Elem: elem, Delim: ','}
	}
	text, int4, date := builtin[25], builtin[23], builtin[1082]
	hstore := &event.Type{Kind: event.KindHstore, Delim: ','}
	address := &event.Type{Kind: event.KindComposite, Delim: ',', Fields: []event.Field{
		{Name: "street", Type: text}, {Name: "zip", Type: int4}, {Name: "since", Type: date},
	}}
	return map[string]*event.Type{
		".int4":                  {Kind: event.KindDomain, Elem: int4, Delim: ','}, // shop.cents: the stream names the base type of a domain
		"shop._cents":            arrayOf(int4),
		"shop._mood":             arrayOf(text),
		"Schéma.mit Punkt._Möod": arrayOf(text),
		"shop.address":           address,
		"shop._address":          arrayOf(address),
		"public.hstore":          hstore,
		"public._hstore":         arrayOf(hstore),
	}
}

func (c scriptCatalog) typeOf(ctx context.Context, oid uint32) (*event.Type, error) {
	if t := c.made[c.names[oid]]; t != nil {
		return t, nil
	}
	return c.fakeCatalog.typeOf(ctx, oid)
}
