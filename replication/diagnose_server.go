package replication

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/doctor"
)

const (
	// sendersNeeded is the stream, and a connection that a start has beside it.
	sendersNeeded = 2
	// maxSkew is what clocks may differ by before it is told.
	maxSkew = time.Second
	// expirySoon is how early the end of a role's password is told.
	expirySoon = 14 * 24 * time.Hour
	// openLong is the age from which on an open transaction is told.
	openLong = time.Minute
	// retainedMuch is the WAL, in bytes, that a slot may keep without a reader before it is told.
	retainedMuch = 1 << 30
)

func (d *diagnosis) checkVersion(ctx context.Context) error {
	var err error
	if d.version, err = sqlVersion(ctx, d.conn); err != nil {
		return err
	}
	if d.version < oldestVersion {
		return fault.New(fault.PostgresSettings, "check the server", fmt.Errorf("the server is Postgres %d.%d", d.version/10000, d.version%10000), "walferry needs Postgres 14 or later.")
	}
	var roles []string
	if err := d.conn.QueryRow(ctx, "SELECT coalesce(array_agg(rolname::text), '{}') FROM pg_roles").Scan(&roles); err != nil {
		return explain("read the roles", err)
	}
	for _, p := range providers {
		for _, r := range roles {
			if r == p.role {
				d.platform = p.platform
			}
		}
	}
	d.ok("server_version", "Postgres %d.%d", d.version/10000, d.version%10000)
	return nil
}

// What this pipeline itself holds is free for it.
const walQuery = `
SELECT current_setting('wal_level'), current_setting('max_replication_slots')::int, current_setting('max_wal_senders')::int,
    current_setting('max_slot_wal_keep_size'), (SELECT setting::int FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
    (SELECT count(*)::int FROM pg_replication_slots WHERE slot_name <> $1),
    (SELECT count(*)::int FROM pg_stat_replication WHERE application_name <> $2)`

func (d *diagnosis) checkWAL(ctx context.Context) error {
	var (
		level, keep                                       string
		maxSlots, maxSenders, keepMB, otherSlots, senders int
	)
	err := d.conn.QueryRow(ctx, walQuery, d.cfg.Slot.Name, "walferry-"+d.cfg.Pipeline).
		Scan(&level, &maxSlots, &maxSenders, &keep, &keepMB, &otherSlots, &senders)
	if err != nil {
		return explain("read the settings", err)
	}
	if level == "logical" {
		d.ok("wal_level", "wal_level is logical")
	} else {
		d.add(doctor.Finding{
			ID: "wal_level", Severity: doctor.Error, Code: fault.PostgresSettings, Found: "wal_level is " + level,
			Why: "the WAL does not hold what decoding needs", Fixes: []doctor.Fix{d.platform.setting("wal_level", "logical", "restart")},
		})
	}
	if otherSlots < maxSlots {
		d.ok("replication_slots", "%d of %d replication slots are in use by others", otherSlots, maxSlots)
	} else {
		d.add(doctor.Finding{
			ID: "replication_slots", Severity: doctor.Error, Code: fault.PostgresSettings,
			Found: fmt.Sprintf("all of the %d replication slots are in use by others", maxSlots), Why: "the slot of the pipeline cannot be made",
			Fixes: []doctor.Fix{
				d.platform.setting("max_replication_slots", fmt.Sprint(otherSlots+10), "restart"),
				{Kind: doctor.Advice, Do: "Or drop a slot that nobody needs: SELECT slot_name, active FROM pg_replication_slots;"},
			},
		})
	}
	if maxSenders-senders >= sendersNeeded {
		d.ok("wal_senders", "%d of %d walsenders are in use by others", senders, maxSenders)
	} else {
		d.add(doctor.Finding{
			ID: "wal_senders", Severity: doctor.Warning,
			Found: fmt.Sprintf("%d of %d walsenders are in use by others", senders, maxSenders), Why: "a start needs two at once",
			Fixes: []doctor.Fix{d.platform.setting("max_wal_senders", fmt.Sprint(senders+10), "restart")},
		})
	}
	if keepMB >= 0 {
		d.ok("slot_wal_limit", "max_slot_wal_keep_size is %s", keep)
		return nil
	}
	d.add(doctor.Finding{
		ID: "slot_wal_limit", Severity: doctor.Warning, Found: "max_slot_wal_keep_size is not set",
		Why:   "a slot keeps WAL for as long as its pipeline stands still, until the disk of the server is full",
		Fixes: []doctor.Fix{withNote(d.platform.setting("max_slot_wal_keep_size", "50GB", "reload"), "choose what the disk can bear: a slot that needs more is lost")},
	})
	return nil
}

