package sim

import (
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// OIDs of the types in answers.
const (
	oidBool    = 16
	oidInt8    = 20
	oidInt4    = 23
	oidText    = 25
	oidOID     = 26
	oidTexts   = 1009
	oidOIDs    = 1028
	oidFloat8  = 701
	systemID   = "7300000000000000001"
	database   = "shop"
	slotExists = "42710"
)

// statement is one that pipelines run, recognised by a part of its text, and what a server like the
// model answers.
type statement struct {
	part    string
	params  []uint32
	columns []uint32
	run     func(s *session, args [][]byte) [][]any
}

// find returns the statement that a text holds, nil for none.
func find(sql string) *statement {
	for i := range statements {
		if strings.Contains(sql, statements[i].part) {
			return &statements[i]
		}
	}
	return nil
}

func repeat(oid uint32, n int) []uint32 {
	all := make([]uint32, n)
	for i := range all {
		all[i] = oid
	}
	return all
}

var statements = []statement{
	{part: "current_setting('server_version_num')", columns: []uint32{oidText}, run: func(s *session, _ [][]byte) [][]any {
		return [][]any{{strconv.Itoa(s.server.version)}}
	}},
	{part: "current_setting('wal_level')", columns: []uint32{oidText}, run: func(*session, [][]byte) [][]any { return [][]any{{"logical"}} }},
	{part: "pg_try_advisory_lock", params: []uint32{oidInt8}, columns: []uint32{oidBool}, run: tryLock},
	{part: "pg_advisory_unlock_all", columns: []uint32{oidText}, run: unlock},
	{part: "c.relkind IN ('r', 'p', 'v', 'm', 'f')", columns: []uint32{oidOID, oidText, oidText, oidText, oidText, oidBool, oidOID}, run: listed},
	{part: "FROM pg_publication WHERE", params: []uint32{oidText}, columns: []uint32{oidOID, oidBool, oidBool, oidBool, oidBool, oidBool, oidBool, oidText}, run: published},
	{part: "FROM pg_publication_tables", params: []uint32{oidText, oidOID}, columns: []uint32{oidOID, oidText, oidText, oidText, oidText, oidBool, oidTexts, oidBool, oidText}, run: members},
	{part: "WITH RECURSIVE tree", params: []uint32{oidOIDs}, columns: []uint32{oidOID, oidOID, oidText, oidText, oidText, oidText, oidText, oidTexts, oidTexts, oidBool, oidText, oidTexts}, run: identities},
	{part: "SELECT a.attrelid, a.attname", params: []uint32{oidOIDs}, columns: []uint32{oidOID, oidText, oidOID, oidInt4}, run: described},
	{part: "WHERE i.indrelid = $1::oid AND i.indisprimary", params: []uint32{oidOID}, columns: []uint32{oidText}, run: primaryKey},
	{part: "pg_blocking_pids", params: []uint32{oidInt4}, columns: []uint32{oidInt4, oidText, oidText, oidText, oidFloat8, oidText}, run: func(*session, [][]byte) [][]any { return nil }},
	{part: "FROM pg_publication_rel r", params: []uint32{oidOID}, columns: []uint32{oidOID, oidTexts}, run: func(*session, [][]byte) [][]any { return nil }},
	{part: "CREATE PUBLICATION", run: func(s *session, _ [][]byte) [][]any {
		if s.status == 'T' {
			s.made = true
		} else {
			s.server.publish()
		}
		return nil
	}},
	{part: "pg_is_in_recovery", columns: []uint32{oidText}, run: func(*session, [][]byte) [][]any { return [][]any{{"f"}} }},
	{part: "pg_postmaster_start_time", columns: []uint32{oidText}, run: func(s *session, _ [][]byte) [][]any {
		s.server.mu.Lock()
		defer s.server.mu.Unlock()
		return [][]any{{s.server.started.String()}}
	}},
	{part: "name = 'transaction_timeout'", columns: []uint32{oidText}, run: func(*session, [][]byte) [][]any { return nil }},
	{part: "FROM pg_catalog.pg_replication_slots", columns: repeat(oidText, 11), run: slotRow},
	{part: "IDENTIFY_SYSTEM", columns: repeat(oidText, 4), run: func(s *session, _ [][]byte) [][]any {
		end, _ := s.server.wal.at()
		return [][]any{{systemID, "1", lsnText(end), database}}
	}},
}

func tryLock(s *session, args [][]byte) [][]any {
	key := int64(binary.BigEndian.Uint64(args[0])) //nolint:gosec // any 64 bits
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if h := s.server.locks[key]; h != nil && h != s {
		return [][]any{{false}}
	}
	s.server.locks[key] = s
	return [][]any{{true}}
}

func unlock(s *session, _ [][]byte) [][]any {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	for key, h := range s.server.locks {
		if h == s {
			delete(s.server.locks, key)
		}
	}
	return [][]any{{""}}
}

func listed(*session, [][]byte) (rows [][]any) {
	for _, t := range tables {
		rows = append(rows, []any{t.oid, t.schema, t.name, "r", "p", false, uint32(0)})
	}
	return rows
}

func published(s *session, _ [][]byte) [][]any {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if !s.server.publication && !s.made {
		return nil
	}
	return [][]any{{uint32(16500), false, true, true, true, true, true, "n"}}
}

func columnNames() []string {
	var names []string
	for _, c := range columns {
		names = append(names, c.name)
	}
	return names
}

func members(*session, [][]byte) (rows [][]any) {
	for _, t := range tables {
		rows = append(rows, []any{t.oid, t.schema, t.name, "r", "p", false, columnNames(), false, ""})
	}
	return rows
}

func identities(*session, [][]byte) (rows [][]any) {
	for _, t := range tables {
		var key any
		identity := []string{"id"}
		if t.primary {
			key = []string{"id"}
		}
		if t.identity == 'f' {
			identity = columnNames()
		}
		rows = append(rows, []any{t.oid, t.oid, t.schema, t.name, "r", "p", string(t.identity), identity, key, t.primary, "", nil})
	}
	return rows
}

func described(*session, [][]byte) (rows [][]any) {
	for _, t := range tables {
		for _, c := range columns {
			rows = append(rows, []any{t.oid, c.name, c.typ, int32(-1)})
		}
	}
	return rows
}

func primaryKey(_ *session, args [][]byte) [][]any {
	oid := binary.BigEndian.Uint32(args[0])
	for _, t := range tables {
		if t.oid == oid && t.primary {
			return [][]any{{"id"}}
		}
	}
	return nil
}

func slotRow(s *session, _ [][]byte) [][]any {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	slot := s.server.slot
	if slot == nil {
		return nil
	}
	active, pid := "f", any(nil)
	if slot.holder != nil {
		active, pid = "t", strconv.Itoa(int(slot.holder.pid))
	}
	return [][]any{{"pgoutput", database, "f", "f", active, pid, "reserved", nil, lsnText(slot.persisted), lsnText(slot.confirmed), "f"}}
}

// replicationCommand returns what a command does that is not answered by rows alone.
func replicationCommand(sql string) (func(s *session) (stream, ok bool), bool) {
	switch {
	case strings.HasPrefix(sql, "CREATE_REPLICATION_SLOT"):
		return (*session).createSlot, true
	case strings.HasPrefix(sql, "START_REPLICATION"):
		return (*session).startReplication, true
	default:
		return nil, false
	}
}

// createSlot takes a while: running transactions are waited for.
func (s *session) createSlot() (stream, ok bool) {
	time.Sleep(s.upTo(2 * time.Second))
	if !s.server.createSlot() {
		s.fail("ERROR", slotExists, `replication slot exists already`)
		return false, s.ready()
	}
	s.backend.Send(&pgproto3.CommandComplete{CommandTag: []byte("CREATE_REPLICATION_SLOT")})
	return false, s.ready()
}

func (s *session) startReplication() (stream, ok bool) {
	_, there, who := s.server.take(s)
	switch {
	case !there:
		s.fail("ERROR", "42704", `replication slot does not exist`)
		return false, s.ready()
	case who != 0:
		s.fail("ERROR", "55006", "replication slot is active for PID "+strconv.Itoa(int(who)))
		return false, s.ready()
	}
	return true, true
}
