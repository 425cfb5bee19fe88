package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func record(key, value string) *kgo.Record {
	r := &kgo.Record{
		Topic: "shop.public.orders", Partition: 3, Offset: 7, Timestamp: time.Date(2026, 5, 1, 10, 0, 0, 124_000_000, time.UTC),
		Headers: []kgo.RecordHeader{{Key: "pos", Value: []byte("0000000001A2B3C8:0000000003:0")}},
	}
	if key != "" {
		r.Key = []byte(key)
	}
	if value != "" {
		r.Value = []byte(value)
	}
	return r
}

func shown(t *testing.T, set func(*printer), r *kgo.Record, beside string) string {
	t.Helper()
	var out bytes.Buffer
	p := newPrinter(&out)
	set(p)
	p.show(r, beside)
	if err := p.flush(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPrintForPeople(t *testing.T) {
	const head = `{"schema":"public","table":"orders","pos":"p",`
	for name, tc := range map[string]struct {
		value, want string
	}{
		"insert":    {head + `"op":"c","after":{"id":1}}`, `insert     public.orders  {"id":1}`},
		"update":    {head + `"op":"u","before":{"id":1},"after":{"id":2},"old_key":{"id":1},"unchanged":["a","b"]}`, `update     public.orders  {"id":2}  was {"id":1}  old key {"id":1}  unchanged a,b`},
		"delete":    {head + `"op":"d","before":{"id":1}}`, `delete     public.orders  {"id":1}`},
		"truncate":  {head + `"op":"t"}`, `truncate   public.orders in partition 3`},
		"message":   {`{"op":"m","pos":"p","prefix":"audit","content":"aGk="}`, `message    audit  hi`},
		"bytes":     {`{"op":"m","pos":"p","prefix":"audit","content":"/w=="}`, `message    audit  base64 /w==`},
		"read":      {head + `"op":"r","after":{}}`, `read       public.orders  {}`},
		"tombstone": {``, `tombstone  shop.public.orders`},
		"foreign":   {`{"a": 1}`, `record     shop.public.orders  {"a":1}`},
		"not JSON":  {"a\x1b[31mb\n", `record     shop.public.orders  a\u001b[31mb\u000a`},
		"digits":    {head + `"op":"c","after":{"n": 1.10,` + "\n" + `"m":12345678901234567890}}`, `insert     public.orders  {"n":1.10,"m":12345678901234567890}`},
		"control":   {head + `"op":"c","after":{"a":"` + "\u009b" + `"}}`, `insert     public.orders  {"a":"\u009b"}`},
	} {
		got := shown(t, func(*printer) {}, record("", tc.value), "")
		if want := "10:00:00.124  " + tc.want + "\n"; got != want {
			t.Errorf("%s:\ngot  %qwant %q", name, got, want)
		}
	}
}

func TestPrintWithKeyColourAndWidth(t *testing.T) {
	r := record(`{"id": 1}`, `{"op":"u","schema":"public","table":"orders","pos":"p","after":{"id":1}}`)
	for name, tc := range map[string]struct {
		set  func(*printer)
		want string
	}{
		"key":    {func(p *printer) { p.key = true }, `1 ms  10:00:00.124  update     public.orders  key {"id":1}  {"id":1}`},
		"colour": {func(p *printer) { p.colour = true }, "1 ms  10:00:00.124  \x1b[33mupdate   \x1b[0m  public.orders  {\"id\":1}"},
		"width":  {func(p *printer) { p.width = 50 }, `1 ms  10:00:00.124  update     public.orders  {"i…`},
		"narrow": {func(p *printer) { p.width = 10 }, `1 ms  10:00:00.124  update     public.orders…`},
	} {
		if got := shown(t, tc.set, r, "1 ms"); got != tc.want+"\n" {
			t.Errorf("%s:\ngot  %qwant %q", name, got, tc.want)
		}
	}
}

func TestPrintForPrograms(t *testing.T) {
	for name, tc := range map[string]struct {
		key, value string
		want       string
	}{
		"change":    {`{"id":1}`, `{"n": 1.10, "t": "<é>"}`, `"key":{"id":1},"value":{"n":1.10,"t":"<é>"}`},
		"tombstone": {`{"id":1}`, ``, `"key":{"id":1},"value":null`},
		"no key":    {``, `{}`, `"key":null,"value":{}`},
		"bytes":     {"\xff", "{", `"key_base64":"/w==","value_base64":"ew=="`},
	} {
		got := shown(t, func(p *printer) { p.json = true }, record(tc.key, tc.value), "never shown")
		want := `{"topic":"shop.public.orders","partition":3,"offset":7,"timestamp":"2026-05-01T10:00:00.124Z",` +
			`"headers":{"pos":"0000000001A2B3C8:0000000003:0"},` + tc.want + "}\n"
		if got != want || !json.Valid([]byte(got)) || strings.Count(got, "\n") != 1 {
			t.Errorf("%s:\ngot  %swant %s", name, got, want)
		}
	}
}
