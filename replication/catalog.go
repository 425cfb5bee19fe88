package replication

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/internal/lock"
)

// catalogIdle is how long the catalog's connection is kept after its last use: a restart asks for
// many tables in a row, a stream for one in a while.
const catalogIdle = 10 * time.Second

// maxNesting bounds how deep a type may be made of others. Postgres has no such bound; deeper ones
// are published as text.
const maxNesting = 32

// catalog answers what the stream does not tell: what types are made of, and primary keys. It
// connects when it must and hangs up when it is idle.
//
// It sees the catalog of now, which may be ahead of the stream: a type that is gone is text under
// the name the stream gave, and a composite type may have other fields than the value at hand had
// when it was written. An encoder takes a value that does not fit for text.
//
// It is safe for concurrent use.
type catalog struct {
	cfg Config

	mu    lock.Lock // guards everything below
	types map[uint32]*event.Type
	// stale are types that the stream has described again: they are read anew when they are asked
	// for, and a type that has not changed keeps its pointer.
	stale map[uint32]*event.Type
	named map[uint32]typeName
	// altered counts how often a composite type was found to be another one than was read.
	altered atomic.Uint64
	conn    *pgx.Conn
	to      string      // the start of the server that conn reached
	login   login       // what conn was made with
	idle    *time.Timer // hangs up; nil until the first use

	server atomic.Pointer[string] // the start of the server to ask
}

// typeName is what a Type message says.
type typeName struct{ schema, name string }

// follow has the catalog ask the server that was started at that time and no other: the one that the
// stream comes from.
func (c *catalog) follow(start string) { c.server.Store(&start) }

func newCatalog(cfg Config) *catalog {
	return &catalog{cfg: cfg, mu: lock.New(), types: builtinTypes(), stale: map[uint32]*event.Type{}, named: map[uint32]typeName{}}
}

// noteType keeps the name that a Type message gave, for the case that the type is gone. The server
// sends the message when it describes a table, so the type is looked at again, too.
func (c *catalog) noteType(oid uint32, schema, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if schema == "" {
		schema = "pg_catalog"
	}
	c.named[oid] = typeName{schema, name}
	if t := c.types[oid]; t != nil {
		c.forget(t)
	}
}

// forget marks a type and all that it is made of as stale, but for built-in types.
func (c *catalog) forget(t *event.Type) {
	if t.OID < firstUserOID || c.types[t.OID] == nil {
		return
	}
	delete(c.types, t.OID)
	c.stale[t.OID] = t
	if t.Elem != nil {
		c.forget(t.Elem)
	}
	for _, f := range t.Fields {
		c.forget(f.Type)
	}
}

// firstUserOID is FirstNormalObjectId: what is below exists in every database.
const firstUserOID = 16384

// typeOf returns the type of an OID. It asks the server where it does not know it, which may fail
// as any statement may.
func (c *catalog) typeOf(ctx context.Context, oid uint32) (*event.Type, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resolve(ctx, oid, 0)
}

func (c *catalog) resolve(ctx context.Context, oid uint32, depth int) (*event.Type, error) {
	if t := c.types[oid]; t != nil {
		return t, nil
	}
	if depth > maxNesting {
		return event.TextType(oid, "", ""), nil
	}
	t, err := c.read(ctx, oid, depth)
	if err != nil {
		return nil, err
	}
	if old := c.stale[oid]; old != nil && sameType(old, t) {
		t = old
	}
	delete(c.stale, oid)
	c.types[oid] = t
	return t, nil
}

// sameType tells whether two readings of a type say the same. What they are made of is shared, so
// that pointers tell.
func sameType(a, b *event.Type) bool {
	return a.Schema == b.Schema && a.Name == b.Name && a.Kind == b.Kind && a.Elem == b.Elem && a.Delim == b.Delim && slices.Equal(a.Fields, b.Fields)
}

// typeRow is what pg_type says of a type.
type typeRow struct {
	schema, name string
	class        string // typtype
	elem         uint32 // the element type of a true array, else 0
	base         uint32 // the base type of a domain, else 0
	delim        string
	hstore       bool
}

// A true array is one that its element type names as its array type: vectors and some geometric
// types have elements, too, but another text form. In the catalog an array type repeats the
// delimiter of its elements.
const typeQuery = `
SELECT n.nspname::text, t.typname::text, t.typtype::text, coalesce(e.oid, 0)::oid, t.typbasetype::oid, t.typdelim::text,
       t.typname = 'hstore' AND EXISTS (
           SELECT FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
           WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
             AND d.refclassid = 'pg_extension'::regclass AND x.extname = 'hstore')
FROM pg_type t
JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
WHERE t.oid = $1::oid`

