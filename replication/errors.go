package replication

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walferry/walferry/fault"
)

// explain turns what pgconn or the server said into a *fault.Error that says who can help and how.
// An error that is one already, and a cancelled context, are passed on with op in front.
//
// Where the server uses one SQLSTATE for several causes, the routine that raised it tells them
// apart, and the message only where that does not: messages are translated, routines are not.
func explain(op string, err error) error {
	if err == nil {
		return nil
	}
	if fault.Of(err) != nil || errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", op, err)
	}
	if pg := serverError(err); pg != nil {
		return explainServer(op, pg, err)
	}
	var scan *pgx.ScanArgError
	if errors.As(err, &scan) || errors.Is(err, pgx.ErrNoRows) || errors.Is(err, pgx.ErrTooManyRows) {
		return fault.New(fault.Internal, op, err, "") // an answer that our own query did not expect
	}
	// What is left is the network: a refused or broken connection, a name that does not resolve, a timeout.
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer in time: %w", err)
	}
	return fault.New(fault.PostgresUnavailable, op, err, "")
}

// explainConnect explains why there is no connection. With several hosts, or several ways to try
// one, there are as many causes: one that is settled goes first, then one that may pass by itself before
// one that needs a person, and what a server says to a login before that it has no TLS, which
// sslmode=prefer tries first.
func explainConnect(ctx context.Context, err error) error {
	const op = "connect to Postgres"
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%s: %w", op, ctx.Err())
	}
	var role string
	if ce := (*pgconn.ConnectError)(nil); errors.As(err, &ce) {
		role = ce.Config.User
	}
	whole := &oneLine{err}
	var first *fault.Error
	all := attempts(err)
	for _, attempt := range all {
		if errors.As(attempt, new(settled)) {
			return fault.Of(attempt)
		}
		e := explainTLS(op, attempt)
		if e == nil {
			e = fault.Of(explain(op, attempt))
		}
		if e != nil && (first == nil || precedence(e) < precedence(first)) {
			first = e
		}
	}
	if first == nil {
		return fault.New(fault.PostgresUnavailable, op, whole, "")
	}
	if first.Code == fault.PostgresPrivilege {
		first.Hint = grantReplication(role)
	}
	if fault.Of(err) != nil && len(all) == 1 {
		return first // a refusal of ours, which says it all
	}
	said := *first // first may be what whole holds
	said.Err = whole
	return &said
}

// precedence tells which of several causes counts: the lowest, and among equals the first.
func precedence(e *fault.Error) int {
	switch {
	case e.Code.Kind() == fault.KindRetry:
		return 0
	case e.Code != fault.PostgresTLS:
		return 1
	default:
		return 2
	}
}

