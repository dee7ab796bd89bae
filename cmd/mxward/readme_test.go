package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```")

// TestReadme does what the README's tour says, line by line, with a port that is free here.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	blocks := map[string]string{}
	for _, b := range fence.FindAllStringSubmatch(strings.ReplaceAll(string(text), "127.0.0.1:2525", addr), -1) {
		blocks[b[1]] += b[2]
	}
	if blocks["toml"] == "" || blocks["sh"] == "" {
		t.Fatal("the README has no plan or no tour")
	}
	script := tour(t, blocks["sh"], addr)
	for _, verb := range []string{"plan check", "serve", "queue list", "route"} {
		if !strings.Contains(script, "mxward "+verb) {
			t.Errorf("the tour does not show mxward %s", verb)
		}
	}
	file := filepath.Join(t.TempDir(), "tour.txtar")
	if err := os.WriteFile(file, []byte(script+"-- mxward.toml --\n"+blocks["toml"]), 0o644); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Files: []string{file},
		Cmds:  map[string]func(ts *testscript.TestScript, neg bool, args []string){"waitfor": waitFor, "send": send, "attempt": attempt},
	})
}

// tour turns the shell block into a script. The gate needs a moment to start, the message
// one to arrive; the last line asks the world's DNS, which a test cannot count on.
func tour(t *testing.T, shell, addr string) string {
	t.Helper()
	var script strings.Builder
	for line := range strings.Lines(shell) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case strings.HasSuffix(line, "&"):
			script.WriteString(line + "gate&\nsend " + addr + " alice@example.net bob@example.com ready\n")
		case strings.HasPrefix(line, "swaks ") && !installed("swaks"):
			script.WriteString("send " + addr + " alice@example.net bob@example.com swaks\n")
		case strings.HasPrefix(line, "find "):
			script.WriteString("waitfor mail/*/*/new/* Subject:\nexec " + line + "\nstdout mail/.*/new/\n")
		case strings.HasPrefix(line, "mxward route"), strings.HasPrefix(line, "mxward resolve"):
			script.WriteString("attempt " + line + "\n")
		case strings.HasPrefix(line, "mxward "):
			script.WriteString(line + "\n")
		default:
			script.WriteString("exec " + line + "\n")
		}
	}
	script.WriteString("kill -INT gate\nwait gate\n")
	return script.String()
}

// attempt runs a program whose result depends on the world outside: attempt mxward route …
func attempt(ts *testscript.TestScript, _ bool, args []string) {
	if err := ts.Exec(args[0], args[1:]...); err != nil {
		ts.Logf("%v", err)
	}
}

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}
