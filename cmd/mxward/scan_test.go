package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/scan"
)

// scanned is a scan of n domains, and how often it is ended from outside.
type scanned struct {
	n      int
	dir    string
	server string
}

func newScanned(t *testing.T, n int) scanned {
	t.Helper()
	s := scanned{n: n, dir: t.TempDir()}
	s.server = serveDNS(t, &dns.Mux{Zones: map[dns.Name]dns.Resolver{dns.Root: dnstest.Zone(t, ".", `
@ 300 SOA a.root.example. hostmaster.root.example. 1 3600 900 604800 300
@ 300 NS a.root.example.
*.example 300 MX 10 mx.example.
mx.example. 300 A 192.0.2.1
`)}})
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "d%d.example\n", i+1)
	}
	for name, text := range map[string]string{"in": text.String(), "hints": ". 3600000 NS a.root.example.\na.root.example. 3600000 A 127.0.0.1\n"} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// start runs the program; it goes on where it was.
func (s scanned) start(t *testing.T) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command("mxward", "scan", "in", "--server", s.server, "--root-hints", "hints", "--only", "mx", "--output", "out", "--resume", "--concurrency", "8")
	cmd.Dir = s.dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, &stderr
}

// whole reads the output: each line of the input at most once, and how many there are.
func (s scanned) whole(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for line := range bytes.Lines(text) {
		var r scan.Result
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if seen[r.Line] || r.Line < 1 || r.Line > s.n || r.Input != fmt.Sprintf("d%d.example", r.Line) {
			t.Fatalf("line %d (%s) stands there twice, or was not in the input", r.Line, r.Input)
		}
		seen[r.Line] = true
	}
	return len(seen)
}

// TestScanKilled: killed again and again, at any point and with its last line torn, a scan ends
// with one line for each of the input.
func TestScanKilled(t *testing.T) {
	s := newScanned(t, 300)
	out := filepath.Join(s.dir, "out")
	for range 5 {
		cmd, _ := s.start(t)
		time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond) // the point is any
		cmd.Process.Kill()
		cmd.Wait()
		if info, err := os.Stat(out); err == nil && info.Size() > 0 {
			if err := os.Truncate(out, info.Size()-rand.Int64N(min(info.Size(), 300))); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd, stderr := s.start(t)
	cmd.Wait()
	if n := s.whole(t); n != s.n {
		t.Errorf("%d lines of %d; %s", n, s.n, stderr)
	}
}

// TestScanInterrupted: Ctrl-C ends a scan with whole lines and its own exit status.
func TestScanInterrupted(t *testing.T) {
	s := newScanned(t, 100_000)
	cmd, stderr := s.start(t)
	for { // until something is written
		if info, err := os.Stat(filepath.Join(s.dir, "out")); err == nil && info.Size() > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	cmd.Process.Signal(os.Interrupt)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || !strings.Contains(stderr.String(), "--resume goes on") {
		t.Errorf("exit status %d: %s", code, stderr)
	}
	if n := s.whole(t); n == 0 || n == s.n {
		t.Errorf("%d lines", n)
	}
}

// TestProgressLine: what is left follows from what was read; of a pipe nobody knows.
func TestProgressLine(t *testing.T) {
	now := scan.Progress{Lines: 900, Holding: 100, Unknown: 7}
	for _, row := range []struct {
		size int64
		bar  bool
		want string
	}{
		{4000, true, "[#####...............]  25%, 900 lines, 90/s, 33s left, 7 with unknowns, 100 to ask again"},
		{4000, false, " 25%, 900 lines, 90/s, 33s left, 7 with unknowns, 100 to ask again"},
		{-1, true, "900 lines, 90/s, 7 with unknowns, 100 to ask again"},
	} {
		if got := progressLine(now, 1000, row.size, 10*time.Second, row.bar); got != row.want {
			t.Errorf("got  %s\nwant %s", got, row.want)
		}
	}
}

// TestScanQuiet: a signal ends a scan whose standard input says nothing.
func TestScanQuiet(t *testing.T) {
	cmd := exec.Command("mxward", "scan", "-", "--server", "127.0.0.1:1", "--only", "mx")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(in, "no domain")
	if _, err := stdout.Read(make([]byte, 1)); err != nil { // it has read what there is
		t.Error(err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
		t.Errorf("exit status %d", code)
	}
}
