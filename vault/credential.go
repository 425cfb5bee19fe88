package vault

import (
	"fmt"
	"os"
	"strings"
)

// Credential says where a secret comes from: a file that is read again at each use, so that a
// rotated file serves the next connection, or a text that the configuration or the environment
// gave. The zero Credential is "none". File goes before Text.
type Credential struct {
	File string
	Text Secret
}

// IsZero tells whether no secret is configured.
func (c Credential) IsZero() bool { return c.File == "" && c.Text.IsZero() }

// Read returns the secret of now. A file's trailing line break is not part of it. Errors name the
// file, never its content.
func (c Credential) Read() (Secret, error) {
	if c.File == "" {
		return c.Text, nil
	}
	b, err := os.ReadFile(c.File)
	if err != nil {
		return Secret{}, fmt.Errorf("read secret: %w", err)
	}
	text := strings.TrimRight(string(b), "\r\n")
	if text == "" {
		return Secret{}, fmt.Errorf("read secret: %s is empty", c.File)
	}
	return NewSecret(text), nil
}
