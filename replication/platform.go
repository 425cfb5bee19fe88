package replication

import (
	"fmt"
	"strings"

	"github.com/walferry/walferry/internal/doctor"
)

// platform is who runs the server: it decides how settings and roles are changed.
type platform string

const (
	selfHosted platform = "self_hosted"
	rds        platform = "rds" // and Aurora
	cloudSQL   platform = "cloud_sql"
	azure      platform = "azure"
	supabase   platform = "supabase"
	neon       platform = "neon"
)

// providers are told by a role that each makes in every database cluster, and by the names of their hosts.
var providers = []struct {
	platform platform
	role     string
	hosts    []string
}{
	{rds, "rds_superuser", []string{".rds.amazonaws.com", ".rds.amazonaws.com.cn"}},
	{cloudSQL, "cloudsqlsuperuser", nil},
	{azure, "azure_pg_admin", []string{".postgres.database.azure.com"}},
	{supabase, "supabase_admin", []string{".supabase.co", ".supabase.com"}},
	{neon, "neon_superuser", []string{".neon.tech"}},
}

// platformOfHost guesses by the host's name, where there is no login yet.
func platformOfHost(host string) platform {
	for _, p := range providers {
		for _, suffix := range p.hosts {
			if strings.HasSuffix(strings.ToLower(host), suffix) {
				return p.platform
			}
		}
	}
	return selfHosted
}

// setting is how a setting of the server is changed. Then is restart or reload.
func (p platform) setting(name, value, then string) doctor.Fix {
	f := doctor.Fix{Kind: doctor.Setting, Then: then, Step: doctor.StepSetting}
	switch p {
	case rds:
		if name == "wal_level" {
			name, value = "rds.logical_replication", "1"
		}
		f.Do = fmt.Sprintf("In the DB parameter group (Aurora: DB cluster parameter group) set %s = %s", name, value)
	case cloudSQL:
		if name == "wal_level" {
			name, value = "cloudsql.logical_decoding", "on"
		}
		f.Do = fmt.Sprintf("gcloud sql instances patch INSTANCE --database-flags=%s=%s", name, value)
		f.Note = "this replaces all flags: name the ones that are set, too"
	case azure:
		f.Do = fmt.Sprintf("az postgres flexible-server parameter set --resource-group GROUP --server-name SERVER --name %s --value %s", name, value)
	case supabase:
		f.Do = fmt.Sprintf("supabase --experimental --project-ref PROJECT postgres-config update --config %s=%s", name, value)
	case neon:
		f.Do = fmt.Sprintf("%s is the provider's to set: ask for %s", name, value)
		if name == "wal_level" {
			f.Do = "In the project's settings turn on Logical Replication. It cannot be turned off again"
		}
	case selfHosted:
		f.Do = fmt.Sprintf("ALTER SYSTEM SET %s = '%s';", name, value)
		f.Undo = fmt.Sprintf("ALTER SYSTEM RESET %s;", name)
		if then == "reload" {
			f.Do += "\nSELECT pg_reload_conf();"
			f.Undo += "\nSELECT pg_reload_conf();"
		}
		return f
	}
	f.Kind = doctor.Command
	return f
}

// grantReplication is how a role gets to read the stream. Role is quoted for SQL.
func (p platform) grantReplication(role string) doctor.Fix {
	f := doctor.Fix{Kind: doctor.SQL, Step: doctor.StepRole, Do: "ALTER ROLE " + role + " REPLICATION;", Undo: "ALTER ROLE " + role + " NOREPLICATION;"}
	switch p {
	case rds:
		f.Do, f.Undo = "GRANT rds_replication TO "+role+";", "REVOKE rds_replication FROM "+role+";"
		f.Note = "as a member of rds_superuser"
	case cloudSQL:
		f.Note = "as a member of cloudsqlsuperuser"
	case azure:
		f.Note = "as the administrator of the server"
	case supabase:
		f.Note = "as postgres"
	case neon:
		f.Note = "or make the role in the console: those have it"
	case selfHosted:
		f.Note = "as a superuser"
	}
	return f
}

// createRole makes the role where it does not exist. It has no password: one in SQL would end up in
// histories and logs.
func (p platform) createRole(name, role string) doctor.Fix {
	replication := " REPLICATION"
	if p == rds {
		replication = ""
	}
	f := doctor.Fix{
		Kind: doctor.SQL, Step: doctor.StepRole,
		Do: fmt.Sprintf("DO $do$ BEGIN\n  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = %s) THEN\n    CREATE ROLE %s LOGIN%s;\n  END IF;\nEND $do$;",
			literal(name), role, replication),
		Undo: fmt.Sprintf("DROP ROLE %s;  if it did not exist before", role),
		Note: fmt.Sprintf("then set the password that walferry has, in psql: \\password %s", role),
	}
	if p == rds {
		f.Do += "\n" + p.grantReplication(role).Do
	}
	return f
}

// literal is a text for SQL.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
