package encode

import "github.com/walferry/walferry/event"

// codec says how the text of a type becomes JSON. It is the type with domains followed and the
// options applied.
type codec struct {
	shape  shape
	elem   *codec  // of an array
	delim  byte    // of an array: what stands between its elements
	fields []field // of a composite
}

// field is one attribute of a composite.
type field struct {
	name  []byte // ,"name":
	codec *codec
}

// shape is one way to write a value.
type shape uint8

const (
	shapeString      shape = iota // the text as a string; also dates and intervals, whose text is what is promised
	shapeBool                     // true, false
	shapeNumber                   // the text as a number
	shapeJSON                     // the text as it is
	shapeCheckedJSON              // the same where the type is not certain: the text is checked first
	shapeBytea                    // base64
	shapeTimestamp
	shapeTimestampTZ
	shapeTime
	shapeTimeTZ
	shapeArray
	shapeComposite
	shapeHstore
	shapeChar // the text as a string, but for a byte beyond ASCII
)

// newCodec returns the codec of a column's type.
func newCodec(t *event.Type, o Options) *codec {
	b := codecBuilder{options: o, made: make(map[madeKey]*codec)}
	return b.codec(t, true)
}

// codecBuilder remembers what it made, so that a type used twice is followed once and a type graph
// with a circle, which the server never has, comes to an end.
type codecBuilder struct {
	options Options
	made    map[madeKey]*codec
}

// madeKey is a type and whether it is certain. A column's type is, because the stream names it.
// Inside of a composite nothing is: its attributes are those of the catalog of now, not of the
// row's time.
type madeKey struct {
	t       *event.Type
	certain bool
}

func (b *codecBuilder) codec(t *event.Type, certain bool) *codec {
	if t == nil {
		return &codec{}
	}
	t = t.Basic()
	key := madeKey{t, certain}
	if c := b.made[key]; c != nil {
		return c
	}
	c := &codec{shape: shapeOf(t, b.options)}
	b.made[key] = c
	switch c.shape {
	case shapeJSON:
		if !certain {
			c.shape = shapeCheckedJSON
		}
	case shapeArray:
		c.elem = b.codec(t.Elem, certain)
		if c.delim = t.Elem.Basic().Delim; c.delim == 0 {
			c.delim = ','
		}
	case shapeComposite:
		for _, f := range t.Fields {
			name, err := appendString([]byte{','}, []byte(f.Name))
			if err != nil {
				c.shape = shapeString
				break
			}
			c.fields = append(c.fields, field{name: append(name, ':'), codec: b.codec(f.Type, false)})
		}
	default:
	}
	return c
}

// shapeOf returns the shape of a type that is no domain.
func shapeOf(t *event.Type, o Options) shape {
	switch t.Kind {
	case event.KindBool:
		return shapeBool
	case event.KindInt, event.KindFloat:
		return shapeNumber
	case event.KindInt8:
		if o.Int8AsString {
			return shapeString
		}
		return shapeNumber
	case event.KindNumeric:
		if o.NumericAsNumber {
			return shapeNumber
		}
		return shapeString
	case event.KindJSON:
		return shapeJSON
	case event.KindBytea:
		return shapeBytea
	case event.KindTimestamp:
		return shapeTimestamp
	case event.KindTimestampTZ:
		return shapeTimestampTZ
	case event.KindTime:
		return shapeTime
	case event.KindTimeTZ:
		return shapeTimeTZ
	case event.KindArray:
		if t.Elem == nil {
			return shapeString
		}
		return shapeArray
	case event.KindComposite:
		return shapeComposite
	case event.KindHstore:
		return shapeHstore
	case event.KindChar:
		return shapeChar
	case event.KindText, event.KindDate, event.KindInterval, event.KindDomain:
		return shapeString
	}
	return shapeString
}
