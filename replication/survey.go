package replication

import (
	"context"
	"strings"
)

// Survey is what a database holds that a configuration could name.
type Survey struct {
	// Version is the server_version_num, WALLevel the setting.
	Version  int
	WALLevel string
	// Tables are those that fit the configuration, partitions within their roots, by name.
	Tables []SurveyedTable
	// Published tells whether the configured publication is there; Slot whether the slot is.
	Published, Slot bool
}

// SurveyedTable is a table as a configuration would name it.
type SurveyedTable struct {
	// Name is as postgres.tables takes it. Partitions is the number of leaves of a partitioned table.
	Name       string
	Partitions int
	// Flaw says why it cannot be captured as it is, "" where it can; Fix is the SQL that helps, "" where none does.
	Flaw, Fix string
}

// Look reads what the tables of cfg are, and whether its publication and slot exist. It changes nothing. Errors are
// *fault.Error.
func Look(ctx context.Context, cfg Config) (Survey, error) {
	var s Survey
	conn, err := cfg.connectSQL(ctx, nil)
	if err != nil {
		return s, err
	}
	defer func() { _ = hangUp(conn) }() // nothing is at stake: it only read
	err = conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, current_setting('wal_level'), "+
		"EXISTS (SELECT FROM pg_publication WHERE pubname = $1), EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $2)",
		cfg.Publication.Name, cfg.Slot.Name).Scan(&s.Version, &s.WALLevel, &s.Published, &s.Slot)
	if err != nil {
		return s, explain("look at the server", err)
	}
	all, err := listTables(ctx, conn)
	if err != nil {
		return s, err
	}
	tables, _, err := cfg.expand(all)
	if err != nil {
		return s, err
	}
	ids, err := identities(ctx, conn, tables)
	if err != nil {
		return s, err
	}
	s.Tables = surveyed(tables, ids, s.Version)
	s.Tables = append(s.Tables, cfg.notCaptured(all)...)
	return s, nil
}

// surveyed joins tables with what is wrong with them or one of their partitions.
func surveyed(tables []dbTable, ids []identity, version int) []SurveyedTable {
	root, leaves := map[uint32]uint32{}, map[uint32]int{}
	for _, id := range ids {
		root[id.oid] = id.root
		if id.oid != id.root {
			leaves[id.root]++
		}
	}
	bad := map[uint32]flaw{}
	for _, f := range flaws(ids, version, func(uint32, string) bool { return false }) {
		if _, told := bad[root[f.table.oid]]; !told {
			bad[root[f.table.oid]] = f
		}
	}
	found := make([]SurveyedTable, 0, len(tables))
	for _, t := range tables {
		s := SurveyedTable{Name: t.String(), Partitions: leaves[t.oid]}
		if f, flawed := bad[t.oid]; flawed {
			s.Flaw, s.Fix = f.reason, strings.TrimPrefix(f.sql, "-- ")
			if f.table.oid != t.oid {
				s.Flaw = f.table.String() + ": " + s.Flaw
			}
		}
		found = append(found, s)
	}
	return found
}

// notCaptured are tables that fit a pattern, and whose changes are not in the WAL.
func (c Config) notCaptured(all []dbTable) []SurveyedTable {
	var found []SurveyedTable
	for _, t := range all {
		for _, spec := range c.specs() {
			isTable := t.kind == kindTable || t.kind == kindPartitioned
			if isTable && !t.publishable() && (c.AllTables || spec.Pattern && spec.matches(t.schema, t.name)) {
				found = append(found, SurveyedTable{Name: t.String(), Flaw: t.why()})
				break
			}
		}
	}
	return found
}
