package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/scan"
	"mxward/internal/store/storetest"
)

// shared is a scan that several processes share.
type shared struct {
	scanned
	url string
}

func newShared(t *testing.T, n int) shared {
	t.Helper()
	pg, err := storetest.StartPostgres(false)
	if errors.Is(err, storetest.ErrNoPostgres) {
		t.Skip("left out: " + err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	})
	url, err := pg.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return shared{newScanned(t, n), url}
}

// command is one with the store; it ends with the test.
func (s shared) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "mxward", append([]string{"scan", "--store", s.url, "--root-hints", "hints"}, args...)...)
	cmd.Dir = s.dir
	return cmd
}

// run runs one to its end, and wants an exit code.
func (s shared) run(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	cmd := s.command(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("%q: exit code %d, want %d: %s", args, got, code, &errs)
	}
	return out.String(), errs.String()
}

func (s shared) status(t *testing.T) jobStatus {
	t.Helper()
	out, _ := s.run(t, exitFine, "--job", "in", "--status", "--json")
	var doc scanStatus
	if err := json.Unmarshal([]byte(out), &doc); err != nil || doc.Schema != scanStatusSchema || len(doc.Jobs) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	return doc.Jobs[0]
}

// TestScanShared: of two processes on one job one is killed in the middle, and the results are
// those of one machine: each line once.
func TestScanShared(t *testing.T) {
	const n = 3000
	s := newShared(t, n)
	in := filepath.Join(s.dir, "in")
	text, err := os.ReadFile(in)
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSpace(string(text)), "\n")
	for i := range rows { // some lines are no domains, and some stood before, in other shards
		switch i % 100 {
		case 10:
			rows[i] = ""
		case 20:
			rows[i] = "D1.example."
		case 30:
			rows[i] = "no\x00domain\xff"
		}
	}
	if err := os.WriteFile(in, []byte(strings.Join(rows, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	options := []string{"--server", s.server, "--only", "mx.null,mx.implicit"}
	first := s.command(t, append(options, "in", "--concurrency", "8", "--workers", "2", "--lease", "5s")...)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	for { // until it has done something, and holds something
		out, err := s.command(t, "--job", "in", "--status", "--json").Output()
		var doc scanStatus
		if err == nil && json.Unmarshal(out, &doc) == nil && doc.Jobs[0].Done > 0 && doc.Jobs[0].Workers[0].Holds > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	second := s.command(t, "--job", "in", "--concurrency", "40", "--workers", "2", "--lease", "5s")
	var stderr bytes.Buffer
	second.Stderr = &stderr
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	first.Process.Kill()
	first.Wait()
	if now := s.status(t); now.Complete {
		t.Fatalf("it was done before it was killed: %+v", now)
	}
	if err := second.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	if now := s.status(t); !now.Complete || now.LinesDone != n || now.Lines != n || len(now.Workers) != 2 {
		t.Errorf("%+v", now)
	}

	s.run(t, exitFine, "--job", "in", "--export", "out.ndjson", "--summary", "sum.json")
	alone := exec.Command("mxward", append([]string{"scan", "in", "--root-hints", "hints", "--ordered"}, options...)...)
	alone.Dir = s.dir
	want, err := alone.Output()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(s.dir, "out.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	same(t, plainLines(t, got), plainLines(t, want), n)
	sum, err := os.ReadFile(filepath.Join(s.dir, "sum.json"))
	if err != nil || !strings.Contains(string(sum), `"complete": true`) || !strings.Contains(string(sum), fmt.Sprintf(`"lines": %d`, n)) {
		t.Errorf("%v: %s", err, sum)
	}
}

// plainLines gives the lines without what depends on who came first: how many questions it
// took is one thing where the cache has the answer, and another where not.
func plainLines(t *testing.T, text []byte) []string {
	t.Helper()
	var all []string
	for line := range bytes.Lines(text) {
		var r map[string]any
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		delete(r, "questions")
		plain, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(plain))
	}
	return all
}

func same(t *testing.T, got, want []string, n int) {
	t.Helper()
	if len(got) != n || len(want) != n {
		t.Fatalf("%d lines and %d, want %d", len(got), len(want), n)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("line %d\ngot  %s\nwant %s", i+1, got[i], want[i])
		}
	}
}

// TestScanJob: what can be done with a job, and what is refused.
func TestScanJob(t *testing.T) {
	s := newShared(t, 1500)
	options := []string{"--server", s.server, "--only", "mx.null"}
	run := func(code int, args ...string) string {
		t.Helper()
		out, stderr := s.run(t, code, args...)
		return out + stderr
	}
	says := func(got, want string) {
		t.Helper()
		if !strings.Contains(got, want) {
			t.Errorf("got %s, want %q in it", got, want)
		}
	}
	says(run(exitFine, "--status"), "there are no jobs")
	says(run(exitUsage, "--job", "in"), "there is no such job")
	says(run(exitUsage, "--job", "in", "--export", "out.ndjson"), "there is no such job")
	says(run(exitUsage, "--job", "in", "--drop"), "there is no such job")
	says(run(exitFine, append(options, "in")...), "1500 lines in ")
	says(run(exitFine, append(options, "in")...), "0 lines in ") // all is done
	says(run(exitUsage, "--server", s.server, "--only", "mx.implicit", "in"), "its options were")
	says(run(exitUsage, "--job", "in", "--full"), "its options were")
	says(run(exitUsage, append(options, "--job", "in", "hints")...), "the beginning of its input differs")
	says(run(exitFine, append(options, "--job", "in")...), "0 lines in ")
	says(run(exitFine, "--job", "in"), "0 lines in ")
	says(run(exitFine, "--status"), "in: 100%, 1500 of 1500 lines")
	if out, _ := s.run(t, exitFine, "--job", "in", "--export", "-"); strings.Count(out, "\n") != 1500 {
		t.Errorf("%d lines", strings.Count(out, "\n"))
	}
	run(exitFine, "--job", "in", "--export", "out.parquet")
	says(run(exitUsage, "--job", "in", "--export", "out.parquet"), "out.parquet exists: give another name")
	says(run(exitUsage, "--job", "in", "--export", "nosuch/out.ndjson"), "write nosuch/out.ndjson: there is no folder nosuch: make it, or give another name")
	if table, err := os.ReadFile(filepath.Join(s.dir, "out.parquet")); err != nil || !bytes.HasPrefix(table, []byte("PAR1")) || !bytes.HasSuffix(table, []byte("PAR1")) {
		t.Errorf("%v: %d octets", err, len(table))
	}
	run(exitFine, "--job", "in", "--drop")
	says(run(exitFine, "--status"), "there are no jobs")
	says(run(exitFine, append(options, "hints", "--job", "other")...), "2 lines in ")
}

// documents is a job that has so many, and then an error.
type documents struct {
	scan.Jobs
	n      int
	broken error
	while  func() // is called between them
}

func (d documents) Standings(context.Context, time.Time, string) ([]scan.Standing, error) {
	return []scan.Standing{{Shards: 1, Done: 1, Lines: d.n, Ready: d.n}}, nil
}

func (d documents) Documents(context.Context, int64) iter.Seq2[scan.Document, error] {
	return func(yield func(scan.Document, error) bool) {
		for n := range d.n {
			d.while()
			if !yield(scan.Document{Line: n + 1, Text: fmt.Appendf(nil, "{\"line\":%d,\"status\":\"invalid\"}\n", n+1)}, nil) {
				return
			}
		}
		if d.broken != nil {
			yield(scan.Document{}, d.broken)
		}
	}
}

// asked counts how often a store is asked for the standing of jobs.
type asked struct {
	documents
	times *atomic.Int64
}

func (a asked) Standings(ctx context.Context, now time.Time, name string) ([]scan.Standing, error) {
	a.times.Add(1)
	return a.documents.Standings(ctx, now, name)
}

// TestShowJob: on a terminal, too, a store is not asked more often than it bears from many machines.
func TestShowJob(t *testing.T) {
	t.Setenv("TERM", "xterm")
	terminal, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // a device, as a terminal is
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	synctest.Test(t, func(t *testing.T) {
		var times atomic.Int64
		show := showJob(t.Context(), terminal, asked{documents{n: 10}, &times}, "job")
		time.Sleep(time.Minute + time.Second)
		show.stop()
		if n := times.Load(); n < 3 || n > 20 {
			t.Errorf("asked %d times in a minute", n)
		}
	})
}

// TestExportWhole: an export is there when all of it is, and leaves nothing where it fails.
func TestExportWhole(t *testing.T) {
	broken := errors.New("connection reset")
	for _, name := range []string{"out.ndjson", "out.parquet"} {
		for _, row := range []struct {
			why    string
			broken error
			left   int
		}{
			{"to its end", nil, 1},
			{"the store is gone in the middle", broken, 0},
		} {
			dir := t.TempDir()
			file := filepath.Join(dir, name)
			f := scanFlags{shareFlags: shareFlags{export: file}}
			job := documents{n: 20_000, broken: row.broken, while: func() {
				if _, err := os.Stat(file); err == nil {
					t.Fatalf("%s, %s: it is there and not whole", name, row.why)
				}
			}}
			cmd := newScan()
			cmd.SetContext(t.Context())
			if err := f.writeResults(cmd, job, ""); !errors.Is(err, row.broken) {
				t.Errorf("%s, %s: %v", name, row.why, err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != row.left || row.left > 0 && left[0].Name() != name {
				t.Errorf("%s, %s: %v", name, row.why, left)
			}
		}
	}
}

// TestScanDark: where nothing can be seen from here, nothing is stored.
func TestScanDark(t *testing.T) {
	s := newShared(t, 3)
	_, stderr := s.run(t, exitUndetermined, "in", "--server", "127.0.0.1:1", "--only", "spf,dmarc")
	if !strings.Contains(stderr, "others take these lines") {
		t.Error(stderr)
	}
	if now := s.status(t); now.Done != 0 || slices.ContainsFunc(now.Workers, func(w workerStatus) bool { return w.Holds > 0 }) {
		t.Errorf("%+v", now)
	}
	_, stderr = s.run(t, exitUndetermined, "--job", "in", "--export", "out.ndjson")
	if !strings.Contains(stderr, "0 of 3 lines") {
		t.Error(stderr)
	}
}

// TestExportAfterKilled: what a killed export has left behind goes when the next begins; another
// that writes meanwhile keeps its own.
func TestExportAfterKilled(t *testing.T) {
	dir := t.TempDir()
	f := scanFlags{shareFlags: shareFlags{export: filepath.Join(dir, "out.ndjson")}}
	left := filepath.Join(dir, ".out.ndjson."+strings.Repeat("A", 26))
	if err := os.WriteFile(left, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, commit, drop, err := f.createExport(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer drop()
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was left is still there: %v", err)
	}
	_, _, dropOther, err := f.createExport(nil)
	if err != nil {
		t.Fatal(err)
	}
	dropOther()
	if err := commit(); err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 || names[0].Name() != "out.ndjson" {
		t.Errorf("%v, %v", names, err)
	}
}
