package vaulttest

import "fmt"

// Database mounts the database engine with one connection, named "pg", and allows every role on it. dsn
// is without user and password; the engine logs in as user.
func (s *Server) Database(dsn, user, password string) {
	s.tb.Helper()
	s.Write("sys/mounts/database", Map{"type": "database"})
	s.Write("database/config/pg", Map{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "connection_url": dsn,
		"username": user, "password": password,
	})
}

// DynamicRole makes a role whose users live for some seconds, and are dropped at the end.
func (s *Server) DynamicRole(name string, seconds int, creation string, more Map) {
	s.tb.Helper()
	role := Map{
		"db_name": "pg", "default_ttl": fmt.Sprintf("%ds", seconds), "max_ttl": fmt.Sprintf("%ds", seconds),
		"creation_statements": []string{creation},
	}
	for k, v := range more {
		role[k] = v
	}
	s.Write("database/roles/"+name, role)
}

// PKI mounts an authority at pki, with a role that issues certificates of any name, and returns the
// authority's certificate.
func (s *Server) PKI(role string) (ca string) {
	s.tb.Helper()
	s.Write("sys/mounts/pki", Map{"type": "pki", "config": Map{"max_lease_ttl": "72h"}})
	ca = fmt.Sprint(s.Write("pki/root/generate/internal", Map{"common_name": "walferry test PKI", "ttl": "72h", "key_type": "ec", "key_bits": 256})["certificate"])
	s.Write("pki/roles/"+role, Map{
		"allow_any_name": true, "enforce_hostnames": false, "key_type": "ec", "key_bits": 256, "max_ttl": "1h", "not_before_duration": "30s",
	})
	return ca
}
