package config

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/walferry/walferry/vault"
)

// vault builds the connection to Vault. What the file leaves out, Vault's own environment may say. Where no
// secret names Vault, there must be no such connection either.
func (d *decoder) vault(s vaultSettings) vault.Config {
	if len(d.secrets) == 0 {
		if d.only == nil && d.givenWithin("vault") {
			d.reject("vault", "no secret is read from it: say vault.path under postgres, postgres.tls, kafka.sasl or kafka.tls, or leave it out")
		}
		return vault.Config{}
	}
	cfg := vault.Config{
		Address: s.Address, Namespace: s.Namespace, CAFile: s.CAFile, ServerName: s.ServerName,
		StartTimeout: s.StartTimeout, PollInterval: s.PollInterval,
	}
	if cfg.Address == "" {
		cfg.Address, _ = d.env("VAULT_ADDR")
	}
	if cfg.Address == "" {
		d.reject("vault.address", "is missing, and so is VAULT_ADDR")
	} else if err := checkVaultAddress(cfg.Address); err != nil {
		d.reject("vault.address", "%v", err)
	}
	if s.CAFile != "" {
		if err := checkFile(s.CAFile); err != nil {
			d.reject("vault.ca_file", "%v", err)
		}
	}
	if !slices.Equal(s.Redirects, []string{"never"}) {
		cfg.Redirects = s.Redirects
	}
	for i, host := range cfg.Redirects {
		if host == "never" || strings.ContainsAny(host, "/@ ") {
			d.reject(fmt.Sprintf("vault.redirects[%d]", i), "want host or host:port, or the one word never in place of a list")
		}
	}
	cfg.Auth = d.auth(s.Auth)
	return cfg
}

// checkVaultAddress wants https, because a token goes with every request; http stays on this machine.
func checkVaultAddress(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.User != nil, u.RawQuery != "", strings.Trim(u.Path, "/") != "":
		return fmt.Errorf("not an address: want https://host:port alone")
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return fmt.Errorf("want https: over http everyone in between could read the token (http is for an agent on this machine)")
	default:
		return fmt.Errorf("want https://host:port")
	}
}

// needs are the keys of vault.auth that a method must have; the first of them may come from a default.
var needs = map[string][]string{
	vault.MethodAppRole:    {"role_id", "secret_id_file"},
	vault.MethodToken:      {"token"},
	vault.MethodTokenFile:  {"token_file"},
	vault.MethodKubernetes: {"role", "jwt_file"},
	vault.MethodJWT:        {"role", "jwt_file"},
	vault.MethodCert:       {"cert_file", "key_file"},
}

// may are those that it can have besides.
var may = map[string][]string{
	vault.MethodAppRole: {"mount", "secret_id_wrapped"}, vault.MethodKubernetes: {"mount"}, vault.MethodJWT: {"mount"},
	vault.MethodCert: {"mount", "role"},
}

// serviceAccountToken is where Kubernetes mounts it.
const serviceAccountToken = "/var/run/secrets/kubernetes.io/serviceaccount/token" //nolint:gosec // a path

