package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/term"
)

// printer shows records, one line each. Lines gather until flush.
type printer struct {
	w      *bufio.Writer
	colour bool
	// json makes lines for programs; otherwise key adds the record's key to lines for people.
	json, key bool
	// width cuts lines for people, where it is above zero.
	width int
}

func newPrinter(w io.Writer) *printer {
	return &printer{w: bufio.NewWriter(w), colour: colourful(w)}
}

// colourful tells whether w is a terminal whose user did not ask for NO_COLOR (no-color.org).
func colourful(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// terminalWidth is the number of columns of w, 0 where it is no terminal.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

func (p *printer) flush() error {
	if err := p.w.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// show prints one record. Beside stands at the beginning of a line for people.
func (p *printer) show(r *kgo.Record, beside string) {
	if p.json {
		p.printJSON(r)
		return
	}
	e, ok := parseEnvelope(r)
	if !ok {
		p.line(r, beside, "record", r.Topic, clean(compact(r.Value)))
		return
	}
	p.line(r, beside, e.word(), e.subject(r), clean(e.detail()))
}

// line writes the parts of a line for people: when, what, of what, and the rest.
func (p *printer) line(r *kgo.Record, beside, what, subject, rest string) {
	if beside != "" {
		beside += "  "
	}
	beside += r.Timestamp.UTC().Format("15:04:05.000") + "  "
	rest = "  " + rest
	if p.key {
		rest = "  key " + clean(compact(r.Key)) + rest
	}
	what, subject = fmt.Sprintf("%-9s", what), clean(subject)
	if p.width > 0 {
		rest = cut(rest, p.width-utf8.RuneCountInString(beside+what+subject)-2)
	}
	fmt.Fprintf(p.w, "%s%s  %s%s\n", beside, p.paint(what), subject, strings.TrimRight(rest, " "))
}

// cut shortens s to n characters, the last of which then says so.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:max(0, n-1)]) + "…"
}

// words are what an operation is called, and its colour on a terminal.
var words = map[string]struct{ word, colour string }{
	"c": {"insert", "32"},
	"u": {"update", "33"},
	"d": {"delete", "31"},
	"t": {"truncate", "35"},
	"m": {"message", "36"},
	"r": {"read", "34"},
	"":  {"tombstone", "2"},
}

// paint gives a padded word its colour.
func (p *printer) paint(what string) string {
	if !p.colour {
		return what
	}
	for _, w := range words {
		if w.word == strings.TrimRight(what, " ") {
			return "\x1b[" + w.colour + "m" + what + "\x1b[0m"
		}
	}
	return what
}

// envelope is the value of docs/events.md as far as people are shown it. A tombstone has none: its
// envelope is empty.
type envelope struct {
	Op        string          `json:"op"`
	Schema    string          `json:"schema"`
	Table     string          `json:"table"`
	Pos       string          `json:"pos"`
	OldKey    json.RawMessage `json:"old_key"`
	Before    json.RawMessage `json:"before"`
	After     json.RawMessage `json:"after"`
	Unchanged []string        `json:"unchanged"`
	Prefix    string          `json:"prefix"`
	Content   []byte          `json:"content"`
}

// parseEnvelope reads a record of ours; ok is false for anything else.
func parseEnvelope(r *kgo.Record) (e envelope, ok bool) {
	if r.Value == nil {
		return e, true
	}
	if json.Unmarshal(r.Value, &e) != nil || e.Op == "" || e.Pos == "" {
		return e, false
	}
	_, ok = words[e.Op]
	return e, ok
}

func (e envelope) word() string { return words[e.Op].word }

// subject is the table, the prefix of a message, or the topic of a tombstone.
func (e envelope) subject(r *kgo.Record) string {
	switch e.Op {
	case "":
		return r.Topic
	case "m":
		return e.Prefix
	case "t":
		return fmt.Sprintf("%s.%s in partition %d", e.Schema, e.Table, r.Partition)
	default:
		return e.Schema + "." + e.Table
	}
}

// detail is what happened: the row, and what there was before.
func (e envelope) detail() string {
	var parts []string
	add := func(label string, row json.RawMessage) {
		if row != nil {
			parts = append(parts, label+compact(row))
		}
	}
	switch e.Op {
	case "d":
		add("", e.Before)
	case "m":
		parts = append(parts, content(e.Content))
	default:
		add("", e.After)
		add("was ", e.Before)
		add("old key ", e.OldKey)
	}
	if len(e.Unchanged) > 0 {
		parts = append(parts, "unchanged "+strings.Join(e.Unchanged, ","))
	}
	return strings.Join(parts, "  ")
}

// content shows a message's bytes as text where they are text.
func content(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return "base64 " + base64.StdEncoding.EncodeToString(b)
}

// compact takes line breaks out of JSON, whose digits and order stay; other text stays as it is.
func compact(b []byte) string {
	if b == nil {
		return "null"
	}
	var out bytes.Buffer
	if json.Compact(&out, b) != nil {
		return content(b)
	}
	return out.String()
}

// clean takes away what a terminal would act upon: rows may hold anything.
func clean(s string) string {
	clean := true
	for _, r := range s {
		clean = clean && unicode.IsPrint(r)
	}
	if clean {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// printed is the line of a record for programs. Key and value are embedded where they are JSON; else
// the member ending in _base64 holds the bytes.
type printed struct {
	Topic       string            `json:"topic"`
	Partition   int32             `json:"partition"`
	Offset      int64             `json:"offset"`
	Timestamp   time.Time         `json:"timestamp"`
	Headers     map[string]string `json:"headers,omitempty"`
	Key         json.RawMessage   `json:"key,omitempty"`
	KeyBase64   []byte            `json:"key_base64,omitempty"`
	Value       json.RawMessage   `json:"value,omitempty"`
	ValueBase64 []byte            `json:"value_base64,omitempty"`
}

func (p *printer) printJSON(r *kgo.Record) {
	line := printed{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UTC()}
	line.Key, line.KeyBase64 = embed(r.Key)
	line.Value, line.ValueBase64 = embed(r.Value)
	for _, h := range r.Headers {
		if line.Headers == nil {
			line.Headers = map[string]string{}
		}
		line.Headers[h.Key] = string(h.Value)
	}
	enc := json.NewEncoder(p.w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(line) // The writer keeps its error for flush; the value is made to be encodable.
}

// embed returns bytes as JSON if they are, null for none, else as bytes.
func embed(b []byte) (json.RawMessage, []byte) {
	switch {
	case b == nil:
		return json.RawMessage("null"), nil
	case json.Valid(b):
		return b, nil
	default:
		return nil, b
	}
}
