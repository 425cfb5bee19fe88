package config

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/replication"
	"github.com/walferry/walferry/vault"
)

var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// postgres builds what is read.
func (d *decoder) postgres(s settings) replication.Config {
	p := s.Postgres
	slot, publication := p.Slot.Name, p.Publication.Name
	if !d.given("postgres.slot.name") {
		slot = "walferry_" + s.Name
	} else if !slotName.MatchString(slot) {
		d.reject("postgres.slot.name", "%s is not a slot name: want 1 to 63 lower-case letters, digits and underscores", d.shown("postgres.slot.name", slot))
	}
	if !d.given("postgres.publication.name") {
		publication = "walferry_" + s.Name
	} else if publication == "" || len(publication) > maxIdentifier || strings.ContainsRune(publication, 0) {
		d.reject("postgres.publication.name", "want 1 to %d bytes", maxIdentifier)
	}
	d.oneOf("postgres.publication.manage", p.Publication.Manage)
	for i, prefix := range p.Messages.Prefixes {
		if prefix == "" {
			d.reject(fmt.Sprintf("postgres.messages.prefixes[%d]", i), "is empty")
		}
	}
	cfg := replication.Config{
		Pipeline:        s.Name,
		Tables:          d.tableSpecs(p.Tables),
		AllTables:       p.Tables.all,
		Slot:            replication.SlotConfig{Name: slot, Create: p.Slot.Create, Adopt: p.Slot.Adopt},
		Publication:     replication.PublicationConfig{Name: publication, Create: p.Publication.Manage == "create"},
		MessagePrefixes: p.Messages.Prefixes,
	}
	cfg.URL, cfg.Password = d.connection(p)
	cfg.Vault = d.login("postgres", "postgres", p.Vault, false)
	if cfg.Vault != nil {
		d.twice("postgres.password", !cfg.Password.IsZero())
	}
	cfg.TLSVault = d.certificate("postgres.tls", "postgres_tls", p.TLS.Vault)
	return cfg
}

func (d *decoder) tableSpecs(list tableList) []replication.TableSpec {
	const key = "postgres.tables"
	if !list.all && len(list.entries) == 0 {
		if !d.rejected(key) {
			d.reject(key, "is missing: name tables here or by --tables, such as public.orders or inventory.*, or say all")
		}
		return nil
	}
	var specs []replication.TableSpec
	first := map[string]int{}
	for i, entry := range list.entries {
		item := fmt.Sprintf("%s[%d]", key, i)
		if entry.Table == "" && (d.rejected(item) || d.rejected(item+".table")) {
			continue
		}
		spec, err := parseTable(entry.Table)
		if err != nil {
			d.reject(item, "%s: %v", entry.Table, err)
			continue
		}
		id := fmt.Sprintf("%q.%q %v", spec.Schema, spec.Name, spec.Pattern)
		if at, twice := first[id]; twice {
			d.reject(item, "%s stands there twice, first as %s[%d]", entry.Table, key, at)
			continue
		}
		first[id] = i
		spec.Key = d.columnNames(item+".key", "for the table's own key", entry.Key)
		spec.Columns = d.columnNames(item+".columns", "for all of them", entry.Columns)
		spec.Where = d.where(item+".where", entry.Where)
		if spec.Pattern {
			d.ofOneTable(item, entry.Table)
		}
		specs = append(specs, spec)
	}
	return specs
}

// ofOneTable refuses what a pattern cannot have.
func (d *decoder) ofOneTable(item, table string) {
	for _, k := range []struct{ key, what string }{{".key", "a key is"}, {".columns", "columns are"}, {".where", "a filter is"}} {
		if d.given(item + k.key) {
			d.reject(item+k.key, "%s of one table; %s is a pattern", k.what, table)
		}
	}
}

// where reads a row filter. Whether it is one only the server can tell.
func (d *decoder) where(key, text string) string {
	text = strings.TrimSpace(text)
	if d.given(key) && text == "" && !d.rejected(key) {
		d.reject(key, "is empty; leave it out for all rows")
	}
	return text
}

// columnNames reads names of columns; without says what leaving the key out stands for.
func (d *decoder) columnNames(key, without string, columns []string) []string {
	if d.given(key) && len(columns) == 0 && !d.rejected(key) {
		d.reject(key, "names no column; leave it out %s", without)
	}
	var names []string
	for i, column := range columns {
		name, err := identifier(strings.TrimSpace(column), false)
		if err != nil {
			d.reject(fmt.Sprintf("%s[%d]", key, i), "%v", err)
			continue
		}
		if slices.Contains(names, name) {
			d.reject(fmt.Sprintf("%s[%d]", key, i), "%s stands there twice", name)
		}
		names = append(names, name)
	}
	return names
}

