package event

import "strings"

// Table is one published table as the stream described it at one point of the WAL. It is
// immutable: a schema change makes a new Table, so a *Table may be kept as the key of a cache.
type Table struct {
	// OID is the relation's object id; with publish_via_partition_root it is the root's.
	OID uint32
	// Schema and Name are exact, without quoting. An empty schema on the wire (pg_catalog) is
	// spelled out here.
	Schema, Name string
	// Identity is the replica identity, which decides what updates and deletes carry.
	Identity Identity
	// Columns stand in the order of the stream, which is the order of every Row of this table.
	Columns []Column
	// PrimaryKey holds indexes into Columns of the primary key's columns, in column order. It
	// comes from the catalog, because under IdentityFull the stream flags every column. Nil means
	// that the table has none, or that it could not be read (the table is gone).
	PrimaryKey []int
}

// String returns schema.name, each half quoted as SQL would where it needs quoting.
func (t *Table) String() string { return QuoteName(t.Schema) + "." + QuoteName(t.Name) }

// IdentityColumns returns the indexes of the columns that the stream flags as replica identity, in
// column order; under IdentityFull that is every column. The slice is made anew at each call.
func (t *Table) IdentityColumns() []int {
	var at []int
	for i := range t.Columns {
		if t.Columns[i].InIdentity {
			at = append(at, i)
		}
	}
	return at
}

// Column is one column of a Table.
type Column struct {
	Name string
	Type *Type
	// Mod is the type modifier (pg_attribute.atttypmod), -1 for none.
	Mod int32
	// InIdentity is the stream's flag: the column is part of the replica identity.
	InIdentity bool
}

// Identity is a table's replica identity, by the letter of pg_class.relreplident.
type Identity byte

// The four replica identities.
const (
	IdentityDefault Identity = 'd' // the primary key, or nothing where there is none
	IdentityNothing Identity = 'n' // nothing: updates and deletes cannot be published
	IdentityFull    Identity = 'f' // the whole old row
	IdentityIndex   Identity = 'i' // the columns of a chosen unique index
)

// String returns the SQL word of the identity.
func (i Identity) String() string {
	switch i {
	case IdentityDefault:
		return "default"
	case IdentityNothing:
		return "nothing"
	case IdentityFull:
		return "full"
	case IdentityIndex:
		return "index"
	default:
		return "unknown"
	}
}

// QuoteName returns an identifier as SQL text: as it is where it needs no quotes (lower-case
// letters, digits, underscores, not starting with a digit), else in double quotes. Keywords are
// not known here, so the result is for people and for our own table lists, not for building SQL.
func QuoteName(s string) string {
	plain := s != ""
	for i := range len(s) {
		c := s[i]
		if c != '_' && (c < 'a' || c > 'z') && (i == 0 || c < '0' || c > '9') {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}
