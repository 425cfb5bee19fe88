package checkpoint

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

func sampleRecord() Record {
	return Record{
		Version: 1, Origin: here, Timeline: 3, End: 0x16B374D848, Partial: event.Position{Commit: 0x16B374D900, Seq: 12},
		Fingerprint: "sha256:ab", Partitions: map[string]int32{"shop.public.orders": 6},
		Time: time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC),
	}
}

// sampleJSON is what stands in topics and files of people: a change of it is a change of the format.
const sampleJSON = `{"pipeline":"shop","v":1,"system_id":"7000","database":"shop","slot":"walferry_shop","timeline":3,` +
	`"end_lsn":"16/B374D848","partial":{"commit_lsn":"16/B374D900","seq":12},"fingerprint":"sha256:ab",` +
	`"partitions":{"shop.public.orders":6},"time":"2026-05-01T10:00:00Z"}`

func TestRecordFormat(t *testing.T) {
	data, err := encode("shop", sampleRecord())
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != sampleJSON {
		t.Errorf("encoded %s\nwant    %s", data, sampleJSON)
	}
	got, err := decode("shop", "the test", []byte(sampleJSON))
	if err != nil {
		t.Fatal(err)
	}
	if want := sampleRecord(); !reflect.DeepEqual(*got, want) {
		t.Errorf("decoded %+v, want %+v", *got, want)
	}
}

// TestDocumentedRecord reads the example of docs/guarantees.md.
func TestDocumentedRecord(t *testing.T) {
	page, err := os.ReadFile("../docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(page), "```json\n{\"pipeline\"")
	example, _, ends := strings.Cut(example, "```")
	if !found || !ends {
		t.Fatal("the page has no example of a record")
	}
	r, err := decode("shop", "the page", []byte(`{"pipeline"`+example))
	if err != nil {
		t.Fatal(err)
	}
	if r.Slot != "walferry_shop" || r.End.IsZero() || r.Partitions["shop.public.orders"] == 0 || r.Instance == "" {
		t.Errorf("the example is not understood in full: %+v", *r)
	}
}

func TestEncodeFillsVersionAndTime(t *testing.T) {
	data, err := encode("shop", Record{Intent: true, Origin: here})
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode("shop", "the test", data)
	if err != nil {
		t.Fatal(err)
	}
	if got.Version != Version || got.Time.IsZero() || !got.Intent || got.Origin != here {
		t.Errorf("decoded %+v", got)
	}
}

func TestEncodeRefusesAnIncompleteRecord(t *testing.T) {
	for name, spoil := range map[string]func(*Record){
		"no slot":          func(r *Record) { r.Slot = "" },
		"no system id":     func(r *Record) { r.SystemID = "" },
		"no position":      func(r *Record) { r.End = 0 },
		"no timeline":      func(r *Record) { r.Timeline = 0 },
		"partial is older": func(r *Record) { r.Partial.Commit = r.End - 1 },
		"no partitions":    func(r *Record) { r.Partitions["t"] = 0 },
	} {
		r := sampleRecord()
		spoil(&r)
		if _, err := encode("shop", r); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: error %v, want %s", name, err, fault.Internal)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	replace := func(old, with string) string { return strings.Replace(sampleJSON, old, with, 1) }
	for _, c := range []struct {
		name, data string
		code       fault.Code
		says       string
	}{
		{"nothing", "", fault.CheckpointInvalid, "JSON"},
		{"not JSON", "hello", fault.CheckpointInvalid, "invalid character"},
		{"cut off", sampleJSON[:len(sampleJSON)-1], fault.CheckpointInvalid, "JSON"},
		{"two records", sampleJSON + sampleJSON, fault.CheckpointInvalid, "after top-level value"},
		{"another document", `{"hello":"world"}`, fault.CheckpointInvalid, "version is 0"},
		{"JSON null", "null", fault.CheckpointInvalid, "version is 0"},
		{"a newer version", replace(`"v":1`, `"v":2`), fault.CheckpointNewer, "version 2"},
		{"a newer version of another shape", `{"v":7,"end_lsn":{"hi":1,"lo":2}}`, fault.CheckpointNewer, "version 7"},
		{"a negative version", replace(`"v":1`, `"v":-1`), fault.CheckpointInvalid, "version is -1"},
		{"another pipeline", replace(`"pipeline":"shop"`, `"pipeline":"crm"`), fault.CheckpointInvalid, `"crm"`},
		{"no position", replace(`"end_lsn":"16/B374D848",`, ``), fault.CheckpointInvalid, "end_lsn"},
		{"a bad position", replace(`16/B374D848`, `16-B374D848`), fault.CheckpointInvalid, "16-B374D848"},
		{"no slot", replace(`"slot":"walferry_shop",`, ``), fault.CheckpointInvalid, "slot"},
	} {
		_, err := decode("shop", "the test", []byte(c.data))
		if !fault.Is(err, c.code) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "in the test") {
			t.Errorf("%s: error %v, want code %s and %q", c.name, err, c.code, c.says)
		}
	}
}

// FuzzDecode must not panic, and what it takes must be a record that is written again as it was read.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(sampleJSON))
	f.Add([]byte(`{"pipeline":"shop","v":1,"intent":true,"system_id":"1","database":"d","slot":"s"}`))
	f.Add([]byte(`{"v":2}`))
	f.Add([]byte(`{"v":1,"partitions":{"":-1}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decode("shop", "the test", data)
		if err != nil {
			if c := fault.CodeOf(err); c != fault.CheckpointInvalid && c != fault.CheckpointNewer {
				t.Errorf("error %v has code %s", err, c)
			}
			return
		}
		again, err := encode("shop", *r)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		back, err := decode("shop", "the test", again)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if r.Time.IsZero() {
			r.Time = back.Time // encode has filled it in
		}
		r.Version = Version
		a, _ := json.Marshal(r)
		b, _ := json.Marshal(back)
		if string(a) != string(b) {
			t.Errorf("read %s, then wrote %s", a, b)
		}
	})
}
