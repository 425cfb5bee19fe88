package replication

import (
	"context"
	"fmt"
	"strings"

	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/internal/doctor"
)

const retainedQuery = `
SELECT coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint, safe_wal_size
FROM pg_replication_slots WHERE slot_name = $1`

// checkSlot judges the slot as a start does, but for the checkpoint, which it does not know.
func (d *diagnosis) checkSlot(ctx context.Context) error {
	const id = "slot"
	slot, err := d.cfg.slotState(ctx, d.conn.PgConn(), d.version)
	if err != nil {
		return err
	}
	name := d.cfg.Slot.Name
	if slot == nil {
		if d.cfg.Slot.Create {
			d.ok(id, "slot %s does not exist: the first start makes it", name)
			return nil
		}
		d.add(doctor.Finding{
			ID: id, Severity: doctor.Error, Subject: name, Code: fault.SlotMissing, Found: "it does not exist, and postgres.slot.create is false",
			Why: "a start does not make it", Fixes: []doctor.Fix{{
				Kind: doctor.Setting, Step: doctor.StepSetting, Do: fmt.Sprintf("SELECT pg_create_logical_replication_slot(%s, 'pgoutput');", literal(name)),
				Undo: fmt.Sprintf("SELECT pg_drop_replication_slot(%s);", literal(name)),
				Note: "after the publication; it waits for open transactions to end. Then set postgres.slot.adopt: true for the first start",
			}},
		})
		return nil
	}
	srv := event.Server{Origin: event.Origin{Database: d.database, Slot: name}, Slot: slot}
	if err := checkOwn(srv); err != nil && !fault.Retryable(err) {
		d.add(onSlot(doctor.FromFault(id, err), name))
		return nil
	}
	if slot.WALStatus == "lost" || slot.Invalidation != "" {
		f := doctor.FromFault(id, fault.New(fault.SlotLost, "read the state of the slot", fmt.Errorf("it was invalidated (%s)", strings.TrimSpace(slot.WALStatus+" "+slot.Invalidation)), lostHint))
		d.add(onSlot(f, name))
		return nil
	}
	var retained int64
	var safe *int64
	if err := d.conn.QueryRow(ctx, retainedQuery, name).Scan(&retained, &safe); err != nil {
		return explain("read the state of the slot", err)
	}
	d.judgeRetained(slot, name, retained, safe)
	return nil
}

// judgeRetained looks at the WAL that the slot keeps.
func (d *diagnosis) judgeRetained(slot *event.Slot, name string, retained int64, safe *int64) {
	const id = "slot"
	f := doctor.Finding{ID: id, Severity: doctor.Warning, Subject: name}
	switch {
	case slot.WALStatus == "unreserved":
		f.Found = fmt.Sprintf("it keeps %d bytes of WAL, more than max_slot_wal_keep_size: the next checkpoint of the server drops what it needs", retained)
		f.Why = "once that WAL is gone the changes in it are lost to the pipeline"
		f.Fixes = []doctor.Fix{d.platform.setting("max_slot_wal_keep_size", fmt.Sprintf("%dMB", 2*retained>>20+1024), "reload")}
	case safe != nil && *safe < retained:
		f.Found = fmt.Sprintf("it keeps %d bytes of WAL, and is lost after %d more", retained, *safe)
		f.Why = "once max_slot_wal_keep_size is exceeded the changes are lost to the pipeline"
		f.Fixes = []doctor.Fix{d.platform.setting("max_slot_wal_keep_size", fmt.Sprintf("%dMB", 2*(retained+*safe)>>20+1024), "reload")}
	case !slot.Active && retained > retainedMuch:
		f.Found = fmt.Sprintf("nobody reads it, and it keeps %d bytes of WAL", retained)
		f.Why = "it will keep more until a pipeline reads, or the disk is full"
		f.Fixes = []doctor.Fix{{Kind: doctor.Advice, Do: "Start walferry; or, if the pipeline is not needed any more: SELECT pg_drop_replication_slot(" + literal(name) + ");"}}
	default:
		held := "held by nobody"
		if slot.Active {
			held = fmt.Sprintf("held by process %d", slot.PID)
		}
		f.Severity, f.Found = doctor.OK, fmt.Sprintf("confirmed up to %v, keeps %d bytes of WAL, %s", slot.Confirmed, retained, held)
	}
	d.add(f)
}

func onSlot(f doctor.Finding, name string) doctor.Finding {
	f.Subject = name
	return f
}

// standbysQuery names the physical slots, which are what standbys that stay have.
const standbysQuery = `
SELECT coalesce(array_agg(slot_name::text ORDER BY slot_name), '{}') FROM pg_replication_slots WHERE slot_type = 'physical'`

const failoverQuery = `
SELECT current_setting('synchronized_standby_slots'), coalesce((SELECT failover FROM pg_replication_slots WHERE slot_name = $1), true)`

// checkFailover looks whether the slot would be there after a standby was promoted.
func (d *diagnosis) checkFailover(ctx context.Context) error {
	const id = "slot_failover"
	var standbys []string
	if err := d.conn.QueryRow(ctx, standbysQuery).Scan(&standbys); err != nil {
		return explain("look for standbys", err)
	}
	if len(standbys) == 0 {
		d.ok(id, "no standby has a slot here")
		return nil
	}
	f := doctor.Finding{ID: id, Severity: doctor.Warning, Subject: d.cfg.Slot.Name}
	if d.version < 170000 {
		f.Found = fmt.Sprintf("there are standbys (%s), and slots of Postgres %d stay behind when one is promoted", strings.Join(standbys, ", "), d.version/10000)
		f.Why = "after a failover there is no slot, and a start refuses until somebody has decided about the gap"
		f.Fixes = []doctor.Fix{{Kind: doctor.Advice, Do: "From Postgres 17 on a slot can follow. Until then deliver from the old primary before it is given up, where that is possible."}}
		d.add(f)
		return nil
	}
	var waits string
	var failover bool
	if err := d.conn.QueryRow(ctx, failoverQuery, d.cfg.Slot.Name).Scan(&waits, &failover); err != nil {
		return explain("look for standbys", err)
	}
	switch {
	case !failover:
		f.Found = fmt.Sprintf("there are standbys (%s), and the slot was made without failover", strings.Join(standbys, ", "))
		f.Why = "it stays behind when a standby is promoted, and a start refuses there"
		f.Fixes = []doctor.Fix{{
			Kind: doctor.Command, Do: fmt.Sprintf(`psql "dbname=%s replication=database" -c 'ALTER_REPLICATION_SLOT "%s" (FAILOVER true)'`, d.database, d.cfg.Slot.Name),
			Note: "with walferry stopped; the standby needs sync_replication_slots = on",
		}}
	case waits == "":
		f.Found = fmt.Sprintf("there are standbys (%s), and none of them is waited for", strings.Join(standbys, ", "))
		f.Why = "changes may be published that the promoted standby never got"
		f.Fixes = []doctor.Fix{withNote(d.platform.setting("synchronized_standby_slots", strings.Join(standbys, ", "), "reload"), "name those that may be promoted; the stream waits while one of them is away")}
	default:
		d.ok(id, "the slot follows a failover, and waits for %s", waits)
		return nil
	}
	d.add(f)
	return nil
}
