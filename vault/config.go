package vault

import "time"

// Config says where Vault is and how to log in there. What is empty comes from Vault's own environment
// variables (VAULT_ADDR, VAULT_CACERT, VAULT_NAMESPACE and so on), where there is one for it.
type Config struct {
	// Address is https://host:port; http is for loopback alone.
	Address string
	// Namespace is one of Vault Enterprise or HCP.
	Namespace string
	// CAFile is PEM, in place of the system's roots; it is read at each connection.
	CAFile string
	// ServerName is what must stand in Vault's certificate in place of the address' host.
	ServerName string
	// Redirects are the hosts (host or host:port) that an answer may send the client to. None means never.
	Redirects []string
	// StartTimeout is how long Start tries again while Vault is away; above zero.
	StartTimeout time.Duration
	// PollInterval is how often a secret without a lease is looked at; above zero.
	PollInterval time.Duration
	Auth         Auth
}

// Auth is the login. Each method uses some of the fields.
type Auth struct {
	// Method is one of Methods.
	Method string
	// Mount is where the method is mounted; empty means under its own name.
	Mount string
	// Role is the role of kubernetes, jwt and cert (there it is optional).
	Role string
	// RoleID and SecretIDFile are of approle. Where the secret id is wrapped, the file holds the
	// wrapping token, which is unwrapped once.
	RoleID          string
	SecretIDFile    string
	SecretIDWrapped bool
	// Token is of token, TokenFile of token_file, where Vault Agent writes it.
	Token     Secret
	TokenFile string
	// JWTFile is of kubernetes and jwt. It is read at each login.
	JWTFile string
	// CertFile and KeyFile are the client certificate, which cert logs in with. They are read at each
	// connection.
	CertFile, KeyFile string
}

// The methods of logging in.
const (
	MethodAppRole    = "approle"
	MethodToken      = "token"
	MethodTokenFile  = "token_file"
	MethodKubernetes = "kubernetes"
	MethodJWT        = "jwt"
	MethodCert       = "cert"
)

// Methods returns all methods.
func Methods() []string {
	return []string{MethodAppRole, MethodToken, MethodTokenFile, MethodKubernetes, MethodJWT, MethodCert}
}

// mount is where the login of a method goes.
func (a Auth) mount() string {
	if a.Mount != "" {
		return a.Mount
	}
	return a.Method
}

// ownToken tells whether this process made its token by a login, and may so make another, or revoke it.
func (a Auth) ownToken() bool { return a.Method != MethodToken && a.Method != MethodTokenFile }
