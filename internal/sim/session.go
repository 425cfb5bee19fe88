package sim

import (
	"context"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// session is one connection to the server.
type session struct {
	server  *postgres
	conn    net.Conn
	backend *pgproto3.Backend
	pid     uint32
	rng     *rand.Rand // of whoever does the session's work

	replication bool
	prepared    map[string]*statement
	statement   *statement // the one at hand
	arguments   [][]byte
	formats     []int16
	status      byte // of ReadyForQuery: T within a transaction
	made        bool // the publication, within it

	once  sync.Once
	ended chan struct{}
	told  chan string // why it is to end
}

// chance tells whether something happens that happens once in n times.
func (s *session) chance(n int) bool { return s.rng.IntN(n) == 0 }

// upTo draws a time.
func (s *session) upTo(d time.Duration) time.Duration {
	return time.Duration(s.rng.Int64N(int64(d)))
}

// end hangs up.
func (s *session) end() { _ = s.conn.Close() }

// tell has the session end with an error.
func (s *session) tell(code string) {
	select {
	case s.told <- code:
	default:
	}
}

func (s *session) run() {
	defer s.once.Do(func() { close(s.ended) })
	defer s.end()
	if !s.greet() {
		return
	}
	// A session that is told to end while it waits for a command does so at once; a walsender looks by
	// itself.
	watching, done := context.WithCancel(context.Background())
	defer done()
	idle := make(chan struct{})
	go func() { // ends with the session
		select {
		case code := <-s.told:
			select {
			case <-idle: // a walsender by now
				s.tell(code)
			default:
				s.fail("FATAL", code[:5], "terminating connection due to administrator command")
				s.end()
			}
		case <-idle:
		case <-watching.Done():
		}
	}()
	for {
		m, err := s.backend.Receive()
		if err != nil {
			return
		}
		stream, ok := s.handle(m)
		if !ok {
			return
		}
		if stream {
			close(idle)
			s.stream()
			return
		}
	}
}

// greet takes the start of the connection.
func (s *session) greet() bool {
	m, err := s.backend.ReceiveStartupMessage()
	if err != nil {
		return false
	}
	start, is := m.(*pgproto3.StartupMessage)
	if !is {
		return false
	}
	s.replication = start.Parameters["replication"] == "database"
	s.server.mu.Lock()
	state := s.server.state
	s.server.mu.Unlock()
	switch state {
	case running:
	case starting, shuttingDown:
		s.fail("FATAL", "57P03", "the database system is starting up or shutting down")
		return false
	case stopped:
		return false
	}
	s.backend.Send(&pgproto3.AuthenticationOk{})
	s.backend.Send(&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"})
	s.backend.Send(&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"})
	s.backend.Send(&pgproto3.BackendKeyData{ProcessID: s.pid, SecretKey: []byte{1, 2, 3, 4}})
	return s.ready()
}

func (s *session) ready() bool {
	s.backend.Send(&pgproto3.ReadyForQuery{TxStatus: s.status})
	return s.backend.Flush() == nil
}

// fail sends an error.
func (s *session) fail(severity, code, message string) {
	s.backend.Send(&pgproto3.ErrorResponse{Severity: severity, Code: code, Message: message})
	_ = s.conn.SetWriteDeadline(time.Now().Add(time.Second)) // whoever does not read it learns nothing
	_ = s.backend.Flush()
	_ = s.conn.SetWriteDeadline(time.Time{})
}

// handle answers one message; stream says that a walsender's work begins.
func (s *session) handle(m pgproto3.FrontendMessage) (stream, ok bool) {
	switch m := m.(type) {
	case *pgproto3.Query:
		return s.simple(m.String)
	case *pgproto3.Parse:
		s.statement = find(m.Query)
		if s.statement == nil {
			s.server.wrong("a statement that the model does not know: " + m.Query)
			return false, false
		}
		s.prepared[m.Name] = s.statement
		s.backend.Send(&pgproto3.ParseComplete{})
	case *pgproto3.Describe:
		if m.ObjectType == 'S' {
			s.statement = s.prepared[m.Name]
			s.backend.Send(&pgproto3.ParameterDescription{ParameterOIDs: s.statement.params})
			s.formats = nil
		}
		s.backend.Send(s.describe())
	case *pgproto3.Bind:
		s.statement, s.arguments = s.prepared[m.PreparedStatement], nil
		for _, a := range m.Parameters {
			s.arguments = append(s.arguments, append([]byte(nil), a...))
		}
		s.formats = append([]int16(nil), m.ResultFormatCodes...)
		s.backend.Send(&pgproto3.BindComplete{})
	case *pgproto3.Execute:
		if !s.execute() {
			return false, false
		}
	case *pgproto3.Close:
		s.backend.Send(&pgproto3.CloseComplete{})
	case *pgproto3.Sync:
		return false, s.ready()
	case *pgproto3.Flush:
		return false, s.backend.Flush() == nil
	case *pgproto3.Terminate:
		return false, false
	}
	return false, true
}

// describe returns the columns of the statement at hand, in the formats that are asked for.
func (s *session) describe() *pgproto3.RowDescription {
	d := &pgproto3.RowDescription{}
	for i, typ := range s.statement.columns {
		d.Fields = append(d.Fields, pgproto3.FieldDescription{Name: []byte("c"), DataTypeOID: typ, DataTypeSize: -1, TypeModifier: -1, Format: s.format(i)})
	}
	return d
}

func (s *session) format(i int) int16 {
	switch len(s.formats) {
	case 0:
		return 0
	case 1:
		return s.formats[0]
	default:
		return s.formats[i]
	}
}

// execute sends the rows.
func (s *session) execute() bool {
	rows := s.statement.run(s, s.arguments)
	for _, row := range rows {
		r := &pgproto3.DataRow{}
		for i, v := range row {
			s.server.mu.Lock()
			b, err := s.server.types.Encode(s.statement.columns[i], s.format(i), v, []byte{})
			s.server.mu.Unlock()
			if err != nil {
				s.server.wrong("encode an answer: " + err.Error())
				return false
			}
			r.Values = append(r.Values, b)
		}
		s.backend.Send(r)
	}
	s.backend.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT")})
	return true
}

// transact begins or ends a transaction. Others see the publication that was made in it once it is committed.
func (s *session) transact(command string) bool {
	s.status = 'I'
	if command == "begin" {
		s.status = 'T'
	}
	if command == "commit" && s.made {
		s.server.publish()
	}
	s.made = false
	s.backend.Send(&pgproto3.CommandComplete{CommandTag: []byte(strings.ToUpper(command))})
	return s.ready()
}

// simple answers a simple query.
func (s *session) simple(sql string) (stream, ok bool) {
	if command, is := replicationCommand(sql); is && s.replication {
		return command(s)
	}
	switch sql {
	case "begin", "commit", "rollback":
		return false, s.transact(sql)
	}
	s.statement, s.formats, s.arguments = find(sql), nil, nil
	if s.statement == nil {
		s.server.wrong("a statement that the model does not know: " + sql)
		return false, false
	}
	s.backend.Send(s.describe())
	return false, s.execute() && s.ready()
}
