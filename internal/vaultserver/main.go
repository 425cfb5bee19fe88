// Command vaultserver is a real HashiCorp Vault for tests: its core, its HTTP handler with TLS, and
// the engines that tests need. It listens on loopback, keeps its data in a folder, and is no longer
// secure than the folder is: the unseal key and the root token lie in it.
//
// It is a module of its own, so that nothing of Vault's server enters the product. internal/vaulttest
// builds it once and runs it.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	credjwt "github.com/hashicorp/vault-plugin-auth-jwt"
	credkubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	"github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/audit"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/cert"
	"github.com/hashicorp/vault/builtin/logical/database"
	"github.com/hashicorp/vault/builtin/logical/pki"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/plugins/database/postgresql"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/vault"
)

func main() {
	dir := flag.String("dir", "", "folder of the data; cert.pem and key.pem lie in it")
	listen := flag.String("listen", "127.0.0.1:8200", "host:port")
	flag.Parse()
	if err := run(*dir, *listen); err != nil {
		log.Fatal(err)
	}
}

// run serves until SIGTERM.
func run(dir, listen string) error {
	core, err := newCore(dir, listen)
	if err != nil {
		return err
	}
	if err := open(core, filepath.Join(dir, "init.json")); err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return fmt.Errorf("load the certificate: %w", err)
	}
	inner, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	handler := vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: &configutil.Listener{}})
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	go func() { // ends with the process
		<-ctx.Done()
		_ = server.Close()
	}()
	err = server.Serve(tls.NewListener(inner, &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequestClientCert, // the cert method checks it
	}))
	if errors.Is(err, http.ErrServerClosed) {
		return core.Shutdown()
	}
	return fmt.Errorf("serve: %w", err)
}

// newCore makes a Vault with its data in the folder: a restart finds everything again.
func newCore(dir, listen string) (*vault.Core, error) {
	logger := hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr})
	storage, err := file.NewFileBackend(map[string]string{"path": filepath.Join(dir, "data")}, logger)
	if err != nil {
		return nil, fmt.Errorf("open the storage: %w", err)
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:     storage,
		Logger:       logger,
		DisableMlock: true,
		RedirectAddr: "https://" + listen,
		LogicalBackends: map[string]logical.Factory{
			"kv": kv.Factory, "pki": pki.Factory, "transit": transit.Factory, "database": database.Factory,
		},
		CredentialBackends: map[string]logical.Factory{
			"approle": approle.Factory, "cert": cert.Factory, "jwt": credjwt.Factory, "kubernetes": credkubernetes.Factory,
		},
		AuditBackends:   map[string]audit.Factory{"file": audit.NewFileBackend},
		BuiltinRegistry: registry{},
	})
	if err != nil {
		return nil, fmt.Errorf("make the core: %w", err)
	}
	return core, nil
}

// opened is what the initialisation answered.
type opened struct {
	RootToken string `json:"root_token"`
	Key       []byte `json:"key"`
}

// open unseals the core, which it initialises where that was not done yet.
func open(core *vault.Core, name string) error {
	ctx := context.Background()
	done, err := core.Initialized(ctx)
	if err != nil {
		return fmt.Errorf("look whether it is initialised: %w", err)
	}
	var o opened
	if done {
		data, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read the unseal key: %w", err)
		}
		if err := json.Unmarshal(data, &o); err != nil {
			return fmt.Errorf("read the unseal key: %w", err)
		}
	} else {
		shares := &vault.SealConfig{SecretShares: 1, SecretThreshold: 1}
		made, err := core.Initialize(ctx, &vault.InitParams{BarrierConfig: shares, RecoveryConfig: shares})
		if err != nil {
			return fmt.Errorf("initialise: %w", err)
		}
		o = opened{RootToken: made.RootToken, Key: made.SecretShares[0]}
		data, err := json.Marshal(o)
		if err != nil {
			return fmt.Errorf("write the unseal key: %w", err)
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return fmt.Errorf("write the unseal key: %w", err)
		}
	}
	if _, err := core.Unseal(o.Key); err != nil {
		return fmt.Errorf("unseal: %w", err)
	}
	return nil
}

// registry knows the one database plugin.
type registry struct{}

const plugin = "postgresql-database-plugin"

func (registry) Contains(name string, kind consts.PluginType) bool {
	return name == plugin && kind == consts.PluginTypeDatabase
}

func (r registry) Get(name string, kind consts.PluginType) (func() (any, error), bool) {
	return postgresql.New, r.Contains(name, kind)
}

func (registry) Keys(kind consts.PluginType) []string {
	if kind == consts.PluginTypeDatabase {
		return []string{plugin}
	}
	return nil
}

func (r registry) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, r.Contains(name, kind)
}

func (registry) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }
