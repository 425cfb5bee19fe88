package walferry_test

import (
	"bytes"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/walferry/walferry/config"
	"github.com/walferry/walferry/internal/testca"
)

// compose is the part of docker-compose.yml that can be checked without a container engine. A key
// that stands here for no field fails the test, so that a misspelled one does too.
type compose struct {
	Services map[string]service
	Secrets  map[string]struct{ File string }
	Volumes  map[string]struct{}
}

type service struct {
	Image, Build        string
	Command, Entrypoint []string
	Environment         map[string]string
	Secrets, Volumes    []string
	Ports               []string
	DependsOn           map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck         *healthcheck
	CapAdd              []string `yaml:"cap_add"`
	CapDrop             []string `yaml:"cap_drop"`
	SecurityOpt         []string `yaml:"security_opt"`
	ReadOnly            bool     `yaml:"read_only"`
	StopGracePeriod     string   `yaml:"stop_grace_period"`
	Restart             string
	Profiles            []string
}

type healthcheck struct {
	Test     []string
	Interval string
	Retries  int
}

func readCompose(t *testing.T) compose {
	t.Helper()
	d := yaml.NewDecoder(bytes.NewReader([]byte(read(t, "docker-compose.yml"))))
	d.KnownFields(true)
	var c compose
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestComposeIsWhole(t *testing.T) {
	c := readCompose(t)
	want := []string{"certs", "postgres", "redpanda", "rotate", "vault", "vault-setup", "walferry"}
	if got := slices.Sorted(maps.Keys(c.Services)); !slices.Equal(got, want) {
		t.Errorf("services %v, want %v", got, want)
	}
	for name, s := range c.Services {
		if (s.Image == "") == (s.Build == "") {
			t.Errorf("%s: want an image or a build", name)
		}
		if _, tag, _ := strings.Cut(s.Image, ":"); s.Image != "" && (tag == "" || tag == "latest") {
			t.Errorf("%s: image %q is not pinned to a version", name, s.Image)
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: port %s is open to the network", name, port)
			}
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if strings.HasPrefix(source, ".") {
				if _, err := os.Stat(source); err != nil {
					t.Errorf("%s: volume %s: %v", name, v, err)
				}
			} else if _, ok := c.Volumes[source]; !ok {
				t.Errorf("%s: volume %s is not declared", name, source)
			}
		}
		for _, secret := range s.Secrets {
			if _, err := os.Stat(c.Secrets[secret].File); err != nil {
				t.Errorf("%s: secret %s: %v", name, secret, err)
			}
		}
		for other, on := range s.DependsOn {
			dep, ok := c.Services[other]
			if !ok {
				t.Errorf("%s depends on %s, which is not there", name, other)
			}
			if on.Condition == "service_healthy" && dep.Healthcheck == nil {
				t.Errorf("%s waits for the health of %s, which has no check", name, other)
			}
		}
	}
	if w := c.Services["walferry"]; !w.ReadOnly || !slices.Equal(w.CapDrop, []string{"ALL"}) {
		t.Errorf("walferry runs with more than it needs: read_only %t, cap_drop %v", w.ReadOnly, w.CapDrop)
	}
}

// The configuration of the walferry in the file is one that walferry takes, and leads to the other
// services with the names and passwords they have there.
func TestComposeConfigurationFits(t *testing.T) {
	c := readCompose(t)
	// Secrets and certificates stand elsewhere than in a container, and git keeps no modes.
	secrets := t.TempDir()
	for name, s := range c.Secrets {
		write(t, filepath.Join(secrets, name), read(t, s.File))
	}
	write(t, filepath.Join(secrets, "secret-id"), "made by vault-setup.sh")
	certs := t.TempDir()
	ca, err := testca.New("compose")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(certs, "ca.pem"), string(ca.PEM()))
	env := func(name string) (string, bool) {
		switch name {
		case "SECRETS":
			return secrets, true
		case "CERTS":
			return certs, true
		case "APPROLE":
			return secrets, true
		}
		return "", false
	}
	cfg, err := config.Load("testdata/compose/walferry.yaml", config.Flags{}, env)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Services["walferry"].Command, []string{"run", "--config", "/etc/walferry/walferry.yaml"}) {
		t.Errorf("walferry's command is %v", c.Services["walferry"].Command)
	}
	for _, seed := range cfg.Kafka.Seeds {
		if host, _, err := net.SplitHostPort(seed); err != nil || c.Services[host].Image == "" {
			t.Errorf("broker %s is no service", seed)
		}
	}
	if !strings.Contains(cfg.Postgres.URL, "//postgres:5432/"+c.Services["postgres"].Environment["POSTGRES_DB"]) {
		t.Errorf("the URL %s does not lead to the service postgres", cfg.Postgres.URL)
	}
	password := strings.TrimSpace(read(t, c.Secrets["kafka"].File))
	first := strings.Split(c.Services["redpanda"].Environment["RP_BOOTSTRAP_USER"], ":")
	if want := []string{"walferry", password, strings.ToUpper(cfg.Kafka.SASL.Mechanism)}; !slices.Equal(first, want) {
		t.Errorf("redpanda's first user is %v, want %v", first, want)
	}
	if u, err := url.Parse(cfg.Vault.Address); err != nil || c.Services[u.Hostname()].Image == "" {
		t.Errorf("Vault at %s is no service", cfg.Vault.Address)
	}
	policy, setup := read(t, "testdata/compose/vault-policy.hcl"), read(t, "testdata/compose/vault-setup.sh")
	for _, path := range regexp.MustCompile(`path: ([a-z/-]+)`).FindAllStringSubmatch(read(t, "testdata/compose/walferry.yaml"), -1) {
		if !strings.Contains(policy, `path "`+path[1]+`"`) {
			t.Errorf("the policy lacks %s", path[1])
		}
	}
	for _, made := range []string{"kv kafka user=", "database/static-roles/walferry", "pki/roles/kafka-client", "role_id=" + cfg.Vault.Auth.RoleID} {
		if !strings.Contains(setup, made) {
			t.Errorf("vault-setup.sh does not make %s", made)
		}
	}
	if !cfg.Kafka.TLS.Enabled || cfg.Postgres.Publication.Create {
		t.Errorf("TLS %t, makes the publication itself %t", cfg.Kafka.TLS.Enabled, cfg.Postgres.Publication.Create)
	}
	if init := read(t, "testdata/compose/postgres-init.sh"); !strings.Contains(init, "CREATE PUBLICATION "+cfg.Postgres.Publication.Name+" ") {
		t.Errorf("nobody makes the publication %s", cfg.Postgres.Publication.Name)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
