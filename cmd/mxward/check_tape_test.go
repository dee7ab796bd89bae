package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// nonet runs a program without a network, where the system lets us, and else as it is.
func nonet() {
	run := func(attr *syscall.SysProcAttr) error {
		cmd := exec.Command(os.Args[1], os.Args[2:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = os.Stdin, os.Stdout, os.Stderr, attr
		return cmd.Run()
	}
	err := run(noNetwork())
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		err = run(nil)
	}
	switch {
	case errors.As(err, &ended):
		os.Exit(ended.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// hugeTape is a recording with a line of 10 MB.
func hugeTape(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "huge.tape")
	text := `{"schema":"mxward.tape/1","version":"1.0","when":"2026-11-01T12:00:00Z","domains":["example.com"],"asked":{"server":""}}
{"kind":"domain","domain":"example.com","when":"2026-11-01T12:00:00Z","no_such":"mxward-x"}
{"kind":"question","domain":"` + strings.Repeat("x", 10<<20) + "\"}\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
