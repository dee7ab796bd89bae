package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/spf13/cobra"
)

// TestExecute: each kind of end has its exit code, a fault of our own too.
func TestExecute(t *testing.T) {
	for _, tt := range []struct {
		why  string
		run  func() error
		want int
	}{
		{"fine", func() error { return nil }, exitFine},
		{"problems", func() error { return problem(io.EOF) }, exitProblems},
		{"cobra's own", func() error { return io.EOF }, exitUsage},
		{"undetermined", func() error { return undetermined(io.EOF) }, exitUndetermined},
		{"internal", func() error { return internal(io.EOF) }, exitInternal},
		{"a panic", func() error { panic("x") }, exitInternal},
		{"interrupted", func() error { return interrupted(io.EOF) }, exitInterrupted},
	} {
		root := &cobra.Command{SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error { return tt.run() }}
		root.SetArgs([]string{})
		if got := execute(t.Context(), root); got != tt.want {
			t.Errorf("%s: exit code %d, want %d", tt.why, got, tt.want)
		}
	}
}

// TestCheckEndsEarly: what was found until then is printed, and the exit code says that it
// is not all.
func TestCheckEndsEarly(t *testing.T) {
	dark, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dark.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	check := func(w io.Writer) int {
		root := newRoot()
		root.SetArgs([]string{"check", "--server", dark.LocalAddr().String(), "--only", "spf", "--json", "example.com", "example.org"})
		root.SetOut(w)
		return execute(ctx, root)
	}
	if code := check(&out); code != exitInterrupted || bytes.Count(out.Bytes(), []byte("mxward.check/1")) != 1 {
		t.Errorf("exit code %d, %s", code, out.Bytes())
	}
	if code := check(full{}); code != exitInternal {
		t.Errorf("nothing can be written: exit code %d", code)
	}
}

// full takes nothing any more.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }
