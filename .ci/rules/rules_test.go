// Package rules holds the alert rules against Prometheus' own parser and engine. It is a module of its
// own, because that is most of Prometheus.
package rules

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
)

const file = "../../docs/alerts/walferry.rules.yml"

// cases are series that raise an alert after half an hour, and series that do not.
var cases = map[string]struct{ raised, quiet string }{
	"WalferryDown":            {`up{job="walferry"} 0x30`, `up{job="walferry"} 1x30`},
	"WalferryCheckFails":      {`walferry_check_failing{check="slot",code="slot_lost"} 1x30`, `walferry_check_state{check="slot",state="ok"} 1x30`},
	"WalferryLags":            {`walferry_lag_seconds{stage="acknowledged"} 0+60x30`, `walferry_lag_seconds{stage="confirmed"} 0+60x30`},
	"WalferryNotConfirmed":    {"walferry_lag_seconds{stage=\"acknowledged\"} 0x30\n  walferry_lag_seconds{stage=\"confirmed\"} 0+60x30", "walferry_lag_seconds{stage=\"acknowledged\"} 0+60x30\n  walferry_lag_seconds{stage=\"confirmed\"} 5+60x30"},
	"WalferrySlotNearlyLost":  {"walferry_slot_safe_wal_bytes 1000x30\n  walferry_slot_retained_bytes 2000x30", "walferry_slot_safe_wal_bytes 2000x30\n  walferry_slot_retained_bytes 1000x30"},
	"WalferrySlotLost":        {`walferry_slot_wal_status{status="lost"} 1x30`, `walferry_slot_wal_status{status="extended"} 1x30`},
	"WalferryKeepsMuchWAL":    {`walferry_slot_retained_bytes 0+1000000000x30`, `walferry_slot_retained_bytes 16000000x30`},
	"WalferryTransactionOpen": {`walferry_oldest_transaction_seconds 0+60x30`, `walferry_oldest_transaction_seconds 3x30`},
	"WalferryTablesNotRead":   {`walferry_unpublished_tables 1x30`, `walferry_unpublished_tables 0x30`},
	"WalferryReconnects":      {`walferry_reconnects_total 0+1x30`, `walferry_reconnects_total 3x30`},
	"WalferryDeadLetters":     {`walferry_dead_letters_total{topic="t"} 0+1x30`, `walferry_dead_letters_total{topic="t"} 7x30`},
	"WalferryCredentialEnds":  {`walferry_credential_expiry_seconds{credential="postgres"} 1800-60x30`, `walferry_credential_expiry_seconds{credential="postgres"} 3600x30`},
	"WalferryClockOff":        {`walferry_clock_offset_seconds -90x30`, `walferry_clock_offset_seconds 0.01x30`},
}

func TestAlerts(t *testing.T) {
	p := parser.NewParser(parser.Options{})
	groups, errs := rulefmt.ParseFile(file, false, model.UTF8Validation, p, slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if groups == nil {
		t.Fatal("no rules")
	}
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 10_000)
	tried := map[string]bool{}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			c, ok := cases[r.Alert]
			if !ok {
				t.Errorf("%s has no case", r.Alert)
			}
			tried[r.Alert] = true
			if n := raised(t, engine, r.Expr, c.raised); n != 1 {
				t.Errorf("%s: %d alerts where there should be one", r.Alert, n)
			}
			if n := raised(t, engine, r.Expr, c.quiet); n != 0 {
				t.Errorf("%s: %d alerts where all is well", r.Alert, n)
			}
		}
	}
	for name := range cases {
		if !tried[name] {
			t.Errorf("there is no alert %s", name)
		}
	}
}

// raised returns how many alerts an expression raises after half an hour of series, a sample a minute.
func raised(t *testing.T, engine *promql.Engine, expr, series string) int {
	t.Helper()
	store := promqltest.LoadedStorage(t, "load 1m\n  "+strings.TrimSpace(series)+"\n")
	defer func() { _ = store.Close() }()
	q, err := engine.NewInstantQuery(t.Context(), store, nil, expr, time.Unix(0, 0).Add(30*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	vector, err := q.Exec(t.Context()).Vector()
	if err != nil {
		t.Fatal(err)
	}
	return len(vector)
}
