package testca_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"

	"github.com/walferry/walferry/internal/testca"
)

func TestIssue(t *testing.T) {
	ca, err := testca.New("ours")
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := ca.Issue("server", "localhost", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	other, err := testca.New("ours")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, host string
		ca         *testca.CA
		good       bool
	}{
		{"name", "localhost", ca, true},
		{"address", "127.0.0.1", ca, true},
		{"wrong name", "elsewhere", ca, false},
		{"wrong authority", "localhost", other, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(tc.ca.PEM())
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: tc.host, Roots: roots}); (err == nil) != tc.good {
				t.Fatalf("verify: %v", err)
			}
		})
	}
}
