package vault

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// answer is what Vault said of a secret, apart from the fields themselves.
type answer struct {
	// lease is of a credential that Vault made for us and will revoke; empty for any other.
	lease     string
	duration  time.Duration
	renewable bool
	// expires is the end of a lease or of a certificate; zero where there is none.
	expires time.Time
	// rotates is after which time Vault changes the password of a static role; 0 for other secrets.
	rotates time.Duration
	// issued tells that the certificate was made for us: it is renewed before it ends.
	issued bool
	// version is that of a key-value secret of version 2; 0 for others.
	version string
}

// maxDuration is the longest time that is believed: longer ones would overflow, or are nonsense.
const maxDuration = 10 * 365 * 24 * time.Hour

// parseAnswer takes the wanted fields out of Vault's answer. wanted maps our names of the fields to
// Vault's. It never shows a value in an error.
func parseAnswer(s *api.Secret, spec Spec, now time.Time) (answer, map[string]Secret, error) {
	if s == nil {
		return answer{}, nil, errors.New("there is no such secret")
	}
	data, version, err := unversioned(s)
	if err != nil {
		return answer{}, nil, err
	}
	a := answer{lease: s.LeaseID, duration: seconds(s.LeaseDuration), renewable: s.Renewable, version: version}
	if a.lease != "" {
		a.expires = now.Add(a.duration)
	}
	if _, is := data["last_vault_rotation"]; is {
		ttl, err := number(data["ttl"])
		if err != nil {
			return answer{}, nil, fmt.Errorf("the field ttl %w", err)
		}
		a.rotates = max(time.Second, seconds(ttl))
	}
	fields := make(map[string]Secret, len(spec.Fields))
	for ours, theirs := range spec.Fields {
		text, err := fieldText(data, theirs)
		if err != nil {
			return answer{}, nil, fmt.Errorf("the field %s %w", theirs, err)
		}
		fields[ours] = NewSecret(text)
	}
	if err := a.certificate(data, spec, fields); err != nil {
		return answer{}, nil, err
	}
	return a, fields, nil
}

// unversioned returns the fields of a secret. Version 2 of the key-value engine puts them, beside
// metadata, one level deeper.
func unversioned(s *api.Secret) (data map[string]any, version string, err error) {
	meta, is := s.Data["metadata"].(map[string]any)
	inner, has := s.Data["data"]
	if !is || !has || len(s.Data) != 2 {
		if s.Data == nil {
			if len(s.Warnings) > 0 {
				return nil, "", errors.New(clip(strings.Join(s.Warnings, "; ")))
			}
			return nil, "", errors.New("the answer holds no data")
		}
		return s.Data, "", nil
	}
	version = fmt.Sprint(meta["version"])
	data, ok := inner.(map[string]any)
	switch {
	case ok:
		return data, clip(version), nil
	case inner == nil && (meta["deletion_time"] != "" || meta["destroyed"] == true):
		return nil, "", fmt.Errorf("version %s was deleted", clip(version))
	default:
		return nil, "", errors.New("the answer holds no data")
	}
}

// fieldText returns a field as text: a text, a number, or a list of texts, a line each.
func fieldText(data map[string]any, name string) (string, error) {
	switch v := data[name].(type) {
	case nil:
		return "", errors.New("is missing")
	case string:
		if v == "" {
			return "", errors.New("is empty")
		}
		return v, nil
	case json.Number:
		return v.String(), nil
	case []any:
		lines := make([]string, 0, len(v))
		for _, item := range v {
			line, ok := item.(string)
			if !ok {
				return "", errors.New("is a list of something else than texts")
			}
			lines = append(lines, strings.TrimSpace(line))
		}
		if len(lines) == 0 {
			return "", errors.New("is empty")
		}
		return strings.Join(lines, "\n"), nil
	default:
		return "", errors.New("is not a text")
	}
}

// certificate checks a certificate and its key, puts the chain behind it, and notes when it ends.
func (a *answer) certificate(data map[string]any, spec Spec, fields map[string]Secret) error {
	if ca := fields[FieldCA]; !ca.IsZero() && !x509.NewCertPool().AppendCertsFromPEM([]byte(ca.Reveal())) {
		return fmt.Errorf("the field %s holds no certificate in PEM form", spec.Fields[FieldCA])
	}
	cert := fields[FieldCertificate]
	if cert.IsZero() {
		return nil
	}
	text := cert.Reveal()
	// An intermediate authority's certificate goes with ours, or the server cannot follow the chain.
	if chain, err := fieldText(data, "ca_chain"); err == nil {
		text = strings.TrimSpace(text) + "\n" + chain
		fields[FieldCertificate] = NewSecret(text)
	}
	// The cause of an error may quote what it was made of.
	pair, err := tls.X509KeyPair([]byte(text), []byte(fields[FieldPrivateKey].Reveal()))
	if err != nil {
		return fmt.Errorf("the fields %s and %s are not a certificate and its key in PEM form", spec.Fields[FieldCertificate], spec.Fields[FieldPrivateKey])
	}
	a.issued = len(spec.Params) > 0
	if end := pair.Leaf.NotAfter; a.expires.IsZero() || end.Before(a.expires) {
		a.expires = end
	}
	return nil
}

// number reads a whole number of the JSON.
func number(v any) (int, error) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, errors.New("is not a number")
	}
	i, err := n.Int64()
	if err != nil || i < 0 || i > int64(maxDuration/time.Second) {
		return 0, errors.New("is not a number of seconds")
	}
	return int(i), nil
}

// seconds is a duration of Vault's, within what is believed.
func seconds(n int) time.Duration {
	return time.Duration(min(max(n, 0), int(maxDuration/time.Second))) * time.Second
}

// clip bounds a text of Vault's that gets into an error.
func clip(text string) string {
	const most = 400
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}
