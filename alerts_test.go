package walferry_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// ruleFile is docs/alerts/walferry.rules.yml.
type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Expr, For    string
			Labels, Annotations map[string]string
		}
	}
}

// Each alert asks for metrics and labels that there are, says what is wrong and has its row in the paper;
// each error page that an alert leads to is looked for by the test of links.
func TestAlertsAreOfRealMetrics(t *testing.T) {
	var file ruleFile
	dec := yaml.NewDecoder(strings.NewReader(read(t, "docs/alerts/walferry.rules.yml")))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		t.Fatal(err)
	}
	paper := read(t, "docs/alerts/README.md")
	names := map[string]bool{}
	for _, rule := range file.Groups[0].Rules {
		names[rule.Alert] = true
		onlyReal(t, rule.Alert, rule.Expr)
		if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" || !slices.Contains([]string{"warning", "critical"}, rule.Labels["severity"]) {
			t.Errorf("%s lacks a summary, a description or a severity", rule.Alert)
		}
		if !strings.Contains(paper, "| `"+rule.Alert+"` |") {
			t.Errorf("docs/alerts/README.md lacks %s", rule.Alert)
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(Walferry\\w+)` \\|").FindAllStringSubmatch(paper, -1) {
		if !names[row[1]] {
			t.Errorf("docs/alerts/README.md has %s, the rules do not", row[1])
		}
	}
	if len(names) < 10 {
		t.Errorf("found only %d alerts", len(names))
	}
}

func TestDashboardIsOfRealMetrics(t *testing.T) {
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "docs/dashboard/walferry.json")), &board); err != nil {
		t.Fatal(err)
	}
	queries := 0
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			queries++
			onlyReal(t, p.Title, target.Expr)
		}
	}
	if queries < 10 {
		t.Errorf("found only %d queries", queries)
	}
}

var (
	queried  = regexp.MustCompile(`walferry_[a-z_]+`)
	ofSuffix = regexp.MustCompile(`_(bucket|sum|count)$`)
	asked    = regexp.MustCompile(`(walferry_[a-z_]+)\{([^}]*)\}`)
	label    = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
)

// onlyReal fails for names of metrics in a query that docs/metrics.md does not have, and for labels that a
// metric has not there. That the paper has what the code has is another test.
func onlyReal(t *testing.T, where, query string) {
	t.Helper()
	labels := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(walferry_[a-z_]+)` \\| ([^|]*) \\|").FindAllStringSubmatch(read(t, "docs/metrics.md"), -1) {
		labels[row[1]] = row[2]
	}
	plain := func(name string) string {
		if cut := ofSuffix.ReplaceAllString(name, ""); labels[cut] == "histogram" {
			return cut
		}
		return name
	}
	for _, name := range queried.FindAllString(query, -1) {
		if labels[plain(name)] == "" {
			t.Errorf("%s asks for %s, which there is not", where, name)
		}
	}
	for _, m := range asked.FindAllStringSubmatch(query, -1) {
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "pipeline" && !strings.Contains(labels[plain(m[1])], "`"+l[1]+"`") {
				t.Errorf("%s asks %s for the label %s, which it has not", where, m[1], l[1])
			}
		}
	}
}
