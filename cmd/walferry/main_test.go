package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/walferry/walferry/fault"
)

// walferry runs the program with a command line and returns its exit code and what it printed.
func walferry(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestWrongCommandLines(t *testing.T) {
	const canary = "kanarienvogel"
	url := "postgres://cdc:" + canary + "@db/shop"
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"unknown command":     {[]string{"tial"}, "did you mean tail?"},
		"URL for a command":   {[]string{url}, "the first argument is not a command"},
		"command of a group":  {[]string{"checkpoint", "shwo"}, "did you mean show?"},
		"neither now nor LSN": {[]string{"checkpoint", "set", "--from", "postgres://localhost/x", "--to", "localhost:1", "--tables", "all"}, "say either --now or --lsn X/Y"},
		"now and LSN":         {[]string{"checkpoint", "set", "--now", "--lsn", "0/1", "--from", "postgres://localhost/x", "--to", "localhost:1", "--tables", "all"}, "say either --now or --lsn X/Y"},
		"no LSN":              {[]string{"checkpoint", "set", "--lsn", "here", "--from", "postgres://localhost/x", "--to", "localhost:1", "--tables", "all"}, "parse LSN"},
		"LSN of nothing":      {[]string{"checkpoint", "set", "--lsn", "0/0", "--from", "postgres://localhost/x", "--to", "localhost:1", "--tables", "all"}, "0/0 is no position"},
		"argument to drop":    {[]string{"drop", "it"}, "drop takes flags alone"},
		"unknown flag":        {[]string{"run", "--bogus"}, "See walferry run --help."},
		"stray argument":      {[]string{"run", url}, "run takes flags alone"},
		"password in --from":  {[]string{"run", "--from", url, "--to", "localhost:1", "--tables", "all"}, "[password_in_arguments]"},
		"password, tail":      {[]string{"tail", "--from", url, "--to", "localhost:1"}, "[password_in_arguments]"},
		"wrong guarantee":     {[]string{"run", "--from", "postgres://localhost/x", "--to", "localhost:1", "--tables", "all", "--delivery", "exactly-once"}, "did you mean \"exactly_once\"?"},
		"nothing to run":      {[]string{"run"}, "postgres.tables: is missing"},
		"no brokers":          {[]string{"tail"}, "kafka.brokers: is missing"},
		"no time":             {[]string{"demo", "--for", "0s"}, "--for: want a duration above zero"},
		"count of nothing":    {[]string{"tail", "--to", "localhost:1", "--count", "0"}, "--count: want a number from 1 on"},
		"file that is absent": {[]string{"run", "--config", "no-such.yaml"}, "no-such.yaml does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := walferry(t, tc.args...)
			if code != 2 || !strings.Contains(stderr, tc.want) {
				t.Errorf("exit code %d, want 2; %q lacks %q", code, stderr, tc.want)
			}
			if strings.Contains(stdout+stderr, canary) {
				t.Errorf("the password is shown: %s", stderr)
			}
		})
	}
}

// TestConfigurationErrors reads files that are wrong: no server is asked, and the exit code is 2.
func TestConfigurationErrors(t *testing.T) {
	const postgres = "postgres: {url: postgres://127.0.0.1:1/x, tables: all}\n"
	for code, tc := range map[string]struct {
		file string
		args []string
	}{
		"config_invalid":        {file: "postgres: {urls: x}\n"},
		"delivery_unsupported":  {file: postgres + "kafka: {brokers: [127.0.0.1:1]}\ndelivery: exactly_once\ncheckpoint: {store: file, path: c.json}\n"},
		"sasl_without_tls":      {file: postgres + "kafka: {brokers: [b:1], tls: {enabled: false}, sasl: {mechanism: plain, username: u, password: p}}\n"},
		"password_in_arguments": {file: postgres + "kafka: {brokers: [127.0.0.1:1]}\n", args: []string{"--from", "postgres://cdc:word@db.example/x"}},
	} {
		t.Run(code, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "walferry.yaml")
			if err := os.WriteFile(file, []byte(tc.file), 0o600); err != nil {
				t.Fatal(err)
			}
			exit, _, stderr := walferry(t, append([]string{"run", "--config", file}, tc.args...)...)
			if exit != 2 || !strings.Contains(stderr, "["+code+"]") || !strings.Contains(stderr, "walferry explain "+code) {
				t.Errorf("exit code %d, want 2 and %s: %s", exit, code, stderr)
			}
		})
	}
}

// TestExplainCommand prints a page, lists the codes, and knows what was probably meant.
func TestExplainCommand(t *testing.T) {
	for _, code := range fault.Codes() {
		exit, stdout, _ := walferry(t, "explain", string(code))
		if exit != 0 || !strings.HasPrefix(stdout, "# `"+string(code)+"`\n") || !strings.Contains(stdout, "\n## What was lost\n") {
			t.Errorf("explain %s: exit code %d, %q", code, exit, stdout)
		}
		if _, list, _ := walferry(t, "explain"); !regexp.MustCompile(`(?m)^` + string(code) + ` +\d+ +` + regexp.QuoteMeta(code.Title()) + `$`).MatchString(list) {
			t.Errorf("the list lacks %s", code)
		}
	}
	if exit, stdout, _ := walferry(t, "explain", "[slot_lost]"); exit != 0 || !strings.Contains(stdout, "# `slot_lost`") {
		t.Errorf("a code as an error prints it: exit code %d", exit)
	}
	for arg, says := range map[string]string{"slot_lots": "did you mean slot_lost?", "postgres://u:p@db/x": "there is no such error code ["} {
		if exit, _, stderr := walferry(t, "explain", arg); exit != 2 || !strings.Contains(stderr, says) || strings.Contains(stderr, arg) {
			t.Errorf("explain %s: exit code %d, %s", arg, exit, stderr)
		}
	}
	if exit, _, _ := walferry(t, "explain", "slot_lost", "fenced"); exit != 2 {
		t.Errorf("two codes: exit code %d", exit)
	}
}

// TestHelp wants examples of every command, and help and version to work.
func TestHelp(t *testing.T) {
	commands := newRoot().Commands()
	for i := 0; i < len(commands); i++ {
		cmd := commands[i]
		commands = append(commands, cmd.Commands()...)
		if cmd.Example == "" || cmd.Short == "" || cmd.Long == "" {
			t.Errorf("%s lacks an example, a line or a text", cmd.CommandPath())
		}
		path := strings.Fields(cmd.CommandPath())[1:]
		if code, stdout, _ := walferry(t, append(path, "--help")...); code != 0 || !strings.Contains(stdout, "Examples:") {
			t.Errorf("%s --help: exit code %d, %q", cmd.CommandPath(), code, stdout)
		}
	}
	if code, stdout, _ := walferry(t); code != 0 || !strings.Contains(stdout, "Available Commands:") {
		t.Errorf("no command: exit code %d, %q", code, stdout)
	}
	if code, stdout, _ := walferry(t, "version"); code != 0 || !strings.HasPrefix(stdout, "walferry ") {
		t.Errorf("version: exit code %d, %q", code, stdout)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, stdout, _ := walferry(t, "completion", shell); code != 0 || !strings.Contains(stdout, "walferry") {
			t.Errorf("completion %s: exit code %d", shell, code)
		}
	}
}

// TestExplain prints the hint and where to read more.
func TestExplain(t *testing.T) {
	var out bytes.Buffer
	explain(&out, usageError(&cobra.Command{Use: "walferry"}, context.Canceled))
	want := "walferry: read the command line: context canceled [config_invalid]\n\nSee walferry --help.\n\nMore: walferry explain config_invalid\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
