package storetest

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mxward/internal/scan"
)

// Scans is a store of scans that machines share.
type Scans interface {
	scan.Jobs
	scan.Shards
}

// FreshScans gives, for one test, an empty store of scans, as a function that opens it once
// more, as another process would.
type FreshScans func(t testing.TB) (open func() Scans)

// RunScans proves that a store keeps the promises of scan.Jobs and scan.Shards.
func RunScans(t *testing.T, fresh FreshScans) {
	for _, part := range []struct {
		name string
		test func(*testing.T, *scans)
	}{
		{"load", testLoad},
		{"broken load", testBrokenLoad},
		{"loads at once", testLoadRace},
		{"odd lines", testOddLines},
		{"no lines", testNoLines},
		{"take", testTake},
		{"lease ended", testLeaseEnded},
		{"release", testRelease},
		{"finish", testFinish},
		{"documents", testDocuments},
		{"standings", testStandings},
		{"drop", testDrop},
		{"exactly once", testExactlyOnce},
	} {
		t.Run(part.name, func(t *testing.T) {
			open := fresh(t)
			part.test(t, &scans{T: t, Scans: open(), open: open, now: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)})
		})
	}
}

// scans is a store under test, and a clock that the test moves.
type scans struct {
	*testing.T
	Scans
	open func() Scans
	now  time.Time
}

// texts is a Source of these lines, and of an error after them.
type texts struct {
	lines []string
	end   error
	read  int
}

func (s *texts) Next() (scan.Line, error) {
	if s.read == len(s.lines) {
		return scan.Line{Number: s.read}, s.end
	}
	s.read++
	return scan.Line{Number: s.read, Text: s.lines[s.read-1]}, nil
}

// domains gives n lines.
func domains(n int) *texts {
	s := &texts{end: io.EOF}
	for i := range n {
		s.lines = append(s.lines, fmt.Sprintf("d%d.example", i+1))
	}
	return s
}

func job(name string, shard int) scan.Job {
	return scan.Job{Name: name, Input: scan.Identity{Size: 7, Prefix: "ab"}, Mode: "only=mx", Shard: shard}
}

// load makes a job of n lines and gives its id.
func (s *scans) load(name string, n, shard int) int64 {
	s.Helper()
	if err := s.Load(ctx(), s.now, job(name, shard), domains(n)); err != nil {
		s.Fatal(err)
	}
	return s.standing(name).ID
}

func (s *scans) standing(name string) scan.Standing {
	s.Helper()
	all, err := s.Standings(ctx(), s.now, name)
	if err != nil || len(all) != 1 {
		s.Fatalf("%d standings of %s: %v", len(all), name, err)
	}
	return all[0]
}

// take wants a shard, or an error.
func (s *scans) take(id int64, owner string, want error) scan.Shard {
	s.Helper()
	shard, err := s.Take(ctx(), s.now, s.now.Add(leaseTime), id, owner)
	if !errors.Is(err, want) {
		s.Fatalf("%s takes a shard: %v, want %v", owner, err, want)
	}
	return shard
}

// found makes the documents of a shard.
func found(shard scan.Shard) scan.Finished {
	var f scan.Finished
	for _, line := range shard.Lines {
		f.Documents = append(f.Documents, scan.Document{Line: line.Number, Text: []byte(line.Text + "\n")})
	}
	return f
}

func (s *scans) end(shard scan.Shard, want error) {
	s.Helper()
	if err := s.Scans.Finish(ctx(), s.now, shard.Lease, found(shard)); !errors.Is(err, want) {
		s.Fatalf("finish shard %d: %v, want %v", shard.Lease.Shard, err, want)
	}
}

// documents gives the texts, and wants them in order.
func (s *scans) documents(id int64) []string {
	s.Helper()
	var all []string
	last := 0
	for d, err := range s.Documents(ctx(), id) {
		if err != nil {
			s.Fatal(err)
		}
		if d.Line <= last {
			s.Fatalf("line %d comes after line %d", d.Line, last)
		}
		last = d.Line
		all = append(all, string(d.Text))
	}
	return all
}

