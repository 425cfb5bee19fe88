// Package vaulttest gives tests a real Vault and throws it away afterwards. The server is
// internal/vaultserver, built once for the machine: `make vault`. Where it was not built, the tests that
// need it skip and say so; with WALFERRY_REQUIRE_VAULT=1 it is built then.
//
// A test has a server of its own, which starts in a moment, and configures it as root:
//
//	v := vaulttest.Start(t)
//	v.Write("sys/mounts/kv", vaulttest.Map{"type": "kv", "options": vaulttest.Map{"version": "2"}})
package vaulttest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/walferry/walferry/internal/childproc"
	"github.com/walferry/walferry/internal/testca"
)

// Map is the body of a request, or what an answer holds.
type Map = map[string]any

// patience bounds a start and a stop.
const patience = time.Minute

// Server is a Vault that belongs to one test.
type Server struct {
	tb     testing.TB
	path   string
	dir    string
	port   int
	ca     *testca.CA
	http   *http.Client
	proc   *childproc.Process
	opened struct {
		RootToken string `json:"root_token"`
		Key       []byte `json:"key"`
	}
}

// Start starts a Vault, initialised and unsealed, and stops it with the test.
func Start(tb testing.TB) *Server {
	tb.Helper()
	path, err := binary()
	if errors.Is(err, errMissing) {
		tb.Skipf("needs a real Vault: %v (%s=1 has it built now)", err, required)
	}
	s := &Server{tb: tb, path: path}
	s.must(err)
	folder, err := childproc.NewFolder("walferry-vault-")
	s.must(err)
	s.dir = folder.Path
	tb.Cleanup(func() {
		s.Kill()
		s.must(folder.Remove())
	})
	s.port, err = childproc.FreePort()
	s.must(err)
	s.ca, err = testca.New("walferry test authority of Vault")
	s.must(err)
	cert, key, err := s.ca.Issue("vault", "localhost", "127.0.0.1")
	s.must(err)
	for name, data := range map[string][]byte{"cert.pem": cert, "key.pem": key, "ca.pem": s.ca.PEM()} {
		s.must(os.WriteFile(filepath.Join(s.dir, name), data, 0o600))
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.ca.PEM())
	s.http = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	tb.Cleanup(s.http.CloseIdleConnections)
	s.Restart()
	return s
}

// Addr is where the server listens, as a URL.
func (s *Server) Addr() string { return fmt.Sprintf("https://127.0.0.1:%d", s.port) }

// HostPort is Addr without the scheme.
func (s *Server) HostPort() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// CAFile is the PEM file of the authority that signed the server's certificate.
func (s *Server) CAFile() string { return filepath.Join(s.dir, "ca.pem") }

// RootToken may do everything.
func (s *Server) RootToken() string { return s.opened.RootToken }

// Restart stops the server where it runs and starts it, unsealed, with the data it had.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Stop()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	s.must(err)
	defer func() { _ = log.Close() }()                                  // the child has its own descriptor
	cmd := exec.Command(s.path, "-dir", s.dir, "-listen", s.HostPort()) //nolint:gosec // our own program
	cmd.Stdout, cmd.Stderr = log, log
	s.proc, err = childproc.Start(cmd, nil, syscall.SIGKILL)
	s.must(err)
	s.eventually("Vault starts", func() bool {
		select {
		case <-s.proc.Done():
			s.tb.Fatalf("Vault ended while starting: %v\n%s", s.proc.Err(), s.LogTail())
		default:
		}
		_, code, err := s.Do(http.MethodGet, "sys/health", "", nil)
		return err == nil && code == http.StatusOK
	})
	data, err := os.ReadFile(filepath.Join(s.dir, "init.json"))
	s.must(err)
	s.must(json.Unmarshal(data, &s.opened))
}

// Stop ends the server in order; it keeps its data.
func (s *Server) Stop() {
	s.tb.Helper()
	if s.proc == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s.must(s.proc.End(ctx, syscall.SIGTERM))
	s.proc = nil
}

// Kill ends the server by SIGKILL.
func (s *Server) Kill() {
	s.tb.Helper()
	if s.proc == nil {
		return
	}
	s.must(s.proc.SignalGroup(syscall.SIGKILL))
	<-s.proc.Done()
	s.proc = nil
}

// Pause freezes the server: connections are taken and nothing is answered. Continue wakes it.
func (s *Server) Pause() { s.tb.Helper(); s.must(s.proc.SignalGroup(syscall.SIGSTOP)) }

// Continue ends a Pause.
func (s *Server) Continue() { s.tb.Helper(); s.must(s.proc.SignalGroup(syscall.SIGCONT)) }

// Seal seals the server: it answers 503 to everything.
func (s *Server) Seal() { s.tb.Helper(); s.Write("sys/seal", nil) }

// Unseal ends a Seal, and waits until requests are served.
func (s *Server) Unseal() {
	s.tb.Helper()
	s.Write("sys/unseal", Map{"key": fmt.Sprintf("%x", s.opened.Key)})
	s.eventually("Vault is unsealed", func() bool {
		_, code, err := s.Do(http.MethodGet, "auth/token/lookup-self", s.RootToken(), nil)
		return err == nil && code == http.StatusOK
	})
}

// Write writes to a path as root, and returns the answer's data; a login's is its auth.
func (s *Server) Write(path string, body Map) Map {
	s.tb.Helper()
	return s.ok(http.MethodPut, path, body)
}

// Read reads a path as root.
func (s *Server) Read(path string) Map {
	s.tb.Helper()
	return s.ok(http.MethodGet, path, nil)
}

// Delete deletes a path as root.
func (s *Server) Delete(path string) {
	s.tb.Helper()
	s.ok(http.MethodDelete, path, nil)
}

func (s *Server) ok(method, path string, body Map) Map {
	s.tb.Helper()
	answer, code, err := s.Do(method, path, s.RootToken(), body)
	s.must(err)
	if code >= 300 {
		s.tb.Fatalf("Vault answered %d to %s %s: %v", code, method, path, answer["errors"])
	}
	for _, part := range []string{"auth", "wrap_info", "data"} {
		if m, ok := answer[part].(Map); ok {
			return m
		}
	}
	return answer
}

// Do sends one request with any token, and returns the whole answer.
func (s *Server) Do(method, path, token string, body Map, headers ...string) (Map, int, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, 0, fmt.Errorf("write the request: %w", err)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, s.Addr()+"/v1/"+path, bytes.NewReader(data))
	if err != nil {
		return nil, 0, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("X-Vault-Token", token)
	req.Header.Set("X-Vault-Request", "true")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("ask Vault: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err = io.ReadAll(resp.Body)
	if err != nil {
		return nil, 0, fmt.Errorf("read the answer: %w", err)
	}
	var answer Map
	if len(data) > 0 {
		if err := json.Unmarshal(data, &answer); err != nil {
			return nil, resp.StatusCode, fmt.Errorf("read the answer: %w", err)
		}
	}
	return answer, resp.StatusCode, nil
}

// LogTail is the end of what the server wrote.
func (s *Server) LogTail() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8192):])
}

// eventually polls until ok says so.
func (s *Server) eventually(what string, ok func() bool) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			s.tb.Fatalf("waited in vain: %s\n%s", what, s.LogTail())
		}
	}
}

func (s *Server) must(err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatal(err)
	}
}
