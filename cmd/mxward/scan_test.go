package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

func newScanned(t *testing.T, n int) scanned { return newSlow(t, n, 0) }

// newSlow is one whose resolver takes its time for each MX question.
func newSlow(t *testing.T, n int, takes time.Duration) scanned {
	t.Helper()
	s := scanned{n: n, dir: t.TempDir()}
	zone := dnstest.Zone(t, ".", `
@ 300 SOA a.root.example. hostmaster.root.example. 1 3600 900 604800 300
@ 300 NS a.root.example.
*.example 300 MX 10 mx.example.
mx.example. 300 A 192.0.2.1
`)
	s.server = serveDNS(t, &dns.Mux{Default: dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		if q.Type == dns.TypeMX {
			time.Sleep(takes)
		}
		return zone.Resolve(ctx, q)
	})})
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
func (s scanned) start(t *testing.T, more ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	args := append([]string{"scan", "in", "--server", s.server, "--root-hints", "hints", "--only", "mx", "--output", "out", "--resume", "--concurrency", "8"}, more...)
	cmd := exec.Command("mxward", args...)
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

// lines gives how many whole lines the output has, 0 where there is none.
func (s scanned) lines(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "out"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte("\n"))
}

// TestScanKilled: killed at any point of its beginning, and again and again in the middle, with its
// last line torn, a scan ends with one line for each of the input.
func TestScanKilled(t *testing.T) {
	for _, order := range []string{"--ordered=false", "--ordered"} {
		s := newSlow(t, 500, 80*time.Millisecond) // some five seconds; results are written each second
		out := filepath.Join(s.dir, "out")
		for range 3 {
			cmd, _ := s.start(t, order)
			time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond) // the point is any
			cmd.Process.Kill()
			cmd.Wait()
		}
		for range 2 {
			before := s.lines(t)
			cmd, stderr := s.start(t, order)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				cmd.Wait()
			}()
			for s.lines(t) <= before {
				select {
				case <-ended:
					t.Fatalf("%s: it ended with %d lines: %s", order, s.lines(t), stderr)
				case <-time.After(5 * time.Millisecond):
				}
			}
			cmd.Process.Kill()
			<-ended
			info, err := os.Stat(out)
			if err != nil {
				t.Fatal(err)
			}
			if n := s.lines(t); n == 0 || n >= s.n {
				t.Fatalf("%s: it was not killed in the middle: %d lines of %d", order, n, s.n)
			}
			if err := os.Truncate(out, info.Size()-rand.Int64N(min(info.Size(), 300))); err != nil {
				t.Fatal(err)
			}
		}
		cmd, stderr := s.start(t, order)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%s: %v: %s", order, err, stderr)
		}
		if n := s.whole(t); n != s.n {
			t.Errorf("%s: %d lines of %d; %s", order, n, s.n, stderr)
		}
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

// small is a file with little room.
type small struct {
	bytes.Buffer
	room   int
	broken error // what Sync says
}

func (s *small) Write(b []byte) (int, error) {
	if n := s.room - s.Len(); len(b) > n {
		s.Buffer.Write(b[:n])
		return n, syscall.ENOSPC
	}
	return s.Buffer.Write(b)
}

func (s *small) Sync() error { return s.broken }

// TestScanTorn: where results cannot be written, a scan says how many are stored, claims no
// others, adds nothing to the output, and ends with its own exit status, whatever else ends it.
func TestScanTorn(t *testing.T) {
	for _, row := range []struct {
		why    string
		file   small
		flags  scanFlags
		err    error // of the scan
		stored string
		ends   string
	}{
		{"no room", small{room: 500}, scanFlags{output: "out"}, nil, "1 of 3 lines", "mend that, and the same command with --resume goes on"},
		{"no room, and that ended the scan", small{room: 500}, scanFlags{output: "out"}, fmt.Errorf("write a result: %w", syscall.ENOSPC), "1 of 3 lines", "goes on"},
		{"no room, and Ctrl-C", small{room: 500}, scanFlags{output: "out"}, context.Canceled, "1 of 3 lines", "goes on"},
		{"no room, and the input is broken", small{room: 500}, scanFlags{output: "out"}, errors.New("read the input"), "1 of 3 lines", "goes on"},
		{"no room for what others read", small{room: 500}, scanFlags{output: "-", summaryLine: true}, nil, "1 of 3 lines", "the last may be torn"},
		{"a summary is wanted", small{room: 500}, scanFlags{output: "out", summaryLine: true, summary: "sum"}, nil, "1 of 3 lines", "; no summary was written"},
		{"a disk that keeps nothing", small{room: 1 << 20, broken: syscall.EIO}, scanFlags{output: "out"}, nil, "0 of 3 lines", "goes on"},
	} {
		t.Chdir(t.TempDir())
		var tally scan.Tally
		sink := scan.NewOutput(&row.file, false, row.flags.output != "-")
		s := scan.Scanner{Parse: parseLine, Tally: &tally, Check: func(context.Context, dns.Name) scan.Report { return scan.Report{} }}
		source, err := scan.NewInput(t.Context(), fileOf(t, "a.example\nb.example\nc.example\n"))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Run(t.Context(), source, sink); err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		err = row.flags.end(&stderr, &row.file, sink, &tally, "", row.err)
		var e *exitError
		if !errors.As(err, &e) || e.code != exitInternal {
			t.Fatalf("%s: %v", row.why, err)
		}
		text := err.Error()
		if !strings.Contains(text, row.stored+" that were looked at are stored") || !strings.HasSuffix(text, row.ends) || strings.Count(text, "no space left") > 1 {
			t.Errorf("%s: %s", row.why, text)
		}
		if bytes.Contains(row.file.Bytes(), []byte("summary")) || strings.Contains(stderr.String(), "lines in") {
			t.Errorf("%s: %s: %s", row.why, &row.file, &stderr)
		}
		if _, err := os.Stat("sum"); err == nil {
			t.Errorf("%s: there is a summary", row.why)
		}
	}
}

func fileOf(t *testing.T, text string) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
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