// testLoad: a job is made once, and another is not taken for it.
func testLoad(t *testing.T, s *scans) {
	s.load("first", 25, 10)
	if got := s.standing("first"); got.Shards != 3 || got.Lines != 25 || got.Ready != 0 || got.Done != 0 || got.Complete() || !got.Created.Equal(s.now) {
		t.Errorf("%+v", got)
	}
	again := domains(25)
	if err := s.Load(ctx(), s.now, job("first", 7), again); err != nil || again.read > 0 || s.standing("first").Shards != 3 {
		t.Errorf("once more: %v, %d lines read", err, again.read)
	}
	for _, row := range []struct {
		why    string
		change func(*scan.Job)
	}{
		{"another size", func(j *scan.Job) { j.Input.Size = 8 }},
		{"another beginning", func(j *scan.Job) { j.Input.Prefix = "cd" }},
		{"other options", func(j *scan.Job) { j.Mode = "only=spf" }},
	} {
		other := job("first", 10)
		row.change(&other)
		if err := s.Load(ctx(), s.now, other, domains(1)); !errors.Is(err, scan.ErrOtherJob) {
			t.Errorf("%s: %v", row.why, err)
		}
	}
	s.load("second", 1, 10)
	if all, err := s.Standings(ctx(), s.now, ""); err != nil || len(all) != 2 || all[0].Name != "first" || all[1].Name != "second" {
		t.Errorf("%v: %+v", err, all)
	}
	if _, err := s.Standings(ctx(), s.now, "third"); !errors.Is(err, scan.ErrNoJob) {
		t.Error(err)
	}
}

// testBrokenLoad: what could not be read to its end is no job.
func testBrokenLoad(t *testing.T, s *scans) {
	broken := errors.New("a broken disk")
	source := domains(25)
	source.end = broken
	if err := s.Load(ctx(), s.now, job("broken", 10), source); !errors.Is(err, broken) {
		t.Error(err)
	}
	if _, err := s.Standings(ctx(), s.now, "broken"); !errors.Is(err, scan.ErrNoJob) {
		t.Error(err)
	}
	s.load("broken", 5, 10)
}

