package scan_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns"
	"mxward/internal/scan"
	"mxward/internal/store/storetest"
)

// memory is a store of jobs that is gone with the process. It keeps the promises of the real
// one (TestMemory), so that the tests of Worker need no clock and no server.
type memory struct {
	mu   sync.Mutex
	jobs []*memoryJob
	last int64
}

type memoryJob struct {
	scan.Standing
	shards    []*memoryShard
	documents []scan.Document
}

type memoryShard struct {
	scan.Shard
	owner    string
	until    time.Time
	done     bool
	finished time.Time
}

func TestMemory(t *testing.T) {
	storetest.RunScans(t, func(testing.TB) func() storetest.Scans {
		m := &memory{}
		return func() storetest.Scans { return m }
	})
}

func (m *memory) find(is func(*memoryJob) bool) (int, *memoryJob) {
	at := slices.IndexFunc(m.jobs, is)
	if at < 0 {
		return at, nil
	}
	return at, m.jobs[at]
}

func (m *memory) named(name string) (int, *memoryJob) {
	return m.find(func(j *memoryJob) bool { return j.Name == name })
}

func (m *memory) Load(_ context.Context, now time.Time, job scan.Job, source scan.Source) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.named(job.Name); there != nil {
		return there.Fits(job)
	}
	m.last++
	j := &memoryJob{Standing: scan.Standing{ID: m.last, Job: job, Created: now}}
	for {
		line, err := source.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if j.Lines%job.Shard == 0 {
			j.shards = append(j.shards, &memoryShard{Shard: scan.Shard{Lease: scan.Lease{Job: j.ID, Shard: j.Shards}}})
			j.Shards++
		}
		s := j.shards[j.Shards-1]
		s.Lines = append(s.Lines, line)
		j.Lines++
	}
	m.jobs = append(m.jobs, j)
	slices.SortFunc(m.jobs, func(a, b *memoryJob) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

func (m *memory) Standings(_ context.Context, now time.Time, name string) ([]scan.Standing, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []scan.Standing
	for _, j := range m.jobs {
		if name != "" && j.Name != name {
			continue
		}
		s := j.Standing
		by := map[string]scan.Working{}
		for _, shard := range j.shards {
			w := by[shard.owner]
			w.Owner = shard.owner
			if !shard.done && shard.until.After(now) {
				w.Holds++
			}
			if shard.done {
				w.Done++
				w.Lines += len(shard.Lines)
				if shard.finished.After(now.Add(-scan.Recent)) {
					s.Lately += len(shard.Lines)
				}
			}
			by[shard.owner] = w
		}
		for owner, w := range by {
			if owner != "" {
				s.Workers = append(s.Workers, w)
			}
		}
		slices.SortFunc(s.Workers, func(a, b scan.Working) int { return strings.Compare(a.Owner, b.Owner) })
		all = append(all, s)
	}
	if name != "" && len(all) == 0 {
		return nil, scan.ErrNoJob
	}
	return all, nil
}

func (m *memory) Documents(_ context.Context, id int64) iter.Seq2[scan.Document, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []scan.Document
	if _, j := m.find(func(j *memoryJob) bool { return j.ID == id }); j != nil {
		all = slices.Clone(j.documents)
	}
	slices.SortFunc(all, func(a, b scan.Document) int { return a.Line - b.Line })
	return func(yield func(scan.Document, error) bool) {
		for _, d := range all {
			if !yield(d, nil) {
				return
			}
		}
	}
}

func (m *memory) Drop(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, there := m.named(name)
	if there == nil {
		return scan.ErrNoJob
	}
	m.jobs = slices.Delete(m.jobs, at, at+1)
	return nil
}

func (m *memory) Take(_ context.Context, now, until time.Time, job int64, owner string) (scan.Shard, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, j := m.find(func(j *memoryJob) bool { return j.ID == job })
	switch {
	case j == nil:
		return scan.Shard{}, scan.ErrNoJob
	case j.Complete():
		return scan.Shard{}, scan.ErrDone
	}
	free := slices.DeleteFunc(slices.Clone(j.shards), func(s *memoryShard) bool { return s.done || s.until.After(now) })
	if len(free) == 0 {
		return scan.Shard{}, scan.ErrBusy
	}
	s := slices.MinFunc(free, func(a, b *memoryShard) int {
		return cmp.Or(a.Lease.Attempt-b.Lease.Attempt, a.Lease.Shard-b.Lease.Shard)
	})
	s.Lease.Attempt++
	s.owner, s.until = owner, until
	return s.Shard, nil
}

// held does something to the shard of a lease that is not lost, unless it is done: then it is
// well as it is. The caller has no lock.
func (m *memory) held(l scan.Lease, do func(*memoryJob, *memoryShard) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, j := m.find(func(j *memoryJob) bool { return j.ID == l.Job })
	switch {
	case j == nil || j.shards[l.Shard].Lease != l:
		return scan.ErrLeaseLost
	case j.shards[l.Shard].done:
		return nil
	}
	return do(j, j.shards[l.Shard])
}

func (m *memory) Renew(_ context.Context, l scan.Lease, until time.Time) error {
	return m.held(l, func(_ *memoryJob, s *memoryShard) error { s.until = until; return nil })
}

func (m *memory) Finish(_ context.Context, now time.Time, l scan.Lease, done scan.Finished) error {
	return m.held(l, func(j *memoryJob, s *memoryShard) error {
		if err := done.Whole(s.Lines[0].Number, len(s.Lines)); err != nil {
			return err
		}
		j.documents = append(j.documents, done.Documents...)
		s.done, s.finished = true, now
		j.Done++
		j.Ready += len(s.Lines)
		j.Unknown += done.Unknown
		j.Ours += done.Ours
		return nil
	})
}

func (m *memory) Release(_ context.Context, l scan.Lease) error {
	err := m.held(l, func(_ *memoryJob, s *memoryShard) error { s.until = time.Time{}; return nil })
	if errors.Is(err, scan.ErrLeaseLost) {
		return nil
	}
	return err
}

// lines is a Source of these.
type lines struct {
	texts []string
	read  int
}

func (l *lines) Next() (scan.Line, error) {
	if l.read == len(l.texts) {
		return scan.Line{}, io.EOF
	}
	l.read++
	return scan.Line{Number: l.read, Text: l.texts[l.read-1]}, nil
}

// input has what a file may have: no domains, and some twice, near and far.
func input(n int) *lines {
	l := &lines{}
	for i := range n {
		text := fmt.Sprintf("d%d.example", i+1)
		switch i % 10 {
		case 3:
			text = ""
		case 5:
			text = strings.ToUpper(fmt.Sprintf("d%d.example", i))
		case 7:
			text = "u" + text
		case 8:
			text = "d1.example"
		}
		l.texts = append(l.texts, text)
	}
	return l
}

// look takes a second for a domain, and leaves something open about names that begin with u.
func look(_ context.Context, domain dns.Name) scan.Report {
	time.Sleep(time.Second)
	f := audit.Finding{ID: "mx.missing", Status: audit.Fail, Severity: audit.Warning, Target: domain.String()}
	if strings.HasPrefix(domain.String(), "u") {
		f.Status, f.Blame = audit.Unknown, audit.ZoneServers
	}
	return scan.Report{Findings: []audit.Finding{f}, Provider: "example.net", Questions: 3}
}

// dark fails at all, by our own fault.
func dark(context.Context, dns.Name) scan.Report {
	return scan.Report{Findings: []audit.Finding{{ID: "mx.missing", Status: audit.Unknown, Blame: audit.LocalResolver}}}
}

// notes are what a worker has said.
type notes struct {
	mu  sync.Mutex
	all []string
}

func (n *notes) add(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, text)
}

