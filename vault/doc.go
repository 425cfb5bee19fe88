// Package vault holds credentials. Today it is the Secret type alone, which cannot be printed;
// reading from HashiCorp Vault, renewal and rotation will live here.
//
// The package imports nothing of ours.
package vault
