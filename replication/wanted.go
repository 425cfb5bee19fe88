package replication

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// listsVersion is the first server_version_num that has column lists and row filters.
const listsVersion = 150000

// entry returns the entry of the configuration that names a table; the zero value where only a pattern
// fits it, or none.
func (c Config) entry(t dbTable) TableSpec {
	for _, s := range c.Tables {
		if !s.Pattern && s.matches(t.schema, t.name) {
			return s
		}
	}
	return TableSpec{}
}

// clause names a table as CREATE and ALTER PUBLICATION take it. ONLY keeps tables that inherit from it
// out; it means nothing for partitions.
func clause(t dbTable, columns []string, where string) string {
	sql := "ONLY " + t.sql()
	if columns != nil {
		quoted := make([]string, len(columns))
		for i, c := range columns {
			quoted[i] = pgx.Identifier{c}.Sanitize()
		}
		sql += " (" + strings.Join(quoted, ", ") + ")"
	}
	if where != "" {
		sql += " WHERE (" + where + ")"
	}
	return sql
}

// clauses names tables with the columns and filters that are configured.
func (c Config) clauses(tables []dbTable) string {
	all := make([]string, len(tables))
	for i, t := range tables {
		s := c.entry(t)
		all[i] = clause(t, s.Columns, s.Where)
	}
	return strings.Join(all, ", ")
}

// checkLists refuses columns and filters that the server does not know.
func (c Config) checkLists(version int) error {
	for _, s := range c.Tables {
		if version >= listsVersion || s.Columns == nil && s.Where == "" {
			continue
		}
		e := fault.New(fault.PublicationOptions, "check the tables", fmt.Errorf("columns and where need Postgres 15, and the server is %d", version/10000),
			"Leave them out of postgres.tables; the rest of the row cannot be kept back at this server.")
		e.Table = s.String()
		return e
	}
	return nil
}

// checkWanted refuses a publication that sends columns or rows that the configuration leaves out, or
// lacks columns that it asks for. It returns the members whose filter is written differently: whether it
// means the same only the server could tell.
func (p *publication) checkWanted(c Config, captured []member) (differ []member, err error) {
	for _, m := range captured {
		s := c.entry(m.dbTable)
		var reason string
		switch {
		case s.Columns != nil && !sameColumns(s.Columns, m.columns):
			reason = fmt.Sprintf("sends the columns %s of it, and configured are %s", strings.Join(m.columns, ", "), strings.Join(s.Columns, ", "))
		case s.Where != "" && m.filter == "":
			reason = "sends all of its rows, and configured is a filter"
		case s.Where != "" && !sameFilter(s.Where, m.filter):
			differ = append(differ, m)
		}
		if reason == "" {
			continue
		}
		e := fault.New(fault.PublicationOptions, "check the publication", fmt.Errorf("publication %s %s", event.QuoteName(p.name), reason),
			"walferry plan shows the SQL, and walferry apply runs it.")
		e.Table = m.String()
		return nil, e
	}
	return differ, nil
}