// loaded puts n lines into a new store, ten in a shard.
func loaded(t *testing.T, n int) (*memory, int64) {
	t.Helper()
	m := &memory{}
	job := scan.Job{Name: "job", Shard: 10}
	if err := m.Load(t.Context(), time.Now(), job, &scan.Marked{Source: input(n), Parse: dns.ParseName}); err != nil {
		t.Fatal(err)
	}
	return m, m.jobs[0].ID
}

func worker(m scan.Shards, id int64) *scan.Worker {
	return &scan.Worker{
		Shards: m, Job: id, Owner: "w", Tally: &scan.Tally{}, Note: new(notes).add,
		Scanner: scan.Scanner{Check: look, Again: look, Parse: dns.ParseName, Concurrency: 5},
	}
}

// whole gives the documents of a job.
func whole(t *testing.T, m *memory, id int64) string {
	t.Helper()
	var all bytes.Buffer
	for d, err := range m.Documents(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		all.Write(d.Text)
	}
	return all.String()
}

// alone is what one machine writes of the lines.
func alone(t *testing.T, n int) string {
	t.Helper()
	var all bytes.Buffer
	s := scan.Scanner{Check: look, Again: look, Parse: dns.ParseName, Ordered: true, Tally: &scan.Tally{}}
	if err := s.Run(t.Context(), input(n), &written{w: &all}); err != nil {
		t.Fatal(err)
	}
	return all.String()
}

type written struct {
	mu sync.Mutex
	w  io.Writer
}

func (w *written) Put(r scan.Result) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return r.Write(w.w, false)
}

