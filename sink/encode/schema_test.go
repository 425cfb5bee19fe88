package encode

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func eventSchema(tb testing.TB) *jsonschema.Schema {
	tb.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.AssertContent()
	s, err := c.Compile("../../docs/schema/event.schema.json")
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func validate(tb testing.TB, s *jsonschema.Schema, value string) error {
	tb.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(value))
	if err != nil {
		tb.Fatalf("%s: %v", value, err)
	}
	return s.Validate(v)
}

func TestRecordsFitTheSchema(t *testing.T) {
	s := eventSchema(t)
	for _, w := range goldenRecords(t) {
		if w.value == "null" {
			continue
		}
		if err := validate(t, s, w.value); err != nil {
			t.Errorf("%s: %s\n%v", w.name, w.value, err)
		}
	}
}

// The records of the captures (see testdata/wal) are what real servers make of the format.
func TestCapturedRecordsFitTheSchema(t *testing.T) {
	s := eventSchema(t)
	goldens, err := filepath.Glob("../../testdata/wal/*/*/events.golden")
	if err != nil || len(goldens) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, golden := range goldens {
		records, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(records)) {
			part := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
			if len(part) != 3 {
				t.Fatalf("%s: %q is no position, key and value", golden, line)
			}
			if key, value := part[1], part[2]; key != "!" && value != "-" {
				if err := validate(t, s, value); err != nil {
					t.Errorf("%s: %s\n%v", golden, value, err)
				}
			}
		}
	}
}

// TestSchemaRefuses: a schema that takes everything would show nothing.
func TestSchemaRefuses(t *testing.T) {
	s := eventSchema(t)
	const head = `"schema":"s","table":"t","pos":"0000000001A2B3C8:0000000003:0"`
	for name, value := range map[string]string{
		"no op":                     `{` + head + `,"after":{}}`,
		"another op":                `{"op":"x",` + head + `,"after":{}}`,
		"insert without after":      `{"op":"c",` + head + `}`,
		"insert with before":        `{"op":"c",` + head + `,"before":{},"after":{}}`,
		"delete with after":         `{"op":"d",` + head + `,"before":{},"after":{}}`,
		"delete without before":     `{"op":"d",` + head + `}`,
		"truncate with a row":       `{"op":"t",` + head + `,"after":{}}`,
		"message of a table":        `{"op":"m",` + head + `,"prefix":"p","content":""}`,
		"message without content":   `{"op":"m","pos":"0000000001A2B3C8:0000000003:0","prefix":"p"}`,
		"content that is no base64": `{"op":"m","pos":"0000000001A2B3C8:0000000003:0","prefix":"p","content":"?"}`,
		"position without a part":   `{"op":"c","schema":"s","table":"t","pos":"0000000001A2B3C8:0000000003","after":{}}`,
		"time of five digits":       `{"op":"c",` + head + `,"ts":"2026-05-01T10:00:00.12400Z","after":{}}`,
		"member that is not known":  `{"op":"c",` + head + `,"after":{},"more":1}`,
		"empty unchanged":           `{"op":"u",` + head + `,"after":{},"unchanged":[]}`,
		"false cascade":             `{"op":"t",` + head + `,"cascade":false}`,
		"no object":                 `[]`,
	} {
		if validate(t, s, value) == nil {
			t.Errorf("%s: taken: %s", name, value)
		}
	}
}
