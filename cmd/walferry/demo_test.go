package main

import (
	"regexp"
	"testing"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/demo"
)

// TestDemo runs the whole way of a row: Postgres, pipeline, broker, consumer.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a Postgres")
	}
	code, stdout, stderr := walferry(t, "demo", "--for", "2s")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	for _, want := range []string{
		`(?m)^ +\d+\.\d ms  \S+  insert     shop\.customers  \{"id":\d+,.*"home":\{"street":`,
		`(?m)update     shop\.stock `,
		`rows written +([1-9]\d*)   in \d+ transactions; \d+ more were rolled back\nrows arrived +([1-9]\d*)   commit→consumer p50 \d+\.\d ms, p95 \d+\.\d ms\nlost 0\n$`,
	} {
		if !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("the output lacks %s:\n%s", want, stdout)
		}
	}
}

func TestVerdict(t *testing.T) {
	for _, tc := range []struct {
		sum  demo.Summary
		want int
	}{
		{demo.Summary{Written: 2, Arrived: 2}, 0},
		{demo.Summary{Written: 2, Arrived: 2, Repeated: 1}, 0},
		{demo.Summary{Written: 2, Arrived: 1, Lost: 1}, 4},
		{demo.Summary{Written: 2, Arrived: 3, Unexpected: 1}, 70},
	} {
		if got := fault.ExitCode(verdict(tc.sum)); got != tc.want {
			t.Errorf("%+v: exit code %d, want %d", tc.sum, got, tc.want)
		}
	}
}
