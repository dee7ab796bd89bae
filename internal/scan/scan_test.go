package scan

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns"
)

// texts is a Source of these lines.
type texts struct {
	lines []string
	n     int
}

func (t *texts) Next() (Line, error) {
	if t.n == len(t.lines) {
		return Line{}, io.EOF
	}
	t.n++
	return Line{Number: t.n, Text: t.lines[t.n-1]}, nil
}

// many is a Source of n domains.
type many struct {
	n  int
	at atomic.Int64
}

func (m *many) Next() (Line, error) {
	at := int(m.at.Load())
	if at == m.n {
		return Line{}, io.EOF
	}
	m.at.Store(int64(at + 1))
	return Line{Number: at + 1, Text: fmt.Sprintf("d%d.example.com", at+1)}, nil
}

// kept is a Sink that keeps all.
type kept struct {
	mu  sync.Mutex
	all []Result
}

func (k *kept) Put(r Result) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all = append(k.all, r)
	return nil
}

func (k *kept) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.all)
}

// numbers gives the lines in the order in which they came.
func (k *kept) numbers() []int {
	var all []int
	for _, r := range k.all {
		all = append(all, r.Line)
	}
	return all
}

func exactlyOnce(t *testing.T, k *kept, n int) {
	t.Helper()
	lines := slices.Sorted(slices.Values(k.numbers()))
	for i, line := range lines {
		if line != i+1 {
			t.Fatalf("line %d stands where %d should: %d results for %d lines", line, i+1, len(lines), n)
		}
	}
	if len(lines) != n {
		t.Fatalf("%d results for %d lines", len(lines), n)
	}
}

func fine(context.Context, dns.Name) Report { return Report{Questions: 1} }

// unsure leaves something open about names that begin with u.
func unsure(_ context.Context, domain dns.Name) Report {
	if strings.HasPrefix(domain.String(), "u") {
		return Report{Findings: []audit.Finding{{ID: "spf.missing", Status: audit.Unknown, Blame: audit.ZoneServers}}, Open: true}
	}
	return Report{}
}

func parse(s string) (dns.Name, error) {
	if strings.ContainsAny(s, " \x00/") {
		return dns.Name{}, errors.New("expected a domain")
	}
	return dns.ParseName(s)
}

// TestEveryLine: whatever a line is, it has one result, which says what it is.
func TestEveryLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "in")
	rows := []struct {
		text   string
		status Status
		first  int
	}{
		{"\ufeffexample.com", Checked, 0},
		{"", Invalid, 0},
		{"   ", Invalid, 0},
		{"EXAMPLE.com.", Duplicate, 1},
		{"  example.org\r", Checked, 0},
		{"https://example.net/", Invalid, 0},
		{"a\x00b.example", Invalid, 0},
		{"bücher.example", Checked, 0},
		{"xn--bcher-kva.example", Duplicate, 8},
		{strings.Repeat("x", 10<<20), Invalid, 0}, // 10 MB
		{strings.Repeat("y.", 4000), Invalid, 0},
		{"\xff\xfe.example", Invalid, 0},
		{"last.example", Checked, 0}, // without an end
	}
	var all []string
	for _, r := range rows {
		all = append(all, r.text)
	}
	if err := os.WriteFile(file, []byte(strings.Join(all, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ordered := range []bool{false, true} {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		in, err := NewInput(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		var sink kept
		s := Scanner{Check: fine, Parse: parse, Tally: &Tally{}, Ordered: ordered, Concurrency: 3}
		if err := s.Run(t.Context(), in, &sink); err != nil {
			t.Fatal(err)
		}
		exactlyOnce(t, &sink, len(rows))
		if ordered && !slices.IsSorted(sink.numbers()) {
			t.Errorf("order: %v", sink.numbers())
		}
		for _, r := range sink.all {
			want := rows[r.Line-1]
			if r.Status != want.status || r.First != want.first {
				t.Errorf("line %d %.20q: %s of %d, want %s of %d", r.Line, want.text, r.Status, r.First, want.status, want.first)
			}
			var line bytes.Buffer
			if err := r.Write(&line, false); err != nil || !json.Valid(line.Bytes()) || line.Len() > 4096 || bytes.Count(line.Bytes(), []byte("\n")) != 1 {
				t.Errorf("line %d: %v: %d octets", r.Line, err, line.Len())
			}
		}
	}
}

// TestAgain: what is unknown is asked again, once, and its line comes once; in ordered output
// at its place.
func TestAgain(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			lines := []string{"a.example", "u1.example", "b.example", "u2.example", "c.example"}
			var sink kept
			began := time.Now()
			var again atomic.Int32
			s := Scanner{Check: unsure, Parse: parse, Tally: &Tally{}, Ordered: ordered, Concurrency: 2, Again: func(ctx context.Context, domain dns.Name) Report {
				again.Add(1)
				if waited := time.Since(began); waited < pause {
					t.Errorf("asked again after %s", waited)
				}
				return fine(ctx, domain)
			}}
			if err := s.Run(t.Context(), &texts{lines: lines}, &sink); err != nil {
				t.Fatal(err)
			}
			exactlyOnce(t, &sink, len(lines))
			if again.Load() != 2 || ordered && !slices.IsSorted(sink.numbers()) {
				t.Errorf("asked again %d times; %v", again.Load(), sink.numbers())
			}
			for _, r := range sink.all {
				if r.Again != strings.HasPrefix(r.Domain, "u") {
					t.Errorf("%s: asked again: %t", r.Domain, r.Again)
				}
			}
			if p := s.Tally.Progress(); p.Holding != 0 || p.Unknown != 0 {
				t.Errorf("%+v", p)
			}
		})
	}
}