func withNote(f doctor.Fix, note string) doctor.Fix {
	if f.Note != "" {
		note = f.Note + "; " + note
	}
	f.Note = note
	return f
}

func (d *diagnosis) checkEncoding(ctx context.Context) error {
	var encoding string
	if err := d.conn.QueryRow(ctx, "SELECT current_setting('server_encoding')").Scan(&encoding); err != nil {
		return explain("read the encoding", err)
	}
	if encoding != "SQL_ASCII" {
		d.ok("encoding", "text is %s", encoding)
		return nil
	}
	d.add(doctor.Finding{
		ID: "encoding", Severity: doctor.Warning, Found: "the database takes any bytes for text (SQL_ASCII)",
		Why:   "the server cannot send a text that is not UTF-8: the stream stops at the first such row",
		Fixes: []doctor.Fix{{Kind: doctor.Advice, Do: "Copy the database into one with ENCODING 'UTF8', or make sure that applications write UTF-8 alone."}},
	})
	return nil
}

// checkClock asks for the time three times and believes the quickest answer.
func (d *diagnosis) checkClock(ctx context.Context) error {
	var best, offset time.Duration
	for try := range 3 {
		var at time.Time
		sent := d.now()
		if err := d.conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&at); err != nil {
			return explain("ask for the time", err)
		}
		took := d.now().Sub(sent)
		if try == 0 || took < best {
			best, offset = took, at.Sub(sent.Add(took/2))
		}
	}
	// The truth may be off by half of the way.
	if offset.Abs() <= maxSkew+best/2 {
		d.ok("clock", "the clocks of Postgres and this machine differ by less than %s", maxSkew+best/2)
		return nil
	}
	d.add(doctor.Finding{
		ID: "clock", Severity: doctor.Warning, Found: fmt.Sprintf("the clock of Postgres is %s off from this machine's", offset.Round(100*time.Millisecond)),
		Why:   "lag is told wrong by that much, and certificates and logins may fail",
		Fixes: []doctor.Fix{{Kind: doctor.Command, Do: "chronyc tracking, on both machines", Note: "or whatever keeps the time there"}},
	})
	return nil
}

const roleQuery = `
SELECT r.rolsuper, r.rolreplication, r.rolcreatedb, r.rolcreaterole, r.rolbypassrls,
    CASE WHEN isfinite(r.rolvaliduntil) THEN extract(epoch FROM r.rolvaliduntil - now())::float8 END,
    EXISTS (SELECT FROM pg_roles g WHERE g.rolname = 'rds_replication' AND pg_has_role(r.oid, g.oid, 'MEMBER'))
FROM pg_roles r WHERE r.rolname = session_user`

func (d *diagnosis) checkRole(ctx context.Context) error {
	var super, replication, createDB, createRole, bypass, rdsMember bool
	var left *float64
	err := d.conn.QueryRow(ctx, roleQuery).Scan(&super, &replication, &createDB, &createRole, &bypass, &left, &rdsMember)
	if err != nil {
		return explain("read the role", err)
	}
	if super || replication || rdsMember {
		d.ok("role_replication", "role %s may read the stream", d.roleName)
	} else {
		d.add(doctor.Finding{
			ID: "role_replication", Severity: doctor.Error, Code: fault.PostgresPrivilege, Found: "role " + d.roleName + " has no right to replicate",
			Why: "the stream is read over a replication connection", Fixes: []doctor.Fix{d.platform.grantReplication(d.role)},
		})
	}
	d.checkExcess(super, createDB, createRole, bypass)
	if left == nil {
		return nil
	}
	until := time.Duration(*left * float64(time.Second))
	if until > expirySoon {
		d.ok("role_expiry", "the password of role %s is valid for %d days", d.roleName, int(until.Hours()/24))
		return nil
	}
	d.add(doctor.Finding{
		ID: "role_expiry", Severity: doctor.Warning, Found: fmt.Sprintf("the password of role %s is valid for %s only", d.roleName, until.Round(time.Second)),
		Why:   "a running stream goes on, but no new connection is let in after that",
		Fixes: []doctor.Fix{{Kind: doctor.SQL, Step: doctor.StepRole, Do: "ALTER ROLE " + d.role + " VALID UNTIL 'infinity';", Note: "or set a later day, or rotate"}},
	})
	return nil
}