// auth builds the login.
func (d *decoder) auth(s authSettings) vault.Auth {
	const key = "vault.auth"
	if s.Method == "" {
		d.reject(key+".method", "is missing: want one of %s", strings.Join(vault.Methods(), ", "))
		return vault.Auth{}
	}
	d.oneOf(key+".method", s.Method)
	if s.Method == vault.MethodKubernetes && s.JWTFile == "" {
		s.JWTFile = serviceAccountToken
	}
	if s.Method == vault.MethodToken && s.Token == "" {
		s.Token, _ = d.env("VAULT_TOKEN")
	}
	a := vault.Auth{
		Method: s.Method, Mount: strings.Trim(s.Mount, "/"), Role: s.Role, RoleID: s.RoleID,
		SecretIDFile: s.SecretIDFile, SecretIDWrapped: s.SecretIDWrapped,
		Token: vault.NewSecret(s.Token), TokenFile: s.TokenFile, JWTFile: s.JWTFile, CertFile: s.CertFile, KeyFile: s.KeyFile,
	}
	values := map[string]string{
		"role": s.Role, "role_id": s.RoleID, "secret_id_file": s.SecretIDFile, "token": s.Token, "token_file": s.TokenFile,
		"jwt_file": s.JWTFile, "cert_file": s.CertFile, "key_file": s.KeyFile, "mount": s.Mount, "secret_id_wrapped": "",
	}
	wanted, known := needs[s.Method]
	if !known {
		return a
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		at := key + "." + name
		switch {
		case slices.Contains(wanted, name):
			if values[name] == "" {
				d.reject(at, "is missing; the method %s needs it", s.Method)
			}
		case d.given(at) && !slices.Contains(may[s.Method], name):
			d.reject(at, "is not used by the method %s", s.Method)
		}
	}
	for name, file := range map[string]string{"secret_id_file": s.SecretIDFile, "token_file": s.TokenFile, "jwt_file": s.JWTFile, "key_file": s.KeyFile} {
		if file == "" || !slices.Contains(wanted, name) {
			continue
		}
		if err := checkSecretFile(file); err != nil {
			d.reject(key+"."+name, "%v", err)
		}
	}
	return a
}

// login names a secret with user and password. Where the configuration says the user, or there is none, the
// password alone is read.
func (d *decoder) login(section, name string, s secretSettings, alone bool) *vault.Entry {
	fields := map[string]string{vault.FieldUsername: vault.FieldUsername, vault.FieldPassword: vault.FieldPassword}
	if alone {
		delete(fields, vault.FieldUsername)
	}
	return d.secret(section, name, s, fields, vault.FieldUsername, vault.FieldPassword, vault.FieldSession)
}

// certificate names a secret with a client certificate, an authority, or both.
func (d *decoder) certificate(section, name string, s secretSettings) *vault.Entry {
	fields := map[string]string{vault.FieldCertificate: vault.FieldCertificate, vault.FieldPrivateKey: vault.FieldPrivateKey}
	return d.secret(section, name, s, fields, vault.FieldCertificate, vault.FieldPrivateKey, vault.FieldCA)
}

// secret makes the entry of one secret, nil where the section does not name Vault. fields are the defaults.
func (d *decoder) secret(section, name string, s secretSettings, fields map[string]string, known ...string) *vault.Entry {
	key := section + ".vault"
	if !d.givenWithin(key) {
		return nil
	}
	path := strings.Trim(s.Path, "/")
	switch {
	case path == "" && !d.rejected(key+".path"):
		d.reject(key+".path", "is missing: say what to read, such as kv/data/walferry or database/creds/walferry")
	case strings.ContainsAny(path, "?#% ") || strings.Contains(path, "..") || strings.HasPrefix(path, "v1/"):
		d.reject(key+".path", "want the path alone, as the vault command takes it, without v1/ in front")
	}
	if d.given(key + ".fields") {
		fields = s.Fields
	}
	for _, ours := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(known, ours) {
			d.reject(key+".fields."+ours, "is not a field that is used here; those are %s", strings.Join(known, ", "))
		}
	}
	if len(fields) == 0 {
		d.reject(key+".fields", "names no field; leave it out for %s", strings.Join(known, ", "))
	}
	if (fields[vault.FieldCertificate] == "") != (fields[vault.FieldPrivateKey] == "") {
		d.reject(key+".fields", "certificate and private_key go together")
	}
	if slices.Contains(known, vault.FieldPassword) && fields[vault.FieldPassword] == "" && len(fields) > 0 {
		d.reject(key+".fields", "lacks the password")
	}
	e := vault.NewEntry(vault.Spec{Name: name, Path: path, Fields: fields, Params: s.Params})
	d.secrets = append(d.secrets, e)
	return e
}

// twice rejects a key whose secret Vault gives too.
func (d *decoder) twice(key string, both bool) {
	if both {
		d.reject(key, "Vault gives it too; leave one of them out")
	}
}

// givenWithin tells whether the section, or a key below it, stands in the file.
func (d *decoder) givenWithin(section string) bool {
	for key := range d.places {
		if strings.HasPrefix(key, section+".") {
			return true
		}
	}
	return false
}
