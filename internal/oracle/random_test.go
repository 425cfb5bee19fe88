package oracle

import (
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/walferry/walferry/internal/pgtest"
)

// number reads an environment variable that says how much.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q: want a number", name, text)
	}
	return n
}

// TestRandomRows makes tables of random types, does random things to random rows in random transactions,
// and compares each record with what the server says of the row. WALFERRY_ROWS says how many rows, on
// each version; WALFERRY_SEED repeats a run.
func TestRandomRows(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		seed := number(t, "WALFERRY_SEED", rand.Uint64())
		rows := int(number(t, "WALFERRY_ROWS", 300))
		r := newRig(t, server.Database())
		r.exec(made + "CREATE TABLE oracle_odd (uid int PRIMARY KEY)")
		r.follow()
		m := &maker{rig: r, rng: rand.New(rand.NewPCG(seed, 0)), pool: samplesFor(server.Major())}
		records := 0
		for m.rows < rows && !t.Failed() {
			records += m.table(min(rows-m.rows, 500, max(rows/5, 60)))
		}
		t.Logf("WALFERRY_SEED=%d: %d rows in %d tables, %d records as the server says", seed, m.rows, m.tables, records)
	})
}

// maker makes what is random.
type maker struct {
	*rig
	rng  *rand.Rand
	pool []sample
	// made counts types, tables counts tables, rows counts changes of rows that were committed.
	made, tables, rows int
}

// kind is a type: its name in SQL and a way to make values of it, as SQL.
type kind struct {
	sql   string
	value func() string
}

func (m *maker) chance(percent int) bool { return m.rng.IntN(100) < percent }

func choose[T any](m *maker, from []T) T { return from[m.rng.IntN(len(from))] }

// kind makes a type, which may be made of others.
func (m *maker) kind(depth int) kind {
	if depth == 0 || m.chance(60) {
		return m.scalar()
	}
	m.made++
	name := fmt.Sprintf("made_%d", m.made)
	switch m.rng.IntN(4) {
	case 0:
		return m.composite(name, depth-1)
	case 1:
		base := m.kind(depth - 1)
		m.exec("CREATE DOMAIN " + name + " AS " + base.sql)
		return kind{name, func() string { return "(" + base.value() + ")::" + name }}
	default:
		elem := m.kind(depth - 1)
		for strings.HasSuffix(elem.sql, "[]") {
			elem = m.scalar()
		}
		return kind{elem.sql + "[]", func() string { return m.array(elem) }}
	}
}

func (m *maker) composite(name string, depth int) kind {
	var kinds []kind
	var attributes []string
	for i := range m.rng.IntN(5) {
		k := m.kind(depth)
		kinds = append(kinds, k)
		attributes = append(attributes, m.name(i)+" "+k.sql)
	}
	m.exec("CREATE TYPE " + name + " AS (" + strings.Join(attributes, ", ") + ")")
	return kind{name, func() string {
		values := make([]string, len(kinds))
		for i, k := range kinds {
			values[i] = m.value(k)
		}
		return "ROW(" + strings.Join(values, ", ") + ")::" + name
	}}
}

func (m *maker) array(elem kind) string {
	of := func(n int, one func() string) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = one()
		}
		return "ARRAY[" + strings.Join(parts, ", ") + "]::" + elem.sql + "[]"
	}
	one := func() string { return m.value(elem) }
	switch {
	case m.chance(15):
		return "'{}'::" + elem.sql + "[]"
	case m.chance(20) && !isDomainOverArray(elem):
		n := 1 + m.rng.IntN(3)
		return of(1+m.rng.IntN(3), func() string { return of(n, one) })
	case m.chance(10):
		n := 1 + m.rng.IntN(3)
		return fmt.Sprintf("('[%d:%d]=' || (%s)::text)::%s[]", n+1, n+n, of(n, one), elem.sql)
	}
	return of(1+m.rng.IntN(4), one)
}

// isDomainOverArray tells whether ARRAY[…] may take a value for a dimension; any domain may be one.
func isDomainOverArray(k kind) bool { return strings.HasPrefix(k.sql, "made_") || k.sql == "numbers" }

// value is a value of a kind, or NULL.
func (m *maker) value(k kind) string {
	if m.chance(12) {
		return "NULL::" + k.sql
	}
	return k.value()
}

