package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/mail"
	"mxward/internal/queue"
	"mxward/internal/store"
)

// These tests run a Runner on the embedded store, in virtual time.

// house is a Runner at work, a host that takes its mail or does not, and what was said.
type house struct {
	*testing.T
	engine store.Engine
	store  *flakyStore
	runner *queue.Runner
	host   *host
	log    *bytes.Buffer
	began  time.Time
	stop   context.CancelFunc
	ended  chan struct{}
}

// inHouse runs a test with a Runner at work.
func inHouse(t *testing.T, prepare func(*queue.Runner), test func(h *house)) {
	path := filepath.Join(t.TempDir(), "queue.db")
	synctest.Test(t, func(t *testing.T) {
		engine, err := store.Open(t.Context(), "sqlite:"+path)
		if err != nil {
			t.Fatal(err)
		}
		h := &house{T: t, engine: engine, host: &host{}, log: &bytes.Buffer{}, began: time.Now(), ended: make(chan struct{})}
		h.store = &flakyStore{Store: engine}
		h.runner = &queue.Runner{
			Store: h.store, Deliverer: h.host, Name: "gate.example.org",
			Logger: slog.New(slog.NewTextHandler(h.log, nil)),
		}
		if prepare != nil {
			prepare(h.runner)
		}
		ctx, stop := context.WithCancel(t.Context())
		h.stop = stop
		go func() {
			defer close(h.ended)
			if err := h.runner.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		test(h)
		stop()
		<-h.ended
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (h *house) enqueue(id string, change func(*queue.Message), to ...string) {
	h.Helper()
	now := time.Now()
	m := queue.Message{
		ID: queue.ID(id), Envelope: mail.Envelope{From: mail.Path{Address: address(h, "sender@example.net")}},
		Received: now, Expires: queue.Expires(now, false), Tail: []byte("Subject: " + id + "\r\n\r\nbody\r\n"),
	}
	for _, a := range to {
		m.Envelope.Recipients = append(m.Envelope.Recipients, mail.Recipient{Address: address(h, a)})
	}
	if change != nil {
		change(&m)
	}
	m.Size = int64(len(m.Tail))
	if err := h.engine.Enqueue(h.Context(), now, m); err != nil {
		h.Fatal(err)
	}
	h.runner.Wake()
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// pass lets time go by, and what then happens happen.
func (h *house) pass(d time.Duration) {
	time.Sleep(d)
	h.settle()
}

// settle waits until nothing is under way. The store does real work, so a moment of
// virtual time is given, too.
func (h *house) settle() {
	time.Sleep(100 * time.Millisecond)
	synctest.Wait()
}

func (h *house) queue() []queue.Entry {
	h.Helper()
	entries, err := h.engine.List(h.Context(), queue.Filter{})
	if err != nil {
		h.Fatal(err)
	}
	return entries
}

func (h *house) empty() {
	h.Helper()
	if entries := h.queue(); len(entries) != 0 {
		h.Errorf("the queue has %d entries: %+v", len(entries), entries)
	}
}

func (h *house) logged(want string) {
	h.Helper()
	if !strings.Contains(h.log.String(), want) {
		h.Errorf("the log has no %q:\n%s", want, h.log)
	}
}

// host is the Deliverer of the tests.
type host struct {
	mu     sync.Mutex
	answer func(rcpt mail.Address) mail.Outcome // nil: everything is taken
	takes  func(ctx context.Context)            // how long an attempt is
	tries  []try
	now    map[string]int // attempts under way, by destination
	most   map[string]int
	all    int
	peak   int
}

// try is one attempt.
type try struct {
	when time.Time
	from string
	to   []string
	body string
}

func (s *host) Deliver(ctx context.Context, env mail.Envelope, open func() io.ReadCloser) []mail.Outcome {
	destination := env.Recipients[0].Address.Host()
	s.mu.Lock()
	if s.now == nil {
		s.now, s.most = map[string]int{}, map[string]int{}
	}
	s.now[destination]++
	s.all++
	s.most[destination], s.peak = max(s.most[destination], s.now[destination]), max(s.peak, s.all)
	answer, takes := s.answer, s.takes
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now[destination]--
		s.all--
	}()
	r := open()
	defer r.Close()
	body, err := io.ReadAll(r)
	if err != nil {
		body = []byte("error: " + err.Error())
	}
	t := try{when: time.Now(), from: env.From.String(), body: string(body)}
	if takes != nil {
		takes(ctx)
	}
	var outcomes []mail.Outcome
	for _, rcpt := range env.Recipients {
		t.to = append(t.to, rcpt.Address.String())
		o := mail.Outcome{Status: mail.Delivered, Stage: mail.StageDot, Remote: true, Reply: mail.NewReply(250, 0, 0, "ok")}
		if answer != nil {
			o = answer(rcpt.Address)
		}
		o.Recipient = rcpt.Address
		outcomes = append(outcomes, o)
	}
	s.mu.Lock()
	s.tries = append(s.tries, t)
	s.mu.Unlock()
	return outcomes
}

// set changes what the host does.
func (s *host) set(answer func(mail.Address) mail.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *host) seen() []try {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.tries)
}

func away(mail.Address) mail.Outcome {
	return mail.Outcome{Status: mail.Deferred, Stage: mail.StageConnect, Reply: mail.NewReply(451, 4, 1, "connection refused")}
}

func unknown(mail.Address) mail.Outcome {
	return mail.Outcome{Status: mail.Failed, Stage: mail.StageRcpt, Remote: true, Host: "mx.example.com [192.0.2.2]:25", Reply: mail.NewReply(550, 1, 1, "no such user")}
}

func full(mail.Address) mail.Outcome {
	return mail.Outcome{Status: mail.Deferred, Stage: mail.StageRcpt, Remote: true, Reply: mail.NewReply(452, 2, 2, "mailbox full")}
}

// flakyStore is a store that fails when it is told to.
type flakyStore struct {
	queue.Store
	mu    sync.Mutex
	fails map[string]int // how often, by method
}

var errFlaky = errors.New("the disk is full")

func (f *flakyStore) fail(method string, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails == nil {
		f.fails = map[string]int{}
	}
	f.fails[method] = times
}

func (f *flakyStore) failing(method string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails[method] == 0 {
		return false
	}
	f.fails[method]--
	return true
}

func (f *flakyStore) Lease(ctx context.Context, r queue.LeaseRequest) ([]queue.Job, error) {
	if f.failing("lease") {
		return nil, errFlaky
	}
	return f.Store.Lease(ctx, r)
}

func (f *flakyStore) Finish(ctx context.Context, now time.Time, r queue.Result) error {
	if f.failing("finish") {
		return errFlaky
	}
	if f.failing("panic in finish") {
		panic("a fault")
	}
	return f.Store.Finish(ctx, now, r)
}

func (f *flakyStore) Renew(ctx context.Context, l queue.Lease, until time.Time) error {
	if f.failing("renew") {
		return errFlaky
	}
	return f.Store.Renew(ctx, l, until)
}

func (f *flakyStore) AppendChunk(ctx context.Context, now time.Time, id queue.ID, seq int, data []byte) error {
	if f.failing("append") {
		return errFlaky
	}
	return f.Store.AppendChunk(ctx, now, id, seq, data)
}

func (f *flakyStore) Chunk(ctx context.Context, id queue.ID, seq int) ([]byte, error) {
	if f.failing("chunk") {
		return nil, errFlaky
	}
	return f.Store.Chunk(ctx, id, seq)
}

func TestDelivers(t *testing.T) {
	inHouse(t, nil, func(h *house) {
		h.enqueue("m1", nil, "a@example.com", "b@example.com", "c@example.org")
		h.settle()
		tries := h.host.seen()
		if len(tries) != 2 || tries[0].body != "Subject: m1\r\n\r\nbody\r\n" || len(tries[0].to)+len(tries[1].to) != 3 {
			h.Errorf("tries: %+v", tries)
		}
		h.empty()
		h.logged("msg=delivered id=m1")
	})
}

// TestPolls: a job that nobody announces is found within a second.
func TestPolls(t *testing.T) {
	inHouse(t, nil, func(h *house) {
		h.settle()
		now := time.Now()
		m := queue.Message{ID: "m1", Received: now, Expires: now.Add(time.Hour), Envelope: mail.Envelope{Recipients: []mail.Recipient{{Address: address(h, "a@example.com")}}}}
		if err := h.engine.Enqueue(h.Context(), now, m); err != nil {
			h.Fatal(err)
		}
		h.pass(time.Second)
		h.empty()
	})
}

// TestRetries follows the schedule for two hours, and then the mail is taken.
func TestRetries(t *testing.T) {
	inHouse(t, nil, func(h *house) {
		h.host.set(away)
		h.enqueue("m1", nil, "a@example.com")
		h.pass(90 * time.Minute)
		tries := h.host.seen()
		if len(tries) != 6 {
			h.Fatalf("%d attempts in 90 minutes, want 6", len(tries))
		}
		for i, want := range []time.Duration{1, 5, 10, 20, 40} {
			want *= time.Minute
			got := tries[i+1].when.Sub(tries[i].when)
			if got < want*9/10 || got > want*11/10+2*time.Second {
				h.Errorf("pause %d is %s, want %s and a tenth", i+1, got, want)
			}
		}
		if e := h.queue(); len(e) != 1 || e[0].Attempts != 6 || len(e[0].Last) != 1 || e[0].Last[0].Reply.Text != "connection refused" {
			h.Errorf("the queue has %+v", e)
		}
		h.host.set(nil)
		h.pass(70 * time.Minute)
		h.empty()
	})
}

// TestExpires: after its last attempt, at its very end, the mail fails and the sender is
// told the last reason.
func TestExpires(t *testing.T) {
	inHouse(t, nil, func(h *house) {
		h.host.set(func(a mail.Address) mail.Outcome {
			if a.Host() == "example.net" {
				return mail.Outcome{Status: mail.Delivered, Stage: mail.StageDot}
			}
			return away(a)
		})
		h.enqueue("m1", func(m *queue.Message) { m.Expires = m.Received.Add(10 * time.Minute) }, "a@example.com")
		h.pass(9 * time.Minute)
		if len(h.queue()) != 1 {
			h.Error("given up too early")
		}
		h.pass(time.Minute + 2*time.Second)
		h.empty()
		tries := h.host.seen()
		notice := tries[len(tries)-1]
		if notice.from != "" || !slices.Equal(notice.to, []string{"sender@example.net"}) ||
			!strings.Contains(notice.body, "Status: 4.4.7\r\n") || !strings.Contains(notice.body, "connection refused") ||
			!strings.Contains(notice.body, "Subject: m1\r\n") {
			h.Errorf("the notice: %+v", notice)
		}
		h.logged("msg=expired id=m1")
	})
}

// TestBounces: a refusal is told once; a notice that is refused is not told to anybody.
func TestBounces(t *testing.T) {
	inHouse(t, nil, func(h *house) {
		h.host.set(unknown)
		h.enqueue("m1", nil, "a@example.com", "b@example.com")
		h.pass(time.Second)
		h.empty()
		tries := h.host.seen()
		if len(tries) != 2 || tries[1].from != "" || strings.Count(tries[1].body, "Action: failed\r\n") != 2 {
			h.Errorf("%d attempts: %+v; want the mail, and one notice for both recipients", len(tries), tries)
		}
		h.logged("msg=bounced id=m1")
	})
}

// TestNoticeWithoutBody: a body that cannot be read does not keep the sender from being
// told.
func TestNoticeWithoutBody(t *testing.T) {
	inHouse(t, nil, func(h *house) {
		h.host.set(unknown)
		h.store.fail("chunk", 2) // for the attempt and for the notice
		h.enqueue("m1", nil, "a@example.com")
		h.pass(time.Second)
		h.empty()
		if tries := h.host.seen(); len(tries) != 2 || !strings.Contains(tries[1].body, "Action: failed") || strings.Contains(tries[1].body, "Subject: m1") {
			h.Errorf("attempts: %+v", tries)
		}
	})
}

// TestLimits: never more than Workers at once, nor PerDestination for one destination,
// and a slow destination does not keep the others waiting.
func TestLimits(t *testing.T) {
	inHouse(t, func(r *queue.Runner) { r.Workers, r.PerDestination = 10, 4 }, func(h *house) {
		h.host.takes = func(context.Context) { time.Sleep(time.Minute) }
		for i := range 40 {
			h.enqueue(fmt.Sprintf("slow%d", i), nil, "a@slow.example")
		}
		for i := range 6 {
			h.enqueue(fmt.Sprintf("other%d", i), nil, fmt.Sprintf("a@d%d.example", i%3))
		}
		h.pass(30 * time.Second)
		h.host.mu.Lock()
		slow, peak := h.host.now["slow.example"], h.host.all
		h.host.mu.Unlock()
		if slow != 4 || peak != 10 {
			h.Errorf("at once: %d for the slow destination and %d in all, want 4 and 10", slow, peak)
		}
		h.pass(11 * time.Minute)
		h.empty()
		h.host.mu.Lock()
		defer h.host.mu.Unlock()
		if h.host.most["slow.example"] > 4 || h.host.peak > 10 || len(h.host.tries) != 46 {
			h.Errorf("at most %d and %d at once, %d attempts; want 4, 10 and 46", h.host.most["slow.example"], h.host.peak, len(h.host.tries))
		}
	})
}

// TestRenews: an attempt that is longer than a lease stays one attempt.
func TestRenews(t *testing.T) {
	inHouse(t, func(r *queue.Runner) { r.Lease = time.Minute }, func(h *house) {
		h.host.takes = func(context.Context) { time.Sleep(10 * time.Minute) }
		h.enqueue("m1", nil, "a@example.com")
		h.pass(11 * time.Minute)
		h.empty()
		if tries := h.host.seen(); len(tries) != 1 {
			h.Errorf("%d attempts, want 1", len(tries))
		}
	})
}

// TestTakenAway: a person who holds a job that is being tried ends the attempt.
func TestTakenAway(t *testing.T) {
	inHouse(t, func(r *queue.Runner) { r.Lease = time.Minute }, func(h *house) {
		var ended time.Time
		h.host.takes = func(ctx context.Context) { <-ctx.Done(); ended = time.Now() }
		h.host.set(away)
		h.enqueue("m1", nil, "a@example.com")
		h.pass(5 * time.Second)
		if n, err := h.engine.Change(h.Context(), time.Now(), queue.Filter{}, queue.ActHold); n != 1 || err != nil {
			h.Fatalf("held %d, %v", n, err)
		}
		h.pass(2 * time.Minute)
		if took := ended.Sub(h.began); took < 5*time.Second || took > 2*time.Minute {
			h.Errorf("the attempt ended after %s, want soon after it was held", took)
		}
		if e := h.queue(); len(e) != 1 || e[0].State != queue.Held {
			h.Errorf("the queue has %+v, want it held", e)
		}
		h.logged("lease lost")
	})
}

// TestAttemptTimeout: an attempt ends after an hour, whatever the host does.
func TestAttemptTimeout(t *testing.T) {
	inHouse(t, nil, func(h *house) {
		h.host.takes = func(ctx context.Context) { <-ctx.Done() }
		h.host.set(away)
		h.enqueue("m1", nil, "a@example.com")
		h.pass(59 * time.Minute)
		if len(h.host.seen()) != 0 {
			h.Error("ended too early")
		}
		h.pass(time.Minute)
		if len(h.host.seen()) != 1 {
			h.Error("not ended after an hour")
		}
		h.host.mu.Lock()
		h.host.takes = nil
		h.host.mu.Unlock()
	})
}

// TestStoreTrouble: nothing is lost, and nothing is sent twice, when the store is away
// for a while.
func TestStoreTrouble(t *testing.T) {
	inHouse(t, nil, func(h *house) {
		h.store.fail("lease", 5)
		h.store.fail("finish", 5)
		h.enqueue("m1", nil, "a@example.com")
		h.pass(20 * time.Second)
		h.empty()
		if tries := h.host.seen(); len(tries) != 1 {
			h.Errorf("%d attempts, want 1", len(tries))
		}
		h.logged("msg=\"store trouble\" doing=lease")
		h.logged("msg=\"store trouble\" doing=finish id=m1")
	})
}

// TestLongTrouble: when the store is away for longer than a lease, what was sent and could
// not be recorded is not sent again by the one who sent it.
func TestLongTrouble(t *testing.T) {
	inHouse(t, func(r *queue.Runner) { r.Lease = time.Minute }, func(h *house) {
		const always = 1_000_000
		h.store.fail("finish", always)
		h.store.fail("renew", always)
		h.enqueue("m1", nil, "a@example.com")
		h.pass(10 * time.Minute)
		h.store.fail("renew", 0)
		h.pass(time.Minute)
		h.store.fail("finish", 0)
		h.pass(time.Minute)
		h.empty()
		if tries := h.host.seen(); len(tries) != 1 {
			h.Errorf("%d attempts, want 1", len(tries))
		}
	})
}

// TestLongNotice: a notice for very many recipients, with all that the host had to say, is
// more than the tail of a message.
func TestLongNotice(t *testing.T) {
	inHouse(t, nil, func(h *house) {
		h.host.set(func(a mail.Address) mail.Outcome {
			if a.Host() == "example.net" {
				return mail.Outcome{Status: mail.Delivered, Stage: mail.StageDot}
			}
			o := unknown(a)
			o.Reply.Text = strings.Repeat("we do not know this person ", 100)
			return o
		})
		h.store.fail("append", 1)
		var to []string
		for i := range 200 {
			to = append(to, fmt.Sprintf("user%d@example.com", i))
		}
		h.enqueue("m1", nil, to...)
		h.pass(5 * time.Second)
		h.empty()
		tries := h.host.seen()
		if len(tries) != 2 || len(tries[1].body) <= 2*queue.ChunkSize || strings.Count(tries[1].body, "Action: failed\r\n") != 200 ||
			!strings.HasSuffix(tries[1].body, "--\r\n") {
			h.Errorf("%d attempts, want one for the mail and one for the notice", len(tries))
		}
	})
}

// TestFaultyRecord: a fault after an attempt ends neither the process nor the mail, and
// does not send it again and again.
func TestFaultyRecord(t *testing.T) {
	inHouse(t, func(r *queue.Runner) { r.Lease = time.Minute }, func(h *house) {
		h.store.fail("panic in finish", 1)
		h.enqueue("m1", nil, "a@example.com")
		h.enqueue("m2", nil, "a@example.org")
		h.pass(10 * time.Minute)
		if e := h.queue(); len(e) != 1 || e[0].State != queue.Held || len(h.host.seen()) != 2 {
			h.Errorf("after %d attempts the queue has %+v, want one message held", len(h.host.seen()), e)
		}
		h.logged("the job is held")
	})
}

// TestFaultyDeliverer: neither a panic nor a wrong answer loses mail.
func TestFaultyDeliverer(t *testing.T) {
	for name, faulty := range map[string]deliverer{
		"panic":       func(mail.Envelope) []mail.Outcome { panic("index out of range") },
		"no outcomes": func(mail.Envelope) []mail.Outcome { return nil },
		"too many":    func(e mail.Envelope) []mail.Outcome { return make([]mail.Outcome, len(e.Recipients)+1) },
	} {
		t.Run(name, func(t *testing.T) {
			inHouse(t, func(r *queue.Runner) { r.Deliverer = faulty }, func(h *house) {
				h.enqueue("m1", nil, "a@example.com", "b@example.com")
				h.pass(time.Second)
				if e := h.queue(); len(e) != 1 || e[0].State != queue.Ready || len(e[0].Last) != 2 || e[0].Last[0].Status != mail.Deferred {
					h.Errorf("the queue has %+v, want both deferred", e)
				}
				if name == "panic" {
					h.logged("panic while delivering")
				}
			})
		})
	}
}

type deliverer func(mail.Envelope) []mail.Outcome

func (d deliverer) Deliver(_ context.Context, env mail.Envelope, _ func() io.ReadCloser) []mail.Outcome {
	return d(env)
}

// TestBackup: while the primary is down one message a minute looks for it; when it is
// back all go at once; and a full mailbox is not tried again with every success.
func TestBackup(t *testing.T) {
	inHouse(t, nil, func(h *house) {
		backup := func(m *queue.Message) { m.Backup, m.Expires = true, queue.Expires(m.Received, true) }
		h.host.set(away)
		for i := range 20 {
			h.enqueue(fmt.Sprintf("m%d", i), backup, fmt.Sprintf("user%d@example.com", i))
		}
		h.pass(30 * time.Second)
		first := len(h.host.seen())
		if first != 20 {
			h.Errorf("%d attempts at first, want 20", first)
		}
		h.pass(10 * time.Minute)
		probes := len(h.host.seen()) - first
		if probes < 9 || probes > 10+2*20 { // the others are at their second attempt, after one and five minutes
			h.Errorf("%d attempts in ten minutes", probes)
		}
		h.pass(160 * time.Minute) // now the others wait for two hours
		before := len(h.host.seen())
		h.pass(30 * time.Minute)
		if probes := len(h.host.seen()) - before; probes < 29 || probes > 45 {
			h.Errorf("%d attempts in half an hour, want about one a minute", probes)
		}
		h.host.set(func(a mail.Address) mail.Outcome {
			if a.Local == "user7" {
				return full(a)
			}
			return mail.Outcome{Status: mail.Delivered, Stage: mail.StageDot, Remote: true}
		})
		before = len(h.host.seen())
		h.pass(65 * time.Second)
		if e := h.queue(); len(e) != 1 || e[0].Message.ID != "m7" {
			h.Errorf("%d messages wait after the primary is back, want only that for the full mailbox", len(e))
		}
		for i := range 30 {
			h.enqueue(fmt.Sprintf("new%d", i), backup, "new@example.com")
			h.pass(time.Second)
		}
		sevens := 0
		for _, try := range h.host.seen()[before:] {
			if try.to[0] == "user7@example.com" {
				sevens++
			}
		}
		if sevens > 2 {
			h.Errorf("the full mailbox was tried %d times", sevens)
		}
	})
}

// TestStop: attempts that are under way may end; the rest is another Runner's at once.
func TestStop(t *testing.T) {
	inHouse(t, func(r *queue.Runner) { r.Workers, r.PerDestination = 8, 1 }, func(h *house) {
		h.host.takes = func(ctx context.Context) {
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Second):
			}
		}
		for i := range 5 {
			h.enqueue(fmt.Sprintf("m%d", i), nil, "a@example.com")
		}
		h.settle()
		h.stop()
		<-h.ended
		if took := time.Since(h.began); took > 6*time.Second {
			h.Errorf("Run ended after %s, want as soon as the attempt did", took)
		}
		entries := h.queue()
		if len(entries) != 4 || len(h.host.seen()) != 1 {
			h.Errorf("%d wait and %d were tried, want 4 and 1", len(entries), len(h.host.seen()))
		}
		jobs, err := h.engine.Lease(h.Context(), queue.LeaseRequest{Now: time.Now(), Until: time.Now().Add(time.Minute), Limit: 10})
		if err != nil || len(jobs) != 4 {
			h.Errorf("another Runner gets %d jobs, %v; want 4", len(jobs), err)
		}
	})
}

// TestStopHanging: an attempt that does not end is broken off after the grace, and its
// outcome is recorded.
func TestStopHanging(t *testing.T) {
	inHouse(t, nil, func(h *house) {
		h.host.takes = func(ctx context.Context) { <-ctx.Done() }
		h.host.set(away)
		h.enqueue("m1", nil, "a@example.com")
		h.settle()
		h.stop()
		<-h.ended
		if took := time.Since(h.began); took < 10*time.Second || took > 16*time.Second {
			h.Errorf("Run ended after %s, want after its grace of 10 s", took)
		}
		if e := h.queue(); len(e) != 1 || e[0].State != queue.Ready {
			h.Errorf("the queue has %+v, want it deferred", e)
		}
	})
}