func sameColumns(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

// sameFilter tells whether two filters are written alike but for what Postgres adds when it prints one:
// parentheses, casts and spaces.
func sameFilter(a, b string) bool { return bare(a) == bare(b) }

var (
	sqlToken = regexp.MustCompile(`'(?:[^']|'')*'|"(?:[^"]|"")*"|[A-Za-z_0-9.]+|::|\S`)
	castType = regexp.MustCompile(`^::(?:character varying|double precision|(?:timestamp|time) with(?:out)? time zone|[a-z_0-9."]+)(?:\([0-9, ]*\))?(?:\[\])*`)
)

func bare(filter string) string {
	var b strings.Builder
	for filter != "" {
		at := sqlToken.FindStringIndex(filter)
		if at == nil {
			break
		}
		token := filter[at[0]:at[1]]
		if cast := castType.FindString(filter[at[0]:]); cast != "" {
			filter = filter[at[0]+len(cast):]
			continue
		}
		filter = filter[at[1]:]
		switch token[0] {
		case '(', ')':
			continue
		case '\'', '"':
		default:
			token = strings.ToLower(token)
		}
		b.WriteString(token + " ")
	}
	return b.String()
}

// The view prints a filter, but does not say which columns are in it; the stored form does.
const filterColumnsQuery = `
SELECT r.prrelid, array_agg(DISTINCT a.attname::text)
FROM pg_publication_rel r
CROSS JOIN LATERAL regexp_matches(r.prqual::text, ':varattno (\d+)', 'g') v (number)
JOIN pg_attribute a ON a.attrelid = r.prrelid AND a.attnum = v.number[1]::int2
WHERE r.prpubid = $1
GROUP BY 1`

// filterColumns returns the columns that are in the row filters of a publication, by table.
func (p *publication) filterColumns(ctx context.Context, conn *pgx.Conn, version int) (map[uint32][]string, error) {
	const op = "read the row filters"
	of := map[uint32][]string{}
	if version < listsVersion {
		return of, nil
	}
	rows, err := conn.Query(ctx, filterColumnsQuery, p.oid)
	if err != nil {
		return nil, explain(op, err)
	}
	var table uint32
	var columns []string
	_, err = pgx.ForEachRow(rows, []any{&table, &columns}, func() error {
		of[table] = slices.Clone(columns)
		return nil
	})
	return of, explain(op, err)
}

// checkFilter refuses a row filter with columns that are not in the replica identity: the server then
// refuses the application's updates and deletes.
func checkFilter(m member, columns []string, ids []identity) error {
	for _, id := range ids {
		at := slices.IndexFunc(columns, func(c string) bool { return !slices.Contains(id.columns, c) })
		if id.root != m.oid || at < 0 {
			continue
		}
		e := fault.New(fault.PublicationOptions, "check the row filter",
			fmt.Errorf("the filter (%s) has column %s, which is not in the replica identity: the application's updates and deletes would fail", m.filter, event.QuoteName(columns[at])),
			id.alter("FULL")+"\n(FULL logs the whole old row of each update and delete.) Or choose another filter.")
		e.Table = id.String()
		return e
	}
	return nil
}

// harmless refuses a publication that would break an application, or publishes what it should not. It is
// asked within the transaction that changes it.
func (c Config) harmless(ctx context.Context, conn *pgx.Conn, p *publication, version int) error {
	var captured []member
	for _, m := range p.members {
		if c.captures(m.schema, m.name) {
			captured = append(captured, m)
		}
	}
	ids, err := identities(ctx, conn, plain(captured))
	if err != nil {
		return err
	}
	if bad := flaws(ids, version, p.sends); len(bad) > 0 {
		return identityFault(bad)
	}
	if err := p.checkColumns(captured, ids); err != nil {
		return err
	}
	of, err := p.filterColumns(ctx, conn, version)
	if err != nil {
		return err
	}
	for _, m := range captured {
		if err := checkFilter(m, of[m.oid], ids); err != nil {
			return err
		}
	}
	if _, err := p.checkWanted(c, captured); err != nil {
		return err
	}
	return c.checkKeys(captured, ids)
}

// errRaced says that somebody else has made the publication meanwhile.
var errRaced = errors.New("the publication was made by somebody else")

// createPublication makes the publication, unless it would break an application. One that somebody else
// makes at the same time is fine: it is checked afterwards like any other.
func (c Config) createPublication(ctx context.Context, conn *pgx.Conn, tables []dbTable, version int) error {
	err := pgx.BeginFunc(ctx, conn, func(pgx.Tx) error {
		if err := c.execCreate(ctx, conn, tables); err != nil {
			return err
		}
		p, err := readPublication(ctx, conn, c.Publication.Name, version)
		if err != nil {
			return err
		}
		return c.harmless(ctx, conn, p, version)
	})
	if errors.Is(err, errRaced) {
		return nil
	}
	return explain("create the publication", err)
}

// execCreate runs the statement; see createPublication.
func (c Config) execCreate(ctx context.Context, conn *pgx.Conn, tables []dbTable) error {
	const op = "create the publication"
	sql := c.createSQL(tables)
	err := execOne(ctx, conn, sql)
	if err == nil {
		return nil
	}
	if pg := serverError(err); pg != nil {
		switch pg.Code {
		case "42710":
			return errRaced
		case "42501":
			who := "Have the owner of the tables, who also needs CREATE on the database, run"
			if c.AllTables {
				who = "Only a superuser may publish all tables. Have one run"
			}
			return fault.New(fault.PostgresPrivilege, op, err, who+"\n"+sql+"\nand start again.")
		case "57014", "55P03":
			return fault.New(fault.PostgresUnavailable, op, err, "Another session holds a lock on one of the tables (VACUUM, an index being built, other DDL).")
		case "42601", "42703", "42883", "42804", "42846", "22P02", "42P01":
			if slices.ContainsFunc(c.Tables, func(s TableSpec) bool { return s.Columns != nil || s.Where != "" }) {
				return fault.New(fault.PublicationOptions, op, err, "Check columns and where of postgres.tables. What was run:\n"+sql)
			}
		case "0A000", "42P17", "42P10":
			return fault.New(fault.PublicationOptions, op, fmt.Errorf("%w: %s", err, pg.Detail), "Check columns and where of postgres.tables: a filter takes plain columns, constants and immutable built-in functions.")
		}
	}
	return explain(op, err)
}

// execOne runs one statement, and refuses text that holds several: a filter is written by a person.
func execOne(ctx context.Context, conn *pgx.Conn, sql string) error {
	_, err := conn.PgConn().ExecParams(ctx, sql, nil, nil, nil, nil).Close()
	return err
}
