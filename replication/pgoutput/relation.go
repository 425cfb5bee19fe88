package pgoutput

import "github.com/walferry/walferry/event"

// Relation describes a table as it was at this point of the WAL. It comes before the first row of
// the table in a connection and again after a change. It may be kept.
type Relation struct {
	ID uint32
	// Namespace is "" for pg_catalog.
	Namespace string
	Name      string
	Identity  event.Identity
	// Columns are the published columns, in the order of every row. A table may have none.
	Columns []RelationColumn
}

// RelationColumn is one column of a Relation.
type RelationColumn struct {
	// Flags is ColumnInIdentity or 0.
	Flags   byte
	Name    string
	TypeOID uint32
	// TypeMod is pg_attribute.atttypmod, -1 for none.
	TypeMod int32
}

// ColumnInIdentity is the flag of a column of the replica identity. Under full identity every
// column has it.
const ColumnInIdentity byte = 1

// Type names a type that is not built in. It comes before the Relation that uses it. It may be kept.
type Type struct {
	// OID is what the columns refer to.
	OID uint32
	// Namespace and Name are those of the base type where OID is a domain; Namespace is "" for
	// pg_catalog.
	Namespace string
	Name      string
}

// maxColumns is Postgres's MaxHeapAttributeNumber: no table has more columns, so none has a row
// with more values.
const maxColumns = 1600

// minColumn is the least a column takes in a relation message: flags, the NUL of its name, type and
// modifier.
const minColumn = 1 + 1 + 4 + 4

func decodeRelation(r *reader) *Relation {
	m := &Relation{ID: r.uint32(), Namespace: string(r.cstring()), Name: string(r.cstring()), Identity: r.identity()}
	m.Columns = make([]RelationColumn, r.count(minColumn))
	for i := range m.Columns {
		m.Columns[i] = RelationColumn{
			Flags:   r.flags(ColumnInIdentity),
			Name:    string(r.cstring()),
			TypeOID: r.uint32(),
			TypeMod: int32(r.uint32()), //nolint:gosec // the wire has a signed number
		}
	}
	return m
}

func decodeType(r *reader) *Type {
	return &Type{OID: r.uint32(), Namespace: string(r.cstring()), Name: string(r.cstring())}
}

// identity reads the replica identity, which decides what keys the rows have: an unknown one is a failure.
func (r *reader) identity() event.Identity {
	i := event.Identity(r.byte())
	switch i {
	case event.IdentityDefault, event.IdentityNothing, event.IdentityFull, event.IdentityIndex:
		return i
	}
	r.at--
	r.fail("unknown replica identity 0x%02x", byte(i))
	return 0
}

// count reads a number of columns, each of which takes at least size bytes. A number that cannot be
// true is a failure, and 0: nothing is allocated for it.
func (r *reader) count(size int) int {
	n := int(r.uint16())
	if n > maxColumns {
		r.fail("%d columns, more than a table can have,", n)
		return 0
	}
	if n*size > r.rest() {
		r.fail("%d columns in %d bytes", n, r.rest())
		return 0
	}
	return n
}
