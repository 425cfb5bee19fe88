package vault_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/walferry/walferry/vault"
)

const canary = "canary-7f3a-secret"

// settings holds a secret in each way that a struct can.
type settings struct {
	User     string
	Password vault.Secret
	Login    vault.Credential
	Pointer  *vault.Secret
	List     []vault.Secret
	ByName   map[string]vault.Secret
	Any      any
	hidden   vault.Secret
	credit   vault.Credential
}

func holder() settings {
	s := vault.NewSecret(canary)
	c := vault.Credential{Text: s}
	return settings{
		User: "cdc", Password: s, Login: c, Pointer: &s, List: []vault.Secret{s},
		ByName: map[string]vault.Secret{"a": s}, Any: s, hidden: s, credit: c,
	}
}

// shown fails where the secret can be read, also as hex or as Go spells it in bytes.
func shown(t *testing.T, what, text string) {
	t.Helper()
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprintf("%X", canary), fmt.Sprintf("% x", canary), fmt.Sprintf("%d", []byte(canary))} {
		if strings.Contains(text, form) {
			t.Errorf("%s shows the secret: %s", what, text)
		}
	}
}

// TestSecretInFmt prints a secret with every verb and flag, alone and inside of other values.
func TestSecretInFmt(t *testing.T) {
	s, held := vault.NewSecret(canary), holder()
	values := map[string]any{
		"a secret": s, "a pointer": &s, "a list": []vault.Secret{s}, "a map": map[string]vault.Secret{"k": s}, "a key": map[vault.Secret]int{s: 1},
		"a credential": vault.Credential{Text: s}, "a pointer to a credential": &vault.Credential{Text: s},
		"a struct": held, "a pointer to a struct": &held, "an array": [1]any{s},
	}
	for what, value := range values {
		for _, verb := range "vTtbcdoOqxXUeEfFgGsp" {
			for _, flags := range []string{"", "+", "#", " ", "-", "0", "10", ".3", "+#", "#10.2"} {
				shown(t, fmt.Sprintf("%%%s%c of %s", flags, verb, what), fmt.Sprintf("%"+flags+string(verb), value))
			}
		}
		shown(t, "Sprint of "+what, fmt.Sprint(value))
		shown(t, "Sprintln of "+what, fmt.Sprintln(value))
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(format, s); got != "***" {
			t.Errorf("%s of a secret is %s, want ***", format, got)
		}
	}
	if s.String() != "***" || s.GoString() != "***" {
		t.Errorf("String gives %s, GoString %s", s.String(), s.GoString())
	}
}

// TestSecretInErrors wraps what holds a secret in errors and a panic's value.
func TestSecretInErrors(t *testing.T) {
	s := vault.NewSecret(canary)
	err := fmt.Errorf("log in with %v: %w", holder(), errors.Join(fmt.Errorf("as %s", s), fmt.Errorf("as %q", &s)))
	shown(t, "an error", err.Error())
	shown(t, "an error's Go syntax", fmt.Sprintf("%#v", err))
	func() {
		defer func() { shown(t, "a panic", fmt.Sprint(recover())) }()
		panic(s)
	}()
}

// TestSecretInLogs logs a secret, and what holds one, in both formats.
func TestSecretInLogs(t *testing.T) {
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			s := vault.NewSecret(canary)
			log := slog.New(handler(&b)).With("with", s, slog.Group("group", "inner", s))
			log.Info("message", "secret", s, "pointer", &s, "credential", vault.Credential{Text: s}, "struct", holder(), "list", []vault.Secret{s})
			shown(t, "the log", b.String())
			if strings.Count(b.String(), "***") < 4 {
				t.Errorf("the log lacks the ***: %s", b.String())
			}
		})
	}
}