// testLoadRace: several machines that load the same job make it once.
func testLoadRace(t *testing.T, s *scans) {
	var all sync.WaitGroup
	for range 4 {
		other := s.open()
		all.Go(func() {
			if err := other.Load(ctx(), s.now, job("race", 10), domains(500)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := s.standing("race"); got.Lines != 500 || got.Shards != 50 {
		t.Errorf("%+v", got)
	}
}

// oddLines is a Source of whatever a file may hold.
type oddLines struct{ lines []scan.Line }

func (o *oddLines) Next() (scan.Line, error) {
	if len(o.lines) == 0 {
		return scan.Line{}, io.EOF
	}
	line := o.lines[0]
	o.lines = o.lines[1:]
	return line, nil
}

// testOddLines: lines come back as they went in.
func testOddLines(t *testing.T, s *scans) {
	want := []scan.Line{
		{Number: 1, Text: "example.com"},
		{Number: 2},                             // an empty one
		{Number: 3, Text: "a\x00b"},             // which text in PostgreSQL cannot have
		{Number: 4, Text: "\xff\xfe{},\"\\"},    // no UTF-8, and marks of arrays
		{Number: 5, Text: "xxx", Long: 5 << 30}, // more than 32 bits say
		{Number: 6, Text: "EXAMPLE.com", First: 1},
		{Number: 7, Text: "NULL"},
	}
	if err := s.Load(ctx(), s.now, job("odd", 100), &oddLines{slices.Clone(want)}); err != nil {
		t.Fatal(err)
	}
	if got := s.take(s.standing("odd").ID, "a", nil).Lines; !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

// testNoLines: a job of nothing is done.
func testNoLines(t *testing.T, s *scans) {
	id := s.load("empty", 0, 10)
	s.take(id, "a", scan.ErrDone)
	if got := s.standing("empty"); !got.Complete() || len(s.documents(id)) != 0 {
		t.Errorf("%+v", got)
	}
}

// testTake: shards come in their order, one worker each; then there is none.
func testTake(t *testing.T, s *scans) {
	id := s.load("job", 25, 10)
	for n, want := range []string{"d1.example", "d11.example", "d21.example"} {
		shard := s.take(id, "a", nil)
		if shard.Lease != (scan.Lease{Job: id, Shard: n, Attempt: 1}) || shard.Lines[0] != (scan.Line{Number: 10*n + 1, Text: want}) || len(shard.Lines) != min(10, 25-10*n) {
			t.Errorf("%d: %+v", n, shard)
		}
		defer s.end(shard, nil)
	}
	s.take(id, "b", scan.ErrBusy)
	s.take(id+1, "b", scan.ErrNoJob)
}

// testLeaseEnded: a shard whose worker is silent is taken by another, and the first one can do
// it no harm when it comes back.
func testLeaseEnded(t *testing.T, s *scans) {
	id := s.load("job", 20, 10)
	dead, alive := s.take(id, "dead", nil), s.take(id, "alive", nil)
	s.now = s.now.Add(leaseTime - time.Second)
	if err := s.Renew(ctx(), alive.Lease, s.now.Add(leaseTime)); err != nil {
		t.Fatal(err)
	}
	s.take(id, "heir", scan.ErrBusy)
	s.now = s.now.Add(time.Second)
	heir := s.take(id, "heir", nil)
	if heir.Lease != (scan.Lease{Job: id, Shard: dead.Lease.Shard, Attempt: 2}) || !slices.Equal(heir.Lines, dead.Lines) {
		t.Fatalf("%+v", heir)
	}
	s.take(id, "heir", scan.ErrBusy) // the other was renewed
	if err := s.Renew(ctx(), dead.Lease, s.now.Add(leaseTime)); !errors.Is(err, scan.ErrLeaseLost) {
		t.Errorf("renewed: %v", err)
	}
	s.end(dead, scan.ErrLeaseLost)
	if n := len(s.documents(id)); n != 0 {
		t.Errorf("%d documents of a lost lease", n)
	}
	s.end(heir, nil)
	s.end(dead, scan.ErrLeaseLost)
	s.now = s.now.Add(time.Hour)
	s.end(alive, nil) // its lease has ended, and nobody wanted it
	s.take(id, "a", scan.ErrDone)
	if n := len(s.documents(id)); n != 20 {
		t.Errorf("%d documents", n)
	}
}

// testRelease: what was given back is free at once, and comes after what nobody has tried.
func testRelease(t *testing.T, s *scans) {
	id := s.load("job", 20, 10)
	first := s.take(id, "a", nil)
	if err := s.Release(ctx(), first.Lease); err != nil {
		t.Fatal(err)
	}
	if second := s.take(id, "b", nil); second.Lease.Shard != 1 {
		t.Errorf("%+v", second.Lease)
	}
	again := s.take(id, "b", nil)
	if again.Lease != (scan.Lease{Job: id, Shard: 0, Attempt: 2}) {
		t.Errorf("%+v", again.Lease)
	}
	if err := s.Release(ctx(), first.Lease); err != nil {
		t.Errorf("a lost lease is given back: %v", err)
	}
	s.take(id, "c", scan.ErrBusy)
	s.end(again, nil)
	if err := s.Release(ctx(), again.Lease); err != nil {
		t.Errorf("a shard that is done is given back: %v", err)
	}
	s.take(id, "c", scan.ErrBusy)
}

// testFinish: all lines have a document, one each, or nothing is stored.
func testFinish(t *testing.T, s *scans) {
	id := s.load("job", 20, 10)
	shard := s.take(id, "a", nil)
	for _, row := range []struct {
		why    string
		change func([]scan.Document) []scan.Document
	}{
		{"one is missing", func(d []scan.Document) []scan.Document { return d[1:] }},
		{"one is there twice", func(d []scan.Document) []scan.Document { d[0].Line = 2; return d }},
		{"one of another shard", func(d []scan.Document) []scan.Document { d[0].Line = 11; return d }},
		{"one too many", func(d []scan.Document) []scan.Document { return append(d, d[0]) }},
		{"none", func([]scan.Document) []scan.Document { return nil }},
	} {
		f := found(shard)
		f.Documents = row.change(f.Documents)
		if err := s.Scans.Finish(ctx(), s.now, shard.Lease, f); err == nil || errors.Is(err, scan.ErrLeaseLost) {
			t.Errorf("%s: %v", row.why, err)
		}
		if n := len(s.documents(id)); n != 0 || s.standing("job").Done != 0 {
			t.Errorf("%s: %d documents", row.why, n)
		}
	}
	s.end(shard, nil)
	first := s.standing("job")
	s.now = s.now.Add(2 * leaseTime)
	for range 2 { // whose first answer was lost asks again, and keeps the lease meanwhile
		s.end(shard, nil)
		if err := s.Renew(ctx(), shard.Lease, s.now.Add(leaseTime)); err != nil {
			t.Errorf("renewed after it was finished: %v", err)
		}
	}
	if got := s.standing("job"); got.Done != 1 || got.Ready != 10 || !slices.Equal(got.Workers, first.Workers) {
		t.Errorf("finished again: %+v, %+v before", got, first)
	}
	if n := len(s.documents(id)); n != 10 {
		t.Errorf("%d documents", n)
	}
	other := shard
	other.Lease.Attempt++ // nobody has it
	s.end(other, scan.ErrLeaseLost)
	if rest := s.take(id, "b", nil); rest.Lease.Shard != 1 {
		t.Errorf("what is done is taken: %+v", rest.Lease)
	}
	s.take(id, "b", scan.ErrBusy)
}

// testDocuments: they come back octet by octet, in the order of their lines, however they came.
func testDocuments(t *testing.T, s *scans) {
	const lines = 1234
	id := s.load("job", lines, 500)
	other := s.load("other", 3, 500)
	var shards []scan.Shard
	for range 3 {
		shards = append(shards, s.take(id, "a", nil))
	}
	large := `{"b":1,"a":"ü\u0000` + strings.Repeat("x", 300_000) + "\"}\n"
	for _, shard := range slices.Backward(shards) {
		f := found(shard)
		slices.Reverse(f.Documents)
		if shard.Lease.Shard == 1 {
			f.Documents[7].Text = []byte(large)
		}
		if err := s.Scans.Finish(ctx(), s.now, shard.Lease, f); err != nil {
			t.Fatal(err)
		}
	}
	all := s.documents(id)
	if len(all) != lines || all[0] != "d1.example\n" || all[lines-1] != "d1234.example\n" || all[1000-8] != large {
		t.Errorf("%d documents, the first %q", len(all), all[0])
	}
	for range s.Documents(ctx(), id) {
		break // one is enough
	}
	if n := len(s.documents(other)); n != 0 {
		t.Errorf("%d documents of another job", n)
	}
}

// testStandings: what is done, lately too, and who does it.
func testStandings(t *testing.T, s *scans) {
	id := s.load("job", 45, 10)
	finish := func(shard scan.Shard, unknown, ours int) {
		f := found(shard)
		f.Unknown, f.Ours = unknown, ours
		if err := s.Scans.Finish(ctx(), s.now, shard.Lease, f); err != nil {
			t.Fatal(err)
		}
	}
	finish(s.take(id, "a", nil), 3, 1)
	s.now = s.now.Add(scan.Recent + time.Second)
	finish(s.take(id, "b", nil), 2, 0)
	finish(s.take(id, "a", nil), 0, 0)
	s.take(id, "b", nil)
	got := s.standing("job")
	if got.Shards != 5 || got.Done != 3 || got.Lines != 45 || got.Ready != 30 || got.Unknown != 5 || got.Ours != 1 || got.Lately != 20 {
		t.Errorf("%+v", got)
	}
	want := []scan.Working{{Owner: "a", Done: 2, Lines: 20}, {Owner: "b", Holds: 1, Done: 1, Lines: 10}}
	if !slices.Equal(got.Workers, want) {
		t.Errorf("%+v", got.Workers)
	}
	if got.Job != job("job", 10) {
		t.Errorf("%+v", got.Job)
	}
	s.now = s.now.Add(leaseTime)
	if got := s.standing("job").Workers; got[1].Holds != 0 {
		t.Errorf("the lease has ended: %+v", got)
	}
}

// testDrop: a job goes with all that it has, and who works on it has no say in the next one of
// its name.
func testDrop(t *testing.T, s *scans) {
	id := s.load("job", 20, 10)
	s.end(s.take(id, "a", nil), nil)
	late := s.take(id, "a", nil)
	other := s.load("other", 5, 10)
	s.end(s.take(other, "a", nil), nil)
	if err := s.Drop(ctx(), "job"); err != nil {
		t.Fatal(err)
	}
	if err := s.Drop(ctx(), "job"); !errors.Is(err, scan.ErrNoJob) {
		t.Error(err)
	}
	s.take(id, "a", scan.ErrNoJob)
	again := s.load("job", 20, 10)
	s.take(again, "b", nil)
	s.take(again, "b", nil)
	s.end(late, scan.ErrLeaseLost)
	if err := s.Renew(ctx(), late.Lease, s.now.Add(leaseTime)); !errors.Is(err, scan.ErrLeaseLost) {
		t.Error(err)
	}
	if err := s.Release(ctx(), late.Lease); err != nil {
		t.Error(err)
	}
	s.take(again, "c", scan.ErrBusy)
	if len(s.documents(id))+len(s.documents(again)) != 0 || len(s.documents(other)) != 5 {
		t.Error("the wrong documents are gone")
	}
}

// testExactlyOnce: many workers of many processes, some of which give back or fall silent, and
// each line is there once.
func testExactlyOnce(t *testing.T, s *scans) {
	const lines = 600
	id := s.load("job", lines, 5)
	var all sync.WaitGroup
	for n := range 8 {
		other := s.open()
		all.Go(func() {
			// Each has its own time: those of later ones take what earlier ones hold.
			now := s.now.Add(time.Duration(n) * leaseTime / 4)
			for step := 0; ; step++ {
				now = now.Add(leaseTime / 20)
				shard, err := other.Take(ctx(), now, now.Add(leaseTime), id, fmt.Sprint(n))
				switch {
				case errors.Is(err, scan.ErrDone):
					return
				case errors.Is(err, scan.ErrBusy):
					continue
				case err != nil:
					t.Error(err)
					return
				}
				switch step % 7 {
				case 3:
					continue // it falls silent
				case 5:
					err = other.Release(ctx(), shard.Lease)
				default:
					err = other.Finish(ctx(), now, shard.Lease, found(shard))
				}
				if err != nil && !errors.Is(err, scan.ErrLeaseLost) {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if n := len(s.documents(id)); n != lines || !s.standing("job").Complete() {
		t.Errorf("%d documents of %d lines", n, lines)
	}
}
