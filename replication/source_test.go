package replication

import (
	"testing"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/pgtest"
)

func TestStartReplicationIsRefusedInWords(t *testing.T) {
	db := pgtest.Shared(t).Database()
	cfg := Config{Pipeline: "refused", URL: db.DSN()}
	for name, c := range map[string]struct {
		command string
		code    fault.Code
	}{
		"no such slot":   {`START_REPLICATION SLOT "nobody" LOGICAL 0/0 (proto_version '1', publication_names '"p"')`, fault.SlotMissing},
		"not a command":  {`START_REPLICATION`, fault.PostgresSettings},
		"not replicated": {`SELECT 1`, fault.StreamInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := cfg.connect(t.Context(), true)
			if err != nil {
				t.Fatal(err)
			}
			raw, _, err := startReplication(t.Context(), conn, c.command)
			if raw != nil || !fault.Is(err, c.code) {
				t.Fatalf("%v, %v, want %s", raw, err, c.code)
			}
		})
	}
}