// TestSecretMarshals writes what holds a secret as JSON and YAML.
func TestSecretMarshals(t *testing.T) {
	for name, marshal := range map[string]func(any) ([]byte, error){"json": json.Marshal, "yaml": yaml.Marshal} {
		t.Run(name, func(t *testing.T) {
			s := vault.NewSecret(canary)
			for what, value := range map[string]any{
				"a secret": s, "a pointer": &s, "a struct": holder(), "a map": map[string]any{"k": s}, "a list": []any{s, &s}, "a credential": vault.Credential{Text: s},
			} {
				data, err := marshal(value)
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				shown(t, what, string(data))
				if !bytes.Contains(data, []byte("***")) {
					t.Errorf("%s lacks the ***: %s", what, data)
				}
			}
		})
	}
	if text, err := vault.NewSecret(canary).MarshalText(); err != nil || string(text) != "***" {
		t.Errorf("as a text: %s, %v", text, err)
	}
	data, err := json.Marshal(map[vault.Secret]int{vault.NewSecret(canary): 1})
	if err != nil {
		t.Fatal(err)
	}
	shown(t, "a key", string(data))
}

func TestSecretReveals(t *testing.T) {
	if got := vault.NewSecret(canary).Reveal(); got != canary {
		t.Errorf("it reveals %q", got)
	}
	for what, s := range map[string]vault.Secret{"the zero secret": {}, "the secret of nothing": vault.NewSecret("")} {
		if !s.IsZero() || s.Reveal() != "" {
			t.Errorf("%s: IsZero %t, reveals %q", what, s.IsZero(), s.Reveal())
		}
		if got := fmt.Sprint(s); got != "***" {
			t.Errorf("%s prints %s, which tells that there is none", what, got)
		}
	}
	if vault.NewSecret("x").IsZero() {
		t.Error("a secret is zero")
	}
}

func TestCredentialReads(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := vault.NewSecret("from the text")
	for name, tc := range map[string]struct {
		credential vault.Credential
		want       string
	}{
		"none":                    {vault.Credential{}, ""},
		"a text":                  {vault.Credential{Text: text}, "from the text"},
		"a file":                  {vault.Credential{File: file("plain", "pw")}, "pw"},
		"a file before a text":    {vault.Credential{File: file("both", "pw"), Text: text}, "pw"},
		"a line break at its end": {vault.Credential{File: file("lf", "pw\n")}, "pw"},
		"one of Windows":          {vault.Credential{File: file("crlf", "pw\r\n")}, "pw"},
		"blanks and inner breaks": {vault.Credential{File: file("inner", " p\nw \n")}, " p\nw "},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.credential.IsZero() != (tc.want == "") {
				t.Errorf("IsZero says %t", tc.credential.IsZero())
			}
			got, err := tc.credential.Read()
			if err != nil || got.Reveal() != tc.want {
				t.Errorf("got %q, %v; want %q", got.Reveal(), err, tc.want)
			}
		})
	}
}

// TestCredentialReadsAnew changes the file between two uses, as a rotation does.
func TestCredentialReadsAnew(t *testing.T) {
	c := vault.Credential{File: filepath.Join(t.TempDir(), "pw")}
	for _, want := range []string{"old", "new"} {
		if err := os.WriteFile(c.File, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Read(); err != nil || got.Reveal() != want {
			t.Errorf("got %q, %v; want %q", got.Reveal(), err, want)
		}
	}
}

func TestCredentialErrors(t *testing.T) {
	missing := vault.Credential{File: filepath.Join(t.TempDir(), "missing"), Text: vault.NewSecret(canary)}
	s, err := missing.Read()
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing.File) || !s.IsZero() {
		t.Errorf("a missing file: %q, %v", s.Reveal(), err)
	}
	shown(t, "the error", fmt.Sprint(err))
	empty := vault.Credential{File: filepath.Join(t.TempDir(), "empty")}
	if err := os.WriteFile(empty.File, []byte("\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = empty.Read(); err == nil || !strings.Contains(err.Error(), empty.File) || !s.IsZero() {
		t.Errorf("an empty file: %q, %v", s.Reveal(), err)
	}
}
