package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mxward/internal/audit"
)

// TestCheckInterrupted: whoever ends a list in the middle gets what there is of the domain under
// way, no line for those that were not looked at, and no word against anybody.
func TestCheckInterrupted(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { // the resolver: it says nothing, and the first question ends it all
		_, _, _ = pc.ReadFrom(make([]byte, 512))
		cancel()
	}()
	hints := filepath.Join(t.TempDir(), "hints")
	if err := os.WriteFile(hints, []byte(". 3600 NS a.root.example.\na.root.example. 3600 A 127.255.255.254\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, words bytes.Buffer
	cmd := newCheck()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetErr(&words)
	cmd.SetArgs([]string{"--server", pc.LocalAddr().String(), "--root-hints", hints, "--only", "spf,mx", "--json", "example.com", "example.org"})
	err = cmd.ExecuteContext(ctx)
	var e *exitError
	if !errors.As(err, &e) || e.code != exitInterrupted || err.Error() != "check example.com: interrupted; what was printed is not all" {
		t.Errorf("%v", err)
	}
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `"domain":"example.com"`) || strings.Contains(got, `"status":"fail"`) {
		t.Errorf("got %s", got)
	}
}

// TestCheckTooMany: what is more than is looked at is refused, not passed over.
func TestCheckTooMany(t *testing.T) {
	for _, tt := range []struct {
		flag, value string
		most        int
		want        string
	}{
		{"--selector", "s", audit.MaxSelectors, "--selector: at most 32 are looked at, got 33"},
		{"--sender", "192.0.2.25", audit.MaxSenders, "--sender: at most 32 are looked at, got 33"},
	} {
		var args []string
		for range tt.most + 1 {
			args = append(args, tt.flag, tt.value)
		}
		cmd := newCheck()
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(append(args, "example.com"))
		err := cmd.ExecuteContext(t.Context())
		var e *exitError
		if !errors.As(err, &e) || e.code != exitUsage || err.Error() != tt.want {
			t.Errorf("%s: %v", tt.flag, err)
		}
	}
}
