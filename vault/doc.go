// Package vault holds credentials. Today that is Secret, which cannot be printed, and Credential, which says where one comes from;
// reading from HashiCorp Vault, renewal and rotation will live here.
//
// The package imports nothing of ours.
package vault