// TestWorkers: what several workers store is what one machine writes, line by line.
func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 495
		m, id := loaded(t, n)
		var all sync.WaitGroup
		counted := 0
		for range 3 {
			all.Go(func() {
				w := worker(m, id)
				if err := w.Run(t.Context(), 2); err != nil {
					t.Error(err)
				}
				m.mu.Lock()
				defer m.mu.Unlock()
				counted += w.Tally.Summary(true).Lines
			})
		}
		all.Wait()
		if got, want := whole(t, m, id), alone(t, n); got != want || strings.Count(got, "\n") != n {
			t.Errorf("got\n%.2000s\nwant\n%.2000s", got, want)
		}
		if counted != n {
			t.Errorf("%d lines are counted", counted)
		}
	})
}

// crashing is a store whose user dies at some time: nothing is heard of it any more.
type crashing struct {
	*memory
	dead chan struct{}
}

func (c *crashing) Renew(ctx context.Context, l scan.Lease, until time.Time) error {
	select {
	case <-c.dead:
		return errors.New("it is dead")
	default:
		return c.memory.Renew(ctx, l, until)
	}
}

func (c *crashing) Finish(ctx context.Context, now time.Time, l scan.Lease, done scan.Finished) error {
	<-ctx.Done()
	return ctx.Err()
}

func (c *crashing) Release(context.Context, scan.Lease) error { return errors.New("it is dead") }

// TestWorkerDies: another takes what a dead one held, after its lease and not before.
func TestWorkerDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, id := loaded(t, 30)
		dying := &crashing{m, make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = worker(dying, id).Run(ctx, 2) // how a dead one ends is nobody's matter
		}()
		time.Sleep(10 * scan.DefaultLease)
		close(dying.dead)
		died := time.Now()
		w := worker(m, id)
		if err := w.Run(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(died); took < scan.DefaultLease/2 || took > scan.DefaultLease+30*time.Second {
			t.Errorf("it took %s", took)
		}
		if whole(t, m, id) != alone(t, 30) {
			t.Error("the documents are others")
		}
		cancel()
		<-ended
	})
}

// deaf is a store whose answer to each first Finish of a shard is lost.
type deaf struct {
	*memory
	heard map[scan.Lease]bool
}

func (d *deaf) Finish(ctx context.Context, now time.Time, l scan.Lease, done scan.Finished) error {
	err := d.memory.Finish(ctx, now, l, done)
	if !d.heard[l] {
		d.heard[l] = true
		return cmp.Or(err, errors.New("connection reset"))
	}
	return err
}

// TestAnswerLost: what was stored counts for who stored it, whether or not the store's answer
// came, and though the lease was to be renewed meanwhile.
func TestAnswerLost(t *testing.T) {
	for _, lease := range []time.Duration{scan.DefaultLease, time.Second} { // the second ends before it is asked again
		synctest.Test(t, func(t *testing.T) {
			m, id := loaded(t, 30)
			w := worker(&deaf{m, map[scan.Lease]bool{}}, id)
			w.Lease = lease
			var said notes
			w.Note = said.add
			if err := w.Run(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			if n := w.Tally.Summary(true).Lines; n != 30 {
				t.Errorf("lease %s: %d of 30 lines are counted; %q", lease, n, said.all)
			}
			for _, text := range said.all {
				if strings.Contains(text, "no longer ours") {
					t.Errorf("lease %s: %s", lease, text)
				}
			}
		})
	}
}

// silent is a store that does not answer one renewal of a lease in two.
type silent struct {
	*memory
	asked int
}

func (s *silent) Renew(ctx context.Context, l scan.Lease, until time.Time) error {
	if s.asked++; s.asked%2 == 1 {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.memory.Renew(ctx, l, until)
}

// TestRenewed: the shortest lease is renewed in good time, also where an answer of the store does
// not come, and nobody takes the shard over.
func TestRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, id := loaded(t, 10)
		w := worker(&silent{memory: m}, id)
		w.Lease, w.Scanner.Concurrency = scan.MinLease, 1
		w.Scanner.Check = func(ctx context.Context, domain dns.Name) scan.Report {
			time.Sleep(scan.MinLease)
			return look(ctx, domain)
		}
		heir := worker(m, id)
		heir.Owner = "heir"
		var all sync.WaitGroup
		all.Go(func() {
			time.Sleep(time.Second)
			if err := heir.Run(t.Context(), 1); err != nil {
				t.Error(err)
			}
		})
		if err := w.Run(t.Context(), 1); err != nil {
			t.Error(err)
		}
		all.Wait()
		if n, others := w.Tally.Summary(true).Lines, heir.Tally.Summary(true).Lines; n != 10 || others != 0 {
			t.Errorf("%d lines are its own, %d another's", n, others)
		}
	})
}

// losing is a store that takes the first lease away.
type losing struct {
	*memory
	lost sync.Once
}

func (l *losing) Renew(ctx context.Context, lease scan.Lease, until time.Time) error {
	l.lost.Do(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.jobs[0].shards[lease.Shard].Lease.Attempt++ // somebody has taken it
		l.jobs[0].shards[lease.Shard].until = time.Now().Add(time.Minute)
	})
	return l.memory.Renew(ctx, lease, until)
}

