package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// identity is what the catalog says of the replica identity of one table that is captured, or of
// one leaf partition of it: updates and deletes are logged by the leaf's own identity.
type identity struct {
	dbTable
	root   uint32 // the captured table it belongs to; its own oid where it is that one
	letter event.Identity
	// columns are those that an update or delete is sure to name, in column order; none where the
	// identity is not usable. Under IdentityFull they are all columns.
	columns []string
	// primaryKey are the columns of the primary key, usable or not; keyUsable tells whether it can
	// be the replica identity (a deferrable one cannot).
	primaryKey []string
	keyUsable  bool
	// candidate is a unique index that could be the identity, "" for none.
	candidate string
	// generated are the generated columns.
	generated []string
}

// An index can be a replica identity when it is unique, immediate, valid, whole and on plain columns
// that are not null. The columns of the constraint come before INCLUDEd ones in indkey.
const identityQuery = `
WITH RECURSIVE tree (root, oid) AS (
    SELECT o, o FROM unnest($1::oid[]) o
    UNION ALL
    SELECT t.root, i.inhrelid FROM tree t
    JOIN pg_class p ON p.oid = t.oid AND p.relkind = 'p'
    JOIN pg_inherits i ON i.inhparent = p.oid
)
SELECT t.root, c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relreplident::text,
    CASE WHEN c.relreplident = 'f' THEN every.names ELSE chosen.names END,
    pk.names, coalesce(pk.indimmediate, false), coalesce(candidate.name, ''), generated.names
FROM tree t
JOIN pg_class c ON c.oid = t.oid AND (c.relkind <> 'p' OR c.oid = t.root)
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT array_agg(a.attname::text ORDER BY a.attnum) AS names FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) every
CROSS JOIN LATERAL (
    SELECT array_agg(a.attname::text ORDER BY a.attnum) AS names FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> '') generated
LEFT JOIN LATERAL (
    SELECT i.indimmediate, array_agg(a.attname::text ORDER BY a.attnum) AS names
    FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
    WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid
    GROUP BY i.indexrelid, i.indimmediate) pk ON true
LEFT JOIN LATERAL (
    SELECT array_agg(a.attname::text ORDER BY a.attnum) AS names
    FROM pg_index i
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
    WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate
      AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
    GROUP BY i.indexrelid LIMIT 1) chosen ON true
LEFT JOIN LATERAL (
    SELECT x.relname::text AS name
    FROM pg_index i
    JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND NOT i.indisexclusion
      AND i.indpred IS NULL AND NOT EXISTS (
        SELECT FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) k
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k AND k > 0
        WHERE a.attnotnull IS NOT TRUE OR a.attgenerated <> '')
    ORDER BY i.indnkeyatts, x.relname LIMIT 1) candidate ON true
ORDER BY 3, 4`

// identities reads the replica identity of tables and of their leaf partitions.
func identities(ctx context.Context, conn *pgx.Conn, tables []dbTable) ([]identity, error) {
	oids := make([]uint32, len(tables))
	for i, t := range tables {
		oids[i] = t.oid
	}
	rows, err := conn.Query(ctx, identityQuery, oids)
	if err == nil {
		var all []identity
		all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (id identity, err error) {
			var letter string
			err = row.Scan(&id.root, &id.oid, &id.schema, &id.name, &id.kind, &id.persistence, &letter,
				&id.columns, &id.primaryKey, &id.keyUsable, &id.candidate, &id.generated)
			if letter != "" {
				id.letter = event.Identity(letter[0])
			}
			return id, err
		})
		if err == nil {
			return all, nil
		}
	}
	return nil, explain("read the replica identities", err)
}

// flaw is what makes a replica identity unusable, and the SQL that mends it.
type flaw struct {
	table  dbTable
	reason string
	sql    string
}

// flaws returns why publishing the tables would make the application's updates and deletes fail,
// or leave the record key without a value. Version is the server's, sent the generated columns that
// the publication holds.
func flaws(all []identity, version int, sent func(oid uint32, column string) bool) []flaw {
	key := map[uint32][]string{} // the key columns of captured tables
	for _, id := range all {
		if id.oid == id.root {
			key[id.root] = id.keyColumns()
		}
	}
	var found []flaw
	for _, id := range all {
		if id.kind == kindForeign || id.persistence != persistent {
			continue // not logged: see unlogged
		}
		if f, bad := id.flaw(key[id.root], version, sent); bad {
			found = append(found, f)
		}
	}
	return found
}

// keyColumns are the columns of the record key by default.
func (id identity) keyColumns() []string {
	if id.letter == event.IdentityFull {
		return id.primaryKey
	}
	return id.columns
}

