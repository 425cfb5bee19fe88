package encode

// Options are the choices of docs/events.md that change how values are written.
type Options struct {
	// Tombstones writes a record without a value after each delete.
	Tombstones bool
	// NumericAsNumber and Int8AsString change the JSON type of numeric and int8 values.
	NumericAsNumber bool
	Int8AsString    bool
	// Headers names the headers beside pos: op, schema, table.
	Headers []string
}

// DefaultOptions returns the defaults of docs/configuration.md.
func DefaultOptions() Options { return Options{Tombstones: true} }
