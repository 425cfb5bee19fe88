package event

// Type is a Postgres type as far as an encoder must know it. Types are immutable and shared.
type Type struct {
	OID uint32
	// Schema and Name are the catalog's; Schema is "pg_catalog" for built-in types.
	Schema, Name string
	// Kind tells how the text form of a value is to be read. For a domain it is KindDomain and
	// Elem is the base type; Basic gets behind it.
	Kind Kind
	// Elem is the element type of an array, the base type of a domain; else nil.
	Elem *Type
	// Delim separates the elements of an array of this element type: ',' for all built-in types
	// but box, which has ';'. It is the property of the element type, as in pg_type.typdelim.
	Delim byte
	// Fields are a composite's attributes in order, from the catalog of now: it may differ from
	// the catalog at the time of the WAL, so an encoder that counts a mismatch falls back to text.
	Fields []Field
}

// Field is one attribute of a composite type.
type Field struct {
	Name string
	Type *Type
}

// Basic follows domains down to the type that decides the text form.
func (t *Type) Basic() *Type {
	for t.Kind == KindDomain && t.Elem != nil {
		t = t.Elem
	}
	return t
}

// Kind groups the types whose text forms are read alike.
type Kind uint8

// The kinds. Everything not named here is KindText: Postgres's text form is the value.
const (
	KindText        Kind = iota // text, varchar, bpchar, name, uuid, enum, inet, ranges, money, xml, … and all unknown types
	KindBool                    // t, f
	KindInt                     // int2, int4, oid, xid, cid: fit a double without loss
	KindInt8                    // int8, xid8: may not fit a double
	KindFloat                   // float4, float8
	KindNumeric                 // numeric
	KindJSON                    // json, jsonb
	KindBytea                   // bytea, in hex form
	KindTimestamp               // timestamp without time zone
	KindTimestampTZ             // timestamp with time zone, printed in UTC
	KindDate                    // date
	KindTime                    // time without time zone
	KindTimeTZ                  // time with time zone
	KindInterval                // interval, in iso_8601 form
	KindArray                   // an array of Elem
	KindComposite               // a row type with Fields
	KindDomain                  // a domain over Elem
	KindHstore                  // the hstore extension's type
	KindChar                    // "char", one byte, which need not be a character
)

// TextType is the type of a value of which nothing is known: its text is the value.
func TextType(oid uint32, schema, name string) *Type {
	return &Type{OID: oid, Schema: schema, Name: name, Kind: KindText, Delim: ','}
}