// TestHeldInFile: those beyond what is kept in memory come back from the file.
func TestHeldInFile(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	var h held
	t.Cleanup(h.close)
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 2 * maxHeld {
		if err := h.add(work{i, "text\n" + fmt.Sprint(i), dns.MustName(fmt.Sprintf("d%d.example", i)), since}); err != nil {
			t.Fatal(err)
		}
	}
	if len(h.some) != maxHeld {
		t.Errorf("%d in memory", len(h.some))
	}
	if left, err := os.ReadDir(folder); h.file == nil || err != nil || len(left) > 0 { // so that one that is killed leaves nothing
		t.Errorf("%v: %v", err, left)
	}
	jobs := make(chan work)
	go func() {
		defer close(jobs)
		if err := h.each(t.Context(), jobs); err != nil {
			t.Error(err)
		}
	}()
	n := 0
	for w := range jobs {
		if w.line != n || w.domain.String() != fmt.Sprintf("d%d.example", n) || w.text != "text\n"+fmt.Sprint(n) || !w.since.Equal(since) {
			t.Fatalf("%d: %+v", n, w)
		}
		n++
	}
	if n != 2*maxHeld {
		t.Errorf("%d came back", n)
	}
}

// TestFault: a fault of ours costs its line.
func TestFault(t *testing.T) {
	var sink kept
	s := Scanner{Parse: parse, Tally: &Tally{}, Check: func(_ context.Context, domain dns.Name) Report {
		if domain.String() == "b.example" {
			panic("a fault")
		}
		return Report{}
	}}
	if err := s.Run(t.Context(), &texts{lines: []string{"a.example", "b.example", "c.example"}}, &sink); err != nil {
		t.Fatal(err)
	}
	exactlyOnce(t, &sink, 3)
	if sum := s.Tally.Summary(true); sum.Status[Failed] != 1 || len(s.Tally.Faults()) != 1 {
		t.Errorf("%+v", sum)
	}
}

// TestInterrupted: what is under way is dropped, and the rest is whole.
func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var sink kept
		s := Scanner{Parse: parse, Tally: &Tally{}, Concurrency: 10, Check: func(ctx context.Context, domain dns.Name) Report {
			select {
			case <-time.After(time.Second):
				return Report{}
			case <-ctx.Done():
				return Report{Findings: []audit.Finding{{ID: "spf.missing", Status: audit.Unknown}}}
			}
		}}
		go func() {
			time.Sleep(10*time.Second + time.Millisecond)
			cancel()
		}()
		err := s.Run(ctx, &many{n: 1000}, &sink)
		if !errors.Is(err, context.Canceled) || len(sink.all) < 50 || len(sink.all) > 110 {
			t.Errorf("%v after %d", err, len(sink.all))
		}
		for _, r := range sink.all {
			if len(r.Findings) > 0 {
				t.Errorf("line %d was not waited for", r.Line)
			}
		}
	})
}