// scalar is a type of the samples, with its samples and, where that can be done, random values.
func (m *maker) scalar() kind {
	s := choose(m, m.pool)
	for strings.HasSuffix(s.sql, "[]") {
		s = choose(m, m.pool)
	}
	samples := s.values(func(text string) bool { return len(text) < 5000 || m.chance(5) })
	random := m.random(s.sql)
	return kind{s.sql, func() string {
		if random != nil && m.chance(70) {
			return random()
		}
		return choose(m, samples)
	}}
}

// random returns what makes random values of a type, nil for none.
func (m *maker) random(sql string) func() string {
	literal := func(text func() string) func() string {
		return func() string { return quote(text()) + "::" + sql }
	}
	micros := func() string { return fmt.Sprint(m.rng.Int64N(315_537_897_599_000_000) - 62_135_596_800_000_000) }
	switch sql {
	case "int8":
		return literal(func() string { return fmt.Sprint(int64(m.rng.Uint64()) >> m.rng.IntN(64)) })
	case "float8":
		return literal(func() string { return fmt.Sprint(math.Float64frombits(m.rng.Uint64())) })
	case "float4":
		return literal(func() string {
			return strconv.FormatFloat(float64(math.Float32frombits(m.rng.Uint32())), 'g', -1, 32)
		})
	case "numeric":
		return literal(m.decimal)
	case "text", "varchar", "citext", "bpchar":
		return literal(m.text)
	case "bytea":
		return literal(func() string { return `\x` + hex.EncodeToString([]byte(m.text()+m.text())) })
	case "json":
		return literal(func() string { return m.document(3, true) })
	case "jsonb":
		return literal(func() string { return m.document(3, false) })
	case "hstore":
		return func() string {
			return fmt.Sprintf("hstore(%s, %s) || hstore(%s, NULL)", quote(m.text()), quote(m.text()), quote(m.text()))
		}
	case "pair":
		return func() string { return fmt.Sprintf("ROW(%d, %s)::pair", int32(m.rng.Uint32()), quote(m.text())) }
	case "timestamptz":
		return func() string {
			return "'epoch'::timestamptz + " + micros() + " * '1 microsecond'::interval + " + choose(m, []string{"'0'", "'0'", "'8000 years'", "'-4000 years'"}) + "::interval"
		}
	case "timestamp":
		return func() string { return "'epoch'::timestamp + " + micros() + " * '1 microsecond'::interval" }
	case "date":
		return func() string { return fmt.Sprintf("'epoch'::date + %d", m.rng.IntN(4_000_000)-1_000_000) }
	case "interval":
		return func() string {
			return fmt.Sprintf("make_interval(months => %d, days => %d, secs => %d) + %d * '1 microsecond'::interval",
				m.rng.IntN(4000)-2000, m.rng.IntN(4000)-2000, m.rng.IntN(1_000_000)-500_000, m.rng.IntN(2_000_000)-1_000_000)
		}
	case "uuid":
		return literal(func() string { return fmt.Sprintf("%016x%016x", m.rng.Uint64(), m.rng.Uint64()) })
	}
	return nil
}

// alphabet holds what text forms and JSON treat in their own ways, and something of everything else.
var alphabet = []rune("\x01\x08\t\n\x0b\f\r\x1b\x1f\x7f\u0080é߿ࠀ\u2028\ufeff\uffff😀\U0010ffff \"\"''\\\\,,(){}[]<>=:;/%$#@!NULLnulltrue0123456789abcxyz")

func (m *maker) text() string {
	n := m.rng.IntN(12)
	if m.chance(3) {
		n = 3000
	}
	text := make([]rune, n)
	for i := range text {
		text[i] = choose(m, alphabet)
	}
	return string(text)
}

func (m *maker) decimal() string {
	digits := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte('0' + m.rng.IntN(10))
		}
		return string(b)
	}
	whole := 1 + m.rng.IntN(30)
	if m.chance(2) {
		whole = 1000
	}
	return choose(m, []string{"", "-"}) + digits(whole) + "." + digits(1+m.rng.IntN(30))
}