// connection returns the URL without a password, and the password, from whichever of the three
// keys has it.
func (d *decoder) connection(p postgresSettings) (string, vault.Credential) {
	const key = "postgres.url"
	password := d.credential("postgres.password", p.Password, p.PasswordFile)
	if p.URL == "" {
		if !d.outsideSaysHost() && !d.rejected(key) {
			d.reject(key, "is missing: say it here or by --from, such as postgres://cdc@db:5432/shop")
		}
		return "", password
	}
	bare, secret, err := splitPassword(p.URL)
	if err != nil {
		d.reject(key, "%v", err)
		return "", password
	}
	local, err := checkURL(bare)
	if secret == "" {
		if err != nil {
			d.reject(key, "%v", err)
		}
		return bare, password
	}
	switch {
	case d.places[key].flag != "" && (err != nil || !local):
		d.add(problem{
			at: d.placeOf(key), key: key, code: fault.PasswordInArguments,
			text: "the URL holds a password, and every user of the machine can read the arguments",
			hint: "Leave it out of the URL and say it by PGPASSWORD, by a passfile (~/.pgpass or PGPASSFILE), or by postgres.password_file.",
		})
	case err != nil:
		d.reject(key, "%v", err)
	case !password.IsZero():
		d.reject(key, "the URL holds a password, and so does postgres.password or postgres.password_file; leave one of them out")
	}
	return bare, vault.Credential{Text: vault.NewSecret(secret)}
}

// outsideSaysHost tells whether the environment says which server is meant, so that libpq's
// variables work without any URL.
func (d *decoder) outsideSaysHost() bool {
	for _, name := range []string{"PGHOST", "PGSERVICE"} {
		if v, _ := d.env(name); v != "" {
			return true
		}
	}
	return false
}

// checkURL wants what the Postgres client can parse, and tells whether every host is on loopback
// or a Unix socket. The URL has no password any more.
func checkURL(text string) (local bool, err error) {
	cfg, err := pgconn.ParseConfig(text)
	if err != nil {
		// The client quotes the URL first; its reason comes after that.
		_, reason, ok := strings.Cut(err.Error(), "`: ")
		if !ok {
			reason = "it is neither a URL nor keywords of libpq"
		}
		return false, fmt.Errorf("not a connection string: %s", reason)
	}
	local = onMachine(cfg.Host)
	for _, other := range cfg.Fallbacks {
		local = local && onMachine(other.Host)
	}
	return local, nil
}

func onMachine(host string) bool {
	return strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || isLoopback(host)
}

// splitPassword takes the password out of a connection string, a URL or libpq's keywords. Its
// errors show nothing of the string.
func splitPassword(text string) (bare, password string, err error) {
	for _, scheme := range []string{"postgres://", "postgresql://"} {
		if rest, ok := strings.CutPrefix(text, scheme); ok {
			bare, password, err = splitURL(rest)
			return scheme + bare, password, err
		}
	}
	if strings.Contains(text, "://") {
		return "", "", errors.New("not a connection string: a URL begins with postgres://")
	}
	return splitKeywords(text)
}

// errStrayAt: libpq would read what stands before the @ as host and port.
var errStrayAt = errors.New("an @ stands where none belongs; in a user name or password write @ as %40, / as %2F, ? as %3F and : as %3A")

// splitURL does it for what follows the scheme, by libpq's rules of where the parts begin.
func splitURL(rest string) (bare, password string, err error) {
	var user string
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
		name, pw, _ := strings.Cut(rest[:i], ":")
		if password, err = url.PathUnescape(pw); err != nil {
			return "", "", errors.New("the password in the URL holds a % that no two hexadecimal digits follow; write % as %25")
		}
		user, rest = name+"@", rest[i+1:]
	}
	target, query, hasQuery := strings.Cut(rest, "?")
	if strings.Contains(target, "@") {
		return "", "", errStrayAt
	}
	if !hasQuery {
		return user + target, password, nil
	}
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		name, err := url.PathUnescape(key)
		if err != nil {
			return "", "", errors.New("a parameter of the URL is not percent-encoded as it should be")
		}
		switch name {
		case "password":
			if password, err = url.PathUnescape(value); err != nil {
				return "", "", errors.New("the password in the URL is not percent-encoded as it should be")
			}
		case "sslpassword":
			return "", "", errSSLPassword
		default:
			kept = append(kept, pair)
		}
	}
	if len(kept) > 0 {
		target += "?" + strings.Join(kept, "&")
	}
	return user + target, password, nil
}

// errSSLPassword: nothing of ours would carry it on unseen.
var errSSLPassword = errors.New("sslpassword may not stand here; use PGSSLPASSWORD")

// keyword is one setting of libpq's keyword form, with its value as written: in quotes with
// backslashes, or bare.
var keyword = regexp.MustCompile(`^\s*([A-Za-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)(?:[^\s\\]|\\.)*|)(?:\s+|$)`)

// splitKeywords does it for libpq's keyword form.
func splitKeywords(text string) (bare, password string, err error) {
	var kept []string
	for strings.TrimSpace(text) != "" {
		m := keyword.FindStringSubmatch(text)
		if m == nil {
			return "", "", errors.New("not a connection string: want postgres://user@host:port/database, or keywords such as host=db user=cdc")
		}
		switch m[1] {
		case "password":
			password = unquoteKeyword(m[2])
		case "sslpassword":
			return "", "", errSSLPassword
		default:
			kept = append(kept, m[1]+"="+m[2])
		}
		text = text[len(m[0]):]
	}
	return strings.Join(kept, " "), password, nil
}

// unquoteKeyword takes away the quotes, and each backslash that protects the next character.
func unquoteKeyword(value string) string {
	if len(value) >= 2 && value[0] == '\'' {
		value = value[1 : len(value)-1]
	}
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] == '\\' && i+1 < len(value) {
			i++
		}
		b.WriteByte(value[i])
	}
	return b.String()
}