// TestLeaseLost: a worker that has lost a shard drops it, and goes on with others.
func TestLeaseLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, id := loaded(t, 30)
		w := worker(&losing{memory: m}, id)
		w.Lease = 2 * time.Second
		var said notes
		w.Note = said.add
		if err := w.Run(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if len(said.all) != 1 || !strings.Contains(said.all[0], "no longer ours") {
			t.Errorf("%q", said.all)
		}
		if whole(t, m, id) != alone(t, 30) {
			t.Error("the documents are others")
		}
	})
}

// away is a store that cannot be reached for a while.
type away struct {
	*memory
	from, until time.Time
}

func (a *away) err() error {
	if now := time.Now(); now.Before(a.until) && !now.Before(a.from) {
		return errors.New("connection refused")
	}
	return nil
}

func (a *away) Take(ctx context.Context, now, until time.Time, job int64, owner string) (scan.Shard, error) {
	if err := a.err(); err != nil {
		return scan.Shard{}, err
	}
	return a.memory.Take(ctx, now, until, job, owner)
}

func (a *away) Renew(ctx context.Context, l scan.Lease, until time.Time) error {
	return cmp.Or(a.err(), a.memory.Renew(ctx, l, until))
}

func (a *away) Finish(ctx context.Context, now time.Time, l scan.Lease, done scan.Finished) error {
	if err := a.err(); err != nil {
		return err
	}
	return a.memory.Finish(ctx, now, l, done)
}

// TestStoreAway: a store that comes back costs nothing; one that does not ends the work.
func TestStoreAway(t *testing.T) {
	for _, row := range []struct {
		why  string
		away time.Duration
		fine bool
	}{
		{"a restart", 40 * time.Second, true},
		{"longer than a lease", 3 * time.Minute, true},
		{"for good", time.Hour, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			m, id := loaded(t, 30)
			from := time.Now().Add(time.Second)
			w := worker(&away{m, from, from.Add(row.away)}, id)
			var said notes
			w.Note = said.add
			err := w.Run(t.Context(), 2)
			if (err == nil) != row.fine || !row.fine && !errors.Is(err, scan.ErrStore) || len(said.all) == 0 || !strings.Contains(said.all[0], "connection refused") {
				t.Errorf("%s: %v, %q", row.why, err, said.all)
			}
			if row.fine && whole(t, m, id) != alone(t, 30) {
				t.Errorf("%s: the documents are others", row.why)
			}
		})
	}
}

// TestOurs: a machine that sees nothing stores nothing, and others do its lines; but where
// nobody sees anything, the job comes to its end.
func TestOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, id := loaded(t, 30)
		blind := func() error {
			w := worker(m, id)
			w.Scanner.Check, w.Scanner.Again = dark, nil
			return w.Run(t.Context(), 1)
		}
		if err := blind(); !errors.Is(err, scan.ErrOurs) || whole(t, m, id) != "" {
			t.Fatalf("%v: %s", err, whole(t, m, id))
		}
		if err := worker(m, id).Run(t.Context(), 1); err != nil || whole(t, m, id) != alone(t, 30) {
			t.Fatalf("%v: %s", err, whole(t, m, id))
		}
		m, id = loaded(t, 10)
		for range 3 {
			if err := blind(); !errors.Is(err, scan.ErrOurs) {
				t.Fatal(err)
			}
		}
		if err := blind(); err != nil || m.jobs[0].Ours == 0 || !m.jobs[0].Complete() {
			t.Errorf("%v: %+v", err, m.jobs[0].Standing)
		}
	})
}

// TestGivenBack: what is under way at Ctrl-C is free at once.
func TestGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, id := loaded(t, 30)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second/2)
		defer cancel()
		if err := worker(m, id).Run(ctx, 2); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		standings, err := m.Standings(t.Context(), time.Now(), "job")
		if err != nil || len(standings[0].Workers) != 1 || standings[0].Workers[0].Holds != 0 || standings[0].Complete() {
			t.Fatalf("%v: %+v", err, standings)
		}
		if err := worker(m, id).Run(t.Context(), 2); err != nil || whole(t, m, id) != alone(t, 30) {
			t.Error(err)
		}
	})
}

// TestMarked: a line says where its domain stood before, and of what is no domain nothing.
func TestMarked(t *testing.T) {
	m := scan.Marked{Source: &lines{texts: []string{"a.example", "", "b.example", "A.example.", "", "bad..name", "bad..name", "b.example"}}, Parse: dns.ParseName}
	var got []int
	for {
		line, err := m.Next()
		if err != nil {
			break
		}
		got = append(got, line.First)
	}
	if want := []int{0, 0, 0, 1, 0, 0, 0, 3}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}
