package vault

import (
	"fmt"
	"log/slog"
)

// redacted is what a Secret prints, whatever is asked of it.
const redacted = "***"

// Secret is text that must never be seen: every way of printing it yields ***. Only Reveal gives
// the text, to the one call that sends it. The zero Secret is "none".
//
// A Secret is a small value; copy it freely, but keep what Reveal returned no longer than the call.
// Two Secrets of the same text need not be equal by ==.
type Secret struct {
	// A pointer, because fmt calls no method on an unexported field: of a struct that keeps a Secret in
	// one it would print the text, and of a pointer it prints the address.
	text *string
}

// NewSecret wraps text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero tells whether there is none.
func (s Secret) IsZero() bool { return s.text == nil }

// String returns ***.
func (Secret) String() string { return redacted }

// GoString returns ***.
func (Secret) GoString() string { return redacted }

// Format prints *** for every verb and flag.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns ***.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns ***.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON returns "***".
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalYAML returns ***.
func (Secret) MarshalYAML() (any, error) { return redacted, nil }