// document is a JSON document; verbatim ones have white space, lone surrogates and names that come twice.
func (m *maker) document(depth int, verbatim bool) string {
	space := ""
	if verbatim {
		space = choose(m, []string{"", "", " ", "\n\t"})
	}
	str := func() string {
		s := quoteJSON(m.text())
		if verbatim && m.chance(10) {
			s = `"\ud800\u0000` + s[1:]
		}
		return s
	}
	n := m.rng.IntN(10)
	if depth == 0 {
		n = m.rng.IntN(6)
	}
	switch n {
	case 0:
		return space + "null" + space
	case 1:
		return choose(m, []string{"true", "false"}) + space
	case 2:
		return fmt.Sprint(int64(m.rng.Uint64()))
	case 3:
		return space + fmt.Sprintf("-%d.%de%d", m.rng.IntN(1000), m.rng.IntN(1000), m.rng.IntN(600)-300)
	case 4, 5:
		return space + str() + space
	case 6, 7:
		parts := make([]string, m.rng.IntN(4))
		for i := range parts {
			parts[i] = m.document(depth-1, verbatim)
		}
		return space + "[" + strings.Join(parts, ",") + space + "]"
	}
	parts := make([]string, m.rng.IntN(4))
	for i := range parts {
		parts[i] = space + str() + space + ":" + m.document(depth-1, verbatim)
	}
	return "{" + strings.Join(parts, ",") + space + "}"
}