// attempts are the errors of the single attempts that a connect made.
func attempts(err error) []error {
	var ce *pgconn.ConnectError
	if errors.As(err, &ce) {
		err = ce.Unwrap()
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// oneLine prints an error without line breaks: pgconn gives each attempt a line.
type oneLine struct{ err error }

func (e *oneLine) Error() string {
	return strings.Join(strings.FieldsFunc(e.err.Error(), func(r rune) bool { return r == '\n' || r == '\t' }), "; ")
}
func (e *oneLine) Unwrap() error { return e.err }

func serverError(err error) *pgconn.PgError {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg
	}
	return nil
}

// explainServer explains what the server said.
func explainServer(op string, pg *pgconn.PgError, err error) error {
	code, hint := classify(pg)
	switch {
	case wordsHoldData(pg.Code):
		err = &withheld{pg}
	case pg.Detail != "" && tellsDetail(code):
		err = fmt.Errorf("%w: %s", err, pg.Detail)
	}
	e := fault.New(code, op, err, hint)
	e.LSN = associatedLSN(pg.Where)
	return e
}

// tellsDetail tells whether the server's detail belongs to the error. It never holds a value of a
// row for these codes.
func tellsDetail(code fault.Code) bool {
	return code == fault.SlotLost || code == fault.PostgresSettings || code == fault.PublicationMissing
}

// classify decides by SQLSTATE; see explain.
func classify(pg *pgconn.PgError) (fault.Code, string) {
	switch pg.Code {
	case "28P01":
		return fault.PostgresAuth, "Check user and password: password_file, PGPASSWORD or the passfile."
	case "28000":
		return fault.PostgresAuth, "Check that the role exists and may log in, and pg_hba.conf: a logical replication connection matches by the name of the database, not by the keyword replication."
	case "3D000":
		return fault.PostgresAuth, "Check the name of the database in the URL."
	case "42501":
		return fault.PostgresPrivilege, grantReplication("")
	case "53300":
		// Retried, because it passes: an application may have taken every connection for a moment, or
		// the walsender of a lost connection may not have ended yet.
		return fault.PostgresUnavailable, "The server has no connection left: raise max_connections, or max_wal_senders for replication (each needs a restart), or end what is not needed."
	case "53400":
		return fault.PostgresSettings, "All replication slots are in use: drop one that nobody needs (SELECT slot_name, active FROM pg_replication_slots;), or raise max_replication_slots and restart Postgres."
	case "42704":
		return undefinedObject(pg)
	case "55006":
		return fault.SlotBusy, "Another connection holds the slot. It is taken over once that one ends; after a lost connection the server needs up to wal_sender_timeout to notice."
	case "55000", "0A000", "22023":
		return notInState(pg)
	case "58P01":
		if strings.Contains(pg.Message, "WAL segment") {
			return fault.SlotLost, lostHint
		}
		return fault.PostgresUnavailable, ""
	case "25006":
		return fault.PostgresSettings, "The server is a standby and takes no changes: point the URL at the primary, or create what is missing there."
	case "22021", "22P05":
		return fault.StreamPoisoned, "The database holds text that is not valid in its encoding (SQL_ASCII databases take any bytes), so the server cannot send it as UTF-8. Write down what the transaction changed, then begin behind its commit:\nwalferry checkpoint set --lsn X/Y"
	case "42601":
		return fault.PostgresSettings, poolerHint
	case "08P01":
		return fault.PostgresSettings, poolerHint
	}
	switch {
	case strings.HasPrefix(pg.Code, "XX") && strings.Contains(pg.Message, "invalid memory alloc request size"),
		pg.Code == "54000":
		return fault.StreamPoisoned, "A value is too large for the server to send as text: a bytea over 512 MB needs more than 1 GB in hex. To begin behind its transaction:\nwalferry checkpoint set --lsn X/Y"
	case strings.HasPrefix(pg.Code, "08"), strings.HasPrefix(pg.Code, "57"), strings.HasPrefix(pg.Code, "53"),
		strings.HasPrefix(pg.Code, "58"), strings.HasPrefix(pg.Code, "40"), pg.Code == "55P03":
		return fault.PostgresUnavailable, ""
	}
	return fault.Internal, ""
}

// undefinedObject tells a missing slot from a missing publication.
func undefinedObject(pg *pgconn.PgError) (fault.Code, string) {
	switch {
	case strings.Contains(pg.Message, "publication") || strings.Contains(pg.Routine, "publication"):
		return fault.PublicationMissing, publicationHint
	case strings.HasPrefix(pg.Routine, "ReplicationSlot") || strings.Contains(pg.Message, "replication slot"):
		return fault.SlotMissing, "What it would have sent from here on is not kept for this pipeline any more. To begin with the present:\nwalferry checkpoint set --now"
	default:
		return fault.PostgresSettings, poolerHint // an unknown option or setting
	}
}

// notInState tells apart the many things that the server says with one SQLSTATE.
func notInState(pg *pgconn.PgError) (fault.Code, string) {
	msg := pg.Message + "\n" + pg.Detail
	has := func(texts ...string) bool {
		for _, t := range texts {
			if strings.Contains(msg, t) {
				return true
			}
		}
		return false
	}
	switch {
	case pg.Code == "55000" && (pg.Routine == "LoadPublications" || has("publication")): // 18 goes on without it, with a warning
		return fault.PublicationMissing, publicationHint
	case has("being synchronized from the primary"): // until the standby is promoted, which may be any moment
		return fault.PostgresUnavailable, standbyHint
	case has("was not created in this database"):
		return fault.SlotDatabase, "Point the URL at the database that the slot belongs to, or choose another slot name."
	case has("physical replication slot"), pg.Code == "22023" && has("option "):
		return fault.SlotPlugin, "The slot was made for another client. Choose another slot name."
	case has("invalidated", "can no longer", "cannot read from logical replication slot", "never previously reserved WAL"):
		return fault.SlotLost, lostHint
	case pg.Routine == "CheckLogicalDecodingRequirements", pg.Routine == "CheckSlotRequirements", has("wal_level", "max_replication_slots", "in recovery"):
		return fault.PostgresSettings, walLevelHint
	default:
		return fault.PostgresSettings, pg.Hint
	}
}

const (
	publicationHint = "Without it the changes of this time are lost to the slot. Create the publication again, and be aware that the slot cannot decode what was written while it was gone."
	lostHint        = "The WAL is gone, and with it the changes after the checkpoint; only a new slot and a new copy of the tables can close the gap. To keep it from happening again raise max_slot_wal_keep_size, and watch the lag. To drop the slot and begin with the present:\nwalferry checkpoint set --now"
	walLevelHint    = "ALTER SYSTEM SET wal_level = 'logical'; and restart Postgres (Amazon RDS: rds.logical_replication = 1; Cloud SQL: cloudsql.logical_decoding = on)."
	standbyHint     = "walferry reads from a primary. It goes on here once this server is promoted; if the primary is another one, name it in the URL as well: postgres://user@host1,host2/database."
	slotStaysHint   = "The new primary keeps nothing for this pipeline. Where the old primary is still there, deliver from it first; else begin with the present, and bring the consumers up to date by other means:\nwalferry checkpoint set --now\nFrom 17 on a slot made with failover follows a promotion, where the standby synchronizes it (sync_replication_slots)."
	poolerHint      = "The server does not understand replication connections. If PgBouncer or another pooler or proxy stands in between, connect to Postgres itself."
)

// grantReplication is the SQL that lets a role read the stream.
func grantReplication(role string) string {
	name := "the_role"
	if role != "" {
		name = pgx.Identifier{role}.Sanitize()
	}
	return fmt.Sprintf("ALTER ROLE %s REPLICATION;\n(Amazon RDS and Aurora: GRANT rds_replication TO %s;  Cloud SQL: ALTER USER %s WITH REPLICATION;)", name, name, name)
}

// explainTLS explains why a TLS connection did not come about, nil where it was something else.
func explainTLS(op string, err error) *fault.Error {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		roots     x509.SystemRootsError
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		alert     tls.AlertError
	)
	var hint string
	msg := err.Error()
	switch {
	case errors.As(err, &authority):
		hint = "The server's certificate is not signed by a trusted authority: name the right one with sslrootcert=FILE in the URL."
	case errors.As(err, &host):
		hint = "The server's certificate is for another host name: use the name it was made for in the URL, or sslmode=verify-ca to check the authority only."
	case errors.As(err, &invalid):
		hint = "The server's certificate is expired or not made for servers: renew it, and check the clocks."
	case errors.As(err, &roots):
		hint = "The system's certificates cannot be read: name an authority with sslrootcert=FILE in the URL."
	case strings.Contains(msg, "server refused TLS connection"):
		hint = "The server offers no TLS: turn it on there (ssl = on). Only where the network is trusted, add sslmode=disable to the URL."
	case errors.As(err, &alert), strings.Contains(msg, "remote error: tls:"):
		hint = "The server ended the TLS handshake. It may want a client certificate: sslcert=FILE and sslkey=FILE in the URL."
	case errors.As(err, &verify), strings.Contains(msg, "failed to parse certificate"):
		hint = "The server's certificate cannot be checked: have it made anew."
	case errors.As(err, &record):
		hint = "What answered does not speak TLS as Postgres does: check host and port."
	case strings.Contains(msg, "require_auth check failed"), strings.Contains(msg, "channel binding"):
		return fault.New(fault.PostgresAuth, op, err, "The server does not offer the authentication that the URL requires (require_auth, channel_binding).")
	case strings.Contains(msg, "sslcertmode check failed"):
		hint = "The URL says sslcertmode=require, but the server did not ask for a client certificate."
	default:
		return nil
	}
	return fault.New(fault.PostgresTLS, op, err, hint)
}