// read asks the server for a type and for those it is made of.
func (c *catalog) read(ctx context.Context, oid uint32, depth int) (*event.Type, error) {
	var r typeRow
	err := c.query(ctx, "read a type from the catalog", func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, typeQuery, oid).Scan(&r.schema, &r.name, &r.class, &r.elem, &r.base, &r.delim, &r.hstore)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		if last := c.stale[oid]; last != nil {
			return last, nil
		}
		n := c.named[oid]
		return event.TextType(oid, n.schema, n.name), nil
	}
	if err != nil {
		return nil, err
	}
	t := event.TextType(oid, r.schema, r.name)
	if r.delim != "" {
		t.Delim = r.delim[0]
	}
	switch {
	case r.hstore:
		t.Kind = event.KindHstore
	case r.elem != 0:
		t.Kind = event.KindArray
		t.Elem, err = c.resolve(ctx, r.elem, depth+1)
	case r.class == "d":
		t.Kind = event.KindDomain
		t.Elem, err = c.resolve(ctx, r.base, depth+1)
	case r.class == "c":
		t.Kind = event.KindComposite
		t.Fields, err = c.fields(ctx, oid, depth)
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

const fieldsQuery = `
SELECT a.attname::text, a.atttypid
FROM pg_attribute a JOIN pg_type t ON t.typrelid = a.attrelid
WHERE t.oid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum`

// fields returns the attributes of a composite type.
func (c *catalog) fields(ctx context.Context, oid uint32, depth int) ([]event.Field, error) {
	var fields []event.Field
	var types []uint32
	err := c.query(ctx, "read a composite type from the catalog", func(ctx context.Context, conn *pgx.Conn) error {
		fields, types = nil, nil
		rows, err := conn.Query(ctx, fieldsQuery, oid)
		if err != nil {
			return err
		}
		var name string
		var typ uint32
		_, err = pgx.ForEachRow(rows, []any{&name, &typ}, func() error {
			fields, types = append(fields, event.Field{Name: name}), append(types, typ)
			return nil
		})
		return err
	})
	for i := 0; err == nil && i < len(fields); i++ {
		fields[i].Type, err = c.resolve(ctx, types[i], depth+1)
	}
	return fields, err
}

const compositesQuery = `
SELECT t.oid, coalesce(a.attname::text, ''), coalesce(a.atttypid, 0)::oid
FROM pg_type t LEFT JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
WHERE t.oid = ANY ($1::oid[])
ORDER BY t.oid, a.attnum`

// refresh looks whether the composite types that were read are as they were: a server that describes a
// table again when it is altered does not when one of its types is. Where one is not, all types are read
// anew when they are asked for, and generation moves on.
func (c *catalog) refresh(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var oids []uint32
	for oid, t := range c.types {
		if t.Kind == event.KindComposite {
			oids = append(oids, oid)
		}
	}
	if len(oids) == 0 {
		return nil
	}
	type attribute struct {
		name string
		typ  uint32
	}
	var now map[uint32][]attribute
	err := c.query(ctx, "look at the composite types", func(ctx context.Context, conn *pgx.Conn) error {
		now = map[uint32][]attribute{}
		rows, err := conn.Query(ctx, compositesQuery, oids)
		if err != nil {
			return err
		}
		var oid uint32
		var a attribute
		_, err = pgx.ForEachRow(rows, []any{&oid, &a.name, &a.typ}, func() error {
			now[oid] = append(now[oid], a)
			return nil
		})
		return err
	})
	if err != nil {
		return err
	}
	for oid, attributes := range now { // a type that is gone stays as it was
		if attributes[0].typ == 0 {
			attributes = nil
		}
		same := func(f event.Field, a attribute) bool { return f.Name == a.name && f.Type.OID == a.typ }
		if !slices.EqualFunc(c.types[oid].Fields, attributes, same) {
			for _, t := range slices.Collect(maps.Values(c.types)) {
				c.forget(t)
			}
			c.altered.Add(1)
			return nil
		}
	}
	return nil
}

// generation changes when types that were asked for are to be asked for again.
func (c *catalog) generation() uint64 { return c.altered.Load() }

const primaryKeyQuery = `
SELECT a.attname::text
FROM pg_index i
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
WHERE i.indrelid = $1::oid AND i.indisprimary AND i.indisvalid
ORDER BY a.attnum`

// primaryKey returns the names of a table's primary key columns in column order; none where it has
// no primary key or does not exist.
func (c *catalog) primaryKey(ctx context.Context, table uint32) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	err := c.query(ctx, "read a primary key from the catalog", func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, primaryKeyQuery, table)
		if err != nil {
			return err
		}
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return names, err
}

// query runs f on the connection, and once more on a new one where the server had hung up
// meanwhile or does not answer. pgx.ErrNoRows is passed on as it is.
func (c *catalog) query(ctx context.Context, op string, f func(context.Context, *pgx.Conn) error) error {
	for again := c.conn != nil; ; again = false {
		if err := c.connect(ctx); err != nil {
			return err
		}
		err := f(ctx, c.conn)
		c.idle.Reset(catalogIdle)
		if err == nil || errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if !c.conn.IsClosed() {
			return explain(op, err)
		}
		c.conn = nil
		if !again || ctx.Err() != nil {
			return explain(op, err)
		}
	}
}

// connect makes sure that there is a connection to the right server, and that it is not hung up
// meanwhile.
func (c *catalog) connect(ctx context.Context) error {
	if c.idle != nil {
		c.idle.Stop()
	}
	var (
		server string
		only   suits
	)
	if start := c.server.Load(); start != nil {
		server, only = *start, startedAt(*start)
	}
	// A role that is about to be dropped asks nothing any more.
	if c.conn != nil && c.to == server && !moved(c.cfg.moves(c.login)) {
		return nil
	}
	c.hangUp()
	conn, used, err := c.cfg.connectSQLAs(ctx, only)
	if err != nil {
		return err
	}
	c.conn, c.to, c.login = conn, server, used
	if c.idle == nil {
		c.idle = time.AfterFunc(catalogIdle, c.close)
	}
	return nil
}

// close hangs up. The catalog may be used afterwards; it connects again then.
func (c *catalog) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle != nil {
		c.idle.Stop()
	}
	c.hangUp()
}

// hangUp closes the connection where there is one.
func (c *catalog) hangUp() {
	if c.conn != nil {
		_ = hangUp(c.conn) // nothing is at stake: the connection only read
		c.conn = nil
	}
}