// quoteJSON is a string as JSON with the escapes that jsonb would take away again.
func quoteJSON(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r < ' ' || r > 0x7f && r < 0xffff && r%2 == 0:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// name is a column's or an attribute's name, different for each i.
func (m *maker) name(i int) string {
	return `"` + choose(m, []string{"c", "C", "odd ", "dot.", `quo""te`, "new\nline", "umläut😀", "order", `back\`, "tab\t"}) + fmt.Sprint(i) + `"`
}

// column is a column of a random table.
type column struct {
	name string // as SQL
	kind kind
}

// table makes one table and changes about n rows of it. It returns how many records were compared.
func (m *maker) table(n int) (records int) {
	m.tables++
	x := &table{maker: m, rel: fmt.Sprintf("random_%d", m.tables)}
	x.create()
	for was := m.rows; m.rows < was+n && !m.t.Failed(); {
		x.transaction()
		records += m.check()
	}
	m.exec("DROP TABLE " + x.rel)
	return records
}

// table is a random table as the application knows it.
type table struct {
	*maker
	rel     string
	columns []column
	query   string
	shape   shape
	state   map[string]row
	uids    int
}

// create makes the table with a random key and a random identity.
func (x *table) create() {
	defs := []string{"uid int NOT NULL", "id int8", "code int NOT NULL"}
	for i := range 1 + x.rng.IntN(8) {
		c := column{x.name(i), x.kind(3)}
		x.columns = append(x.columns, c)
		defs = append(defs, c.name+" "+c.kind.sql)
	}
	key := choose(x.maker, [][]string{{"id"}, {"id", "uid"}, {"code"}})
	x.rng.Shuffle(len(defs), func(i, j int) { defs[i], defs[j] = defs[j], defs[i] })
	x.exec(fmt.Sprintf("CREATE TABLE %s (%s, PRIMARY KEY (%s)); CREATE UNIQUE INDEX %[1]s_code ON %[1]s (code, uid)", x.rel, strings.Join(defs, ", "), strings.Join(key, ", ")))
	x.shape = shape{rel: x.rel, table: "public." + x.rel, key: key, old: key}
	switch x.rng.IntN(3) {
	case 0:
		x.exec("ALTER TABLE " + x.rel + " REPLICA IDENTITY FULL")
		x.shape.all = true
	case 1:
		x.exec("ALTER TABLE " + x.rel + " REPLICA IDENTITY USING INDEX " + x.rel + "_code")
		x.shape.key = []string{"code", "uid"}
		x.shape.old = x.shape.key
	}
	x.state = map[string]row{}
	x.look()
}

// look follows a change of the table's columns.
func (x *table) look() {
	x.query = x.maker.query(x.rel)
	x.state = x.after("SELECT", x.query)
	if x.shape.all {
		x.shape.old = []string{"uid", "id", "code"}
		for _, c := range x.columns {
			x.shape.old = append(x.shape.old, unquoted(c.name))
		}
	}
}

// unquoted is a quoted name as it is.
func unquoted(name string) string {
	return strings.ReplaceAll(name[1:len(name)-1], `""`, `"`)
}

// transaction does a few things, and takes some of them back.
func (x *table) transaction() {
	x.exec("BEGIN")
	began, rows, want := x.state, x.rows, copyOf(x.want)
	for range 1 + x.rng.IntN(4) {
		if !x.chance(15) {
			x.step()
			continue
		}
		state, columns, shape, rows, want := x.state, slices.Clone(x.columns), x.shape, x.rows, copyOf(x.want)
		x.exec("SAVEPOINT s")
		x.step()
		if x.chance(30) {
			x.alter()
			x.step()
		}
		x.exec("ROLLBACK TO s")
		x.state, x.columns, x.shape, x.rows, x.want = state, columns, shape, rows, want
		x.query = x.maker.query(x.rel)
	}
	switch {
	case x.chance(10):
		x.exec("ROLLBACK")
		x.state, x.rows, x.want = began, rows, want
	case x.chance(10):
		x.alter()
		x.step()
		x.exec("COMMIT")
	default:
		x.exec("COMMIT")
	}
}

func copyOf(w wants) wants {
	c := wants{}
	for key, list := range w {
		c[key] = slices.Clone(list)
	}
	return c
}

// alter adds or drops a column.
func (x *table) alter() {
	if at := x.rng.IntN(len(x.columns)); len(x.columns) > 1 && x.chance(50) {
		x.exec("ALTER TABLE " + x.rel + " DROP " + x.columns[at].name)
		x.columns = slices.Delete(slices.Clone(x.columns), at, at+1)
	} else {
		x.uids++
		c := column{x.name(100 + x.uids), x.kind(2)}
		value := c.kind.value()
		if strings.Contains(value, "::regrole") { // which no default may name
			value = "NULL"
		}
		x.exec("ALTER TABLE " + x.rel + " ADD " + c.name + " " + c.kind.sql + " DEFAULT " + value)
		x.columns = append(slices.Clone(x.columns), c)
	}
	x.look()
}

// step runs one statement and notes what it did.
func (x *table) step() {
	switch n := x.rng.IntN(10); {
	case n < 4 && len(x.state) < 40 || len(x.state) == 0:
		x.insert()
	case n < 9:
		x.update()
	default:
		x.remove()
	}
}

func (x *table) insert() {
	names, rows := []string{"uid", "id", "code"}, []string{}
	for _, c := range x.columns {
		names = append(names, c.name)
	}
	for range 1 + x.rng.IntN(20) {
		x.uids++
		values := []string{fmt.Sprint(x.uids), fmt.Sprint(int64(x.uids) + x.rng.Int64N(1<<30)<<30), fmt.Sprint(x.uids)}
		for _, c := range x.columns {
			values = append(values, x.value(c.kind))
		}
		rows = append(rows, "("+strings.Join(values, ", ")+")")
	}
	is := x.after("INSERT INTO "+x.rel+" ("+strings.Join(names, ", ")+") VALUES "+strings.Join(rows, ", "), x.query)
	for uid, row := range is {
		if _, was := x.state[uid]; !was {
			x.want.insert(x.shape, row)
			x.rows++
		}
	}
	x.state = is
}

// some is a condition that holds for some of the rows.
func (x *table) some() string {
	n := 1 + x.rng.IntN(3)
	return fmt.Sprintf(" WHERE uid %% %d = %d", n, x.rng.IntN(n))
}

func (x *table) update() {
	var set, loose []string
	for _, c := range x.columns {
		if x.chance(30) {
			set = append(set, c.name+" = "+x.value(c.kind))
		} else if !x.shape.all {
			loose = append(loose, unquoted(c.name))
		}
	}
	if x.chance(15) || len(set) == 0 {
		set = append(set, "id = -id")
	}
	if x.chance(10) {
		set = append(set, "code = -code")
	}
	is, touched := x.afterReturning("UPDATE "+x.rel+" SET "+strings.Join(set, ", ")+x.some()+" RETURNING uid", x.query)
	for _, uid := range touched {
		x.want.update(x.shape, x.state[uid], is[uid], nil, loose)
		x.rows++
	}
	x.state = is
}

func (x *table) remove() {
	is, touched := x.afterReturning("DELETE FROM "+x.rel+x.some()+" RETURNING uid", x.query)
	for _, uid := range touched {
		x.want.remove(x.shape, x.state[uid])
		x.rows++
	}
	x.state = maps.Clone(is)
}
