package vaulttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// KV mounts version 2 of the key-value engine at kv, and PutKV writes there.
func (s *Server) KV() {
	s.tb.Helper()
	s.Write("sys/mounts/kv", Map{"type": "kv", "options": Map{"version": "2"}})
	// The engine moves its data when it is mounted, and refuses writes until that is done.
	s.eventually("the key-value engine is ready", func() bool {
		_, code, err := s.Do("PUT", "kv/data/ready", s.RootToken(), Map{"data": Map{"yes": "1"}})
		return err == nil && code == 200
	})
}

// PutKV writes a new version of a secret of KV.
func (s *Server) PutKV(name string, fields Map) {
	s.tb.Helper()
	s.Write("kv/data/"+name, Map{"data": fields})
}

// Policy writes a policy: lines of "path capability,capability".
func (s *Server) Policy(name string, lines ...string) {
	s.tb.Helper()
	var b strings.Builder
	for _, line := range lines {
		path, caps, _ := strings.Cut(line, " ")
		fmt.Fprintf(&b, "path %q { capabilities = [\"%s\"] }\n", path, strings.ReplaceAll(caps, ",", `","`))
	}
	s.Write("sys/policies/acl/"+name, Map{"policy": b.String()})
}

// AppRole is a role of the approle method, with a secret id in a file.
type AppRole struct{ RoleID, SecretIDFile string }

// AppRole makes a role with a policy; settings go over those of the role.
func (s *Server) AppRole(name, policy string, settings Map) AppRole {
	s.tb.Helper()
	if _, mounted := s.Read("sys/auth")["approle/"]; !mounted {
		s.Write("sys/auth/approle", Map{"type": "approle"})
	}
	role := Map{"token_policies": policy, "token_period": "1h"}
	for k, v := range settings {
		role[k] = v
	}
	s.Write("auth/approle/role/"+name, role)
	id := s.Read("auth/approle/role/" + name + "/role-id")["role_id"]
	secret := s.Write("auth/approle/role/"+name+"/secret-id", nil)["secret_id"]
	return AppRole{RoleID: fmt.Sprint(id), SecretIDFile: s.File("secret-id-"+name, fmt.Sprint(secret))}
}

// File writes a secret file into a folder of the test.
func (s *Server) File(name, content string) string {
	s.tb.Helper()
	path := filepath.Join(s.tb.TempDir(), name)
	s.must(os.WriteFile(path, []byte(content+"\n"), 0o600))
	return path
}