// TestFullDisk: what cannot be written ends the scan.
func TestFullDisk(t *testing.T) {
	full := errors.New("no room")
	s := Scanner{Parse: parse, Tally: &Tally{}, Check: fine}
	if err := s.Run(t.Context(), &many{n: 1000}, broken{full}); !errors.Is(err, full) {
		t.Error(err)
	}
	if n := s.Tally.Progress().Lines; n > 0 {
		t.Errorf("%d lines are counted, and none was written", n)
	}
}

// TestOrderedInterrupted: what waits for its turn when the scan is ended is not counted.
func TestOrderedInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var sink kept
		s := Scanner{Parse: parse, Tally: &Tally{}, Ordered: true, Concurrency: 10, Check: func(ctx context.Context, domain dns.Name) Report {
			if domain.String() == "d3.example.com" {
				<-ctx.Done()
			}
			return Report{}
		}}
		if err := s.Run(ctx, &many{n: 1000}, &sink); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if n := s.Tally.Progress().Lines; n != 2 || len(sink.all) != 2 {
			t.Errorf("%d lines are counted, %d were put", n, len(sink.all))
		}
	})
}

type broken struct{ err error }

func (b broken) Put(Result) error { return b.err }

// TestLookAhead: lines are not read far ahead of those that are looked at, in ordered output
// neither, where one waits for long.
func TestLookAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 10
		source := &many{n: 1000}
		var sink kept
		s := Scanner{Parse: parse, Tally: &Tally{}, Concurrency: n, Ordered: true, Check: func(_ context.Context, domain dns.Name) Report {
			if domain.String() == "d1.example.com" {
				time.Sleep(time.Hour)
			}
			return Report{}
		}}
		done := make(chan error)
		go func() { done <- s.Run(t.Context(), source, &sink) }()
		time.Sleep(time.Minute)
		if read, came := source.at.Load(), sink.count(); read > n*lookAhead+1 || came > 0 {
			t.Errorf("%d lines were read, %d results came before the first", read, came)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		exactlyOnce(t, &sink, 1000)
	})
}

// TestSeen: names are known again, by so many octets.
func TestSeen(t *testing.T) {
	var s Seen
	const n = 300_000
	for i := range n {
		if first, known := s.Add(fmt.Sprintf("d%d.example", i), i+1); known {
			t.Fatalf("%d is taken for %d", i, first)
		}
	}
	for i := range n {
		if first, known := s.Add(fmt.Sprintf("d%d.example", i), n+1); !known || first != i+1 {
			t.Fatalf("%d: %d, %t", i, first, known)
		}
	}
	if each := float64(s.octets()) / n; each > 18 {
		t.Errorf("%.1f octets a name", each)
	}
	s.names = MaxSeen // more are not kept, and looked at each time
	for range 2 {
		if _, known := s.Add("new.example", 5); known {
			t.Error("it is kept")
		}
	}
}

// TestMemory counts what lives after scans of different length: it does not grow with the number
// of domains, but for the table of names.
func TestMemory(t *testing.T) {
	alive := func(n int) uint64 {
		s := Scanner{Parse: parse, Tally: &Tally{}, Concurrency: 8, Check: func(_ context.Context, domain dns.Name) Report {
			return Report{Provider: domain.String(), Questions: 1}
		}}
		if err := s.Run(t.Context(), &many{n: n}, NewDiscard(t)); err != nil {
			t.Fatal(err)
		}
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		runtime.KeepAlive(s)
		return m.HeapAlloc
	}
	few, more := alive(2*maxProviders), alive(10*maxProviders)
	if more > few+1<<20 {
		t.Errorf("%d octets live after %d domains, %d after %d", few, 2*maxProviders, more, 10*maxProviders)
	}
}

// NewDiscard is a Sink that keeps nothing.
func NewDiscard(t *testing.T) Sink {
	o := NewOutput(nowhere{}, false, true)
	t.Cleanup(func() { o.Close() })
	return o
}

type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) Sync() error                 { return nil }
