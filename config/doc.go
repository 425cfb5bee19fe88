// Package config turns a file, flags and the environment into one validated Config, made of the
// structs of the rooms that use it.
//
//	file ──decode──▶ settings ──flags──▶ settings ──build──▶ Config
//	       (types, keys, ${ENV})                    (values, defaults by name)
//
// It promises that nothing is ignored in silence: every key that is not known, of a wrong type or
// of a bad value is reported with file, line and key, all at once, and no message shows a secret.
// It reads the file and the files that hold secrets, and connects to nothing. docs/configuration.md
// is its contract.
package config
