package faultproxy

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must happen, brief what must not.
const (
	patience = 10 * time.Second
	brief    = 50 * time.Millisecond
)

// rig is a proxy in front of a server that hands its connections to the test.
func rig(t *testing.T) (p *Proxy, dial func() (client, server net.Conn)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if p, err = New(); err != nil {
		t.Fatal(err)
	}
	p.To(l.Addr().String())
	t.Cleanup(func() {
		if err := errors.Join(p.Close(), l.Close()); err != nil {
			t.Error(err)
		}
	})
	return p, func() (net.Conn, net.Conn) {
		client := connect(t, p)
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		return client, server
	}
}

func connect(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

func receives(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("received %q, %v; want %q", got, err, want)
	}
}

// silent fails if anything comes within a moment, also an end.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(brief))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, %v; want silence", n, err)
	}
}

func ends(t *testing.T, c net.Conn, want error) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, want) {
		t.Fatalf("%d bytes, %v; want %v", n, err, want)
	}
}

func TestPass(t *testing.T) {
	_, dial := rig(t)
	client, server := dial()
	send(t, client, []byte("there"))
	receives(t, server, "there")
	send(t, server, []byte("back"))
	receives(t, client, "back")
	server.Close()
	ends(t, client, io.EOF)
}

func TestFreeze(t *testing.T) {
	p, dial := rig(t)
	client, server := dial()
	p.Freeze()
	send(t, client, []byte("late"))
	silent(t, server)
	newcomer := connect(t, p)
	silent(t, newcomer)
	p.Pass()
	receives(t, server, "late")
}

func TestForget(t *testing.T) {
	p, dial := rig(t)
	client, server := dial()
	p.Forget()
	send(t, client, []byte("never"))
	silent(t, server)
	server.Close()
	silent(t, client)
	client, server = dial()
	send(t, client, []byte("new"))
	receives(t, server, "new")
}

func TestResetAndCut(t *testing.T) {
	p, dial := rig(t)
	client, _ := dial()
	p.Reset()
	ends(t, client, syscall.ECONNRESET)
	client, _ = dial()
	p.Cut()
	ends(t, client, io.EOF)
	ends(t, connect(t, p), io.EOF)
	p.Pass()
	client, server := dial()
	send(t, client, []byte("again"))
	receives(t, server, "again")
}

func TestDelayAndThrottle(t *testing.T) {
	p, dial := rig(t)
	client, server := dial()
	for _, slow := range []func(){func() { p.Delay(brief) }, func() { p.Throttle(100) }} {
		slow()
		began := time.Now()
		send(t, client, []byte("late."))
		receives(t, server, "late.")
		if took := time.Since(began); took < 50*time.Millisecond {
			t.Errorf("arrived after %s", took)
		}
		p.Pass()
	}
}

// request is a frame as Kafka's clients send them.
func request(key, version uint16, id uint32, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	b = binary.BigEndian.AppendUint16(b, key)
	b = binary.BigEndian.AppendUint16(b, version)
	return append(binary.BigEndian.AppendUint32(b, id), body...)
}

func answer(id uint32, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))
	return append(binary.BigEndian.AppendUint32(b, id), body...)
}

func TestLoseCommits(t *testing.T) {
	p, dial := rig(t)
	client, server := dial()
	p.LoseCommits(1)
	all := slices.Concat(request(0, 9, 7, "records"), request(26, 4, 8, "commit"))
	for i := range all { // pieces end anywhere
		send(t, client, all[i:i+1])
	}
	receives(t, server, string(all))
	first := answer(7, "acknowledged")
	send(t, server, slices.Concat(first, answer(8, "committed")))
	receives(t, client, string(first))
	ends(t, client, syscall.ECONNRESET)
	if n := p.LostCommits(); n != 1 {
		t.Errorf("%d answers were lost", n)
	}
	client, server = dial()
	send(t, client, request(26, 4, 9, "commit"))
	receives(t, server, string(request(26, 4, 9, "commit")))
	send(t, server, answer(9, "committed"))
	receives(t, client, string(answer(9, "committed")))
}