// checkExcess tells of what the role has and walferry does not need.
func (d *diagnosis) checkExcess(super, createDB, createRole, bypass bool) {
	var has, without []string
	for _, a := range []struct {
		on   bool
		name string
	}{{super, "SUPERUSER"}, {createDB, "CREATEDB"}, {createRole, "CREATEROLE"}, {bypass, "BYPASSRLS"}} {
		if a.on {
			has, without = append(has, a.name), append(without, "NO"+a.name)
		}
	}
	if len(has) == 0 {
		d.ok("role_excess", "role %s has no right that walferry does not need", d.roleName)
		return
	}
	fix := doctor.Fix{
		Kind: doctor.SQL, Step: doctor.StepRole,
		Do:   "ALTER ROLE " + d.role + " " + strings.Join(without, " ") + ";",
		Undo: "ALTER ROLE " + d.role + " " + strings.Join(has, " ") + ";",
	}
	if super {
		fix = doctor.Fix{Kind: doctor.Advice, Do: "Make a role for walferry alone (CREATE ROLE walferry LOGIN REPLICATION;) and put it into postgres.url."}
	}
	d.add(doctor.Finding{
		ID: "role_excess", Severity: doctor.Warning, Found: fmt.Sprintf("role %s has %s", d.roleName, strings.Join(has, ", ")),
		Why: "LOGIN and REPLICATION are enough, with no right on any table; whoever gets hold of the password has the rest, too", Fixes: []doctor.Fix{fix},
	})
}

var hbaHost = regexp.MustCompile(`pg_hba\.conf.* host "([^"]+)"`)

// hbaFixes are for a server whose pg_hba.conf has no line for us; none where that is not the cause.
func (d *diagnosis) hbaFixes(message string) []doctor.Fix {
	m := hbaHost.FindStringSubmatch(message)
	if m == nil {
		return nil
	}
	kind, bits := "hostssl", "/32"
	if strings.Contains(message, "no encryption") || strings.Contains(message, "SSL off") {
		kind = "host"
	}
	if strings.Contains(m[1], ":") {
		bits = "/128"
	}
	return []doctor.Fix{{
		Kind: doctor.Command, Then: "reload",
		Do:   fmt.Sprintf("%s  %s  %s  %s%s  scram-sha-256", kind, event.QuoteName(d.database), event.QuoteName(d.roleName), m[1], bits),
		Note: "a line for pg_hba.conf, above any line that rejects; a logical stream matches by the database, not by the keyword replication",
	}}
}

// Only transactions with an id are waited for. Others' start is visible to superusers and members of
// pg_read_all_stats.
const transactionsQuery = `
SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.usename::text, ''),
    extract(epoch FROM clock_timestamp() - a.xact_start)::float8, ''
FROM pg_stat_activity a WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_backend_pid()
UNION ALL
SELECT 0, '', owner::text, extract(epoch FROM clock_timestamp() - prepared)::float8, gid FROM pg_prepared_xacts
ORDER BY 4 DESC NULLS LAST`

func (d *diagnosis) checkTransactions(ctx context.Context) error {
	const id = "open_transactions"
	rows, err := d.conn.Query(ctx, transactionsQuery)
	if err != nil {
		return explain("read the open transactions", err)
	}
	defer rows.Close()
	n, hidden := 0, 0
	for rows.Next() {
		var (
			pid             int32
			app, user, name string
			age             *float64
		)
		if err := rows.Scan(&pid, &app, &user, &age, &name); err != nil {
			return explain("read the open transactions", err)
		}
		if n++; age == nil {
			hidden++
			continue
		}
		open := time.Duration(*age * float64(time.Second))
		if n > 1 || open < d.openLong {
			continue
		}
		open = open.Round(time.Second)
		f := doctor.Finding{
			ID: id, Severity: doctor.Warning, Subject: fmt.Sprintf("process %d", pid),
			Found: fmt.Sprintf("a transaction of %s (application %q) is open for %s", user, app, open),
			Why:   "a slot is made only once it has ended, and the WAL since its start is kept",
			Fixes: []doctor.Fix{{Kind: doctor.SQL, Step: doctor.StepRole, Do: fmt.Sprintf("SELECT pg_terminate_backend(%d);", pid), Note: "ends the application's session: ask whose it is"}},
		}
		if pid == 0 {
			f.Subject = "prepared transaction"
			f.Found = fmt.Sprintf("a prepared transaction of %s is open for %s", user, open)
			f.Fixes = []doctor.Fix{{Kind: doctor.Setting, Step: doctor.StepSetting, Do: fmt.Sprintf("ROLLBACK PREPARED %s;", literal(name)), Note: "or COMMIT PREPARED: ask whose it is"}}
		}
		d.add(f)
		return explain("read the open transactions", rows.Err())
	}
	if hidden > 0 {
		d.ok(id, "%d transactions are open; their age is visible to members of pg_read_all_stats only", n)
	} else {
		d.ok(id, "no transaction is open for more than %s", d.openLong)
	}
	return explain("read the open transactions", rows.Err())
}