// flaw tells what is wrong with one table's identity. Key are the columns of the record key.
func (id identity) flaw(key []string, version int, sent func(uint32, string) bool) (flaw, bool) {
	f := flaw{table: id.dbTable}
	if len(id.columns) == 0 && id.letter != event.IdentityFull {
		f.reason, f.sql = id.unusable(), id.mend()
		return f, true
	}
	for _, column := range id.generated {
		// From 18 on the server refuses updates of a table whose identity holds a column that is not
		// published; earlier ones leave it out, which matters where the record key needs it.
		needed := slices.Contains(key, column) || version >= 180000 && slices.Contains(id.columns, column)
		if needed && !sent(id.root, column) {
			f.reason = fmt.Sprintf("the generated column %s is part of its replica identity (%s), but not published", event.QuoteName(column), id.letter)
			f.sql = id.mendGenerated()
			return f, true
		}
	}
	for _, column := range key {
		if !slices.Contains(id.columns, column) {
			f.reason = fmt.Sprintf("it is a partition whose replica identity lacks %s, which is part of the record key of its table", event.QuoteName(column))
			f.sql = id.alter("FULL")
			if id.keyUsable && containsAll(id.primaryKey, key) {
				f.sql = id.alter("DEFAULT")
			}
			return f, true
		}
	}
	return flaw{}, false
}

// unusable says why there is no identity.
func (id identity) unusable() string {
	switch id.letter {
	case event.IdentityDefault:
		if len(id.primaryKey) > 0 {
			return "its primary key is deferrable, which a replica identity must not be"
		}
		return "it has no primary key"
	case event.IdentityIndex:
		return "the index of its replica identity is gone"
	case event.IdentityNothing:
		return "its replica identity is nothing"
	case event.IdentityFull:
	}
	return "its replica identity is " + id.letter.String()
}

// mend is the cheapest SQL that gives the table an identity.
func (id identity) mend() string {
	switch {
	case id.keyUsable && id.letter != event.IdentityDefault:
		return id.alter("DEFAULT")
	case id.candidate != "":
		return id.alter("USING INDEX " + pgx.Identifier{id.candidate}.Sanitize())
	default:
		return id.alter("FULL")
	}
}

// mendGenerated is the SQL for an identity with a generated column in it, as a comment where there is none.
func (id identity) mendGenerated() string {
	switch {
	case id.letter != event.IdentityDefault && id.keyUsable && !overlaps(id.primaryKey, id.generated):
		return id.alter("DEFAULT")
	case id.candidate != "":
		return id.alter("USING INDEX " + pgx.Identifier{id.candidate}.Sanitize())
	default:
		return fmt.Sprintf("-- %s: add a unique index on plain NOT NULL columns and make it the replica identity, or leave the table out", id.dbTable)
	}
}

func (id identity) alter(to string) string {
	return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY %s;", id.sql(), to)
}

// identityFault is the refusal of a publication that would break an application.
func identityFault(all []flaw) error {
	reasons, sql := make([]string, len(all)), make([]string, len(all))
	for i, f := range all {
		reasons[i], sql[i] = f.table.String()+": "+f.reason, f.sql
	}
	hint := strings.Join(sql, "\n")
	if strings.Contains(hint, " FULL;") {
		hint += "\n(FULL logs the whole old row of each update and delete; a primary key is cheaper.)"
	}
	e := fault.New(fault.TableIdentity, "check the replica identities", errors.New(strings.Join(reasons, "; ")), hint)
	if len(all) == 1 {
		e.Table = all[0].table.String()
		e.Err = errors.New(all[0].reason)
	}
	return e
}

// unlogged returns the leaf partitions of captured tables whose changes are not in the WAL.
func unlogged(all []identity) []string {
	var names []string
	for _, id := range all {
		if id.kind == kindForeign || id.persistence != persistent {
			names = append(names, id.String())
		}
	}
	return names
}

// checkKeys refuses a configured record key that a delete could not supply.
func (c Config) checkKeys(captured []member, ids []identity) error {
	for _, m := range captured {
		at := slices.IndexFunc(c.Tables, func(s TableSpec) bool { return len(s.Key) > 0 && s.matches(m.schema, m.name) })
		if at < 0 {
			continue
		}
		for _, column := range c.Tables[at].Key {
			var reason string
			for _, id := range ids {
				switch {
				case id.root != m.oid || reason != "":
				case !slices.Contains(m.columns, column):
					reason = "is not a published column"
				case !slices.Contains(id.columns, column):
					reason = fmt.Sprintf("is not in the replica identity (%s) of %s, so that a delete does not name it", id.letter, id.dbTable)
				}
			}
			if reason != "" {
				e := fault.New(fault.TableKey, "check the record key", fmt.Errorf("column %s %s", event.QuoteName(column), reason),
					"Choose columns of the replica identity, or ALTER TABLE "+m.sql()+" REPLICA IDENTITY FULL;")
				e.Table = m.String()
				return e
			}
		}
	}
	return nil
}

func containsAll(set, subset []string) bool {
	return !slices.ContainsFunc(subset, func(s string) bool { return !slices.Contains(set, s) })
}

func overlaps(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}
