package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"mxward/internal/mail"
	"mxward/internal/queue"
)

// testRefused: what could not be read back, or is not whole, is not taken.
func testRefused(t *testing.T, b *bench) {
	b.enqueue("taken", "a@example.com")
	for why, spoil := range map[string]func(*queue.Message){
		"no ID":            func(m *queue.Message) { m.ID = "" },
		"no recipients":    func(m *queue.Message) { m.Envelope.Recipients = nil },
		"a zero recipient": func(m *queue.Message) { m.Envelope.Recipients[0].Address = mail.Address{} },
		"an ID twice":      func(m *queue.Message) { m.ID = "taken" },
		"missing chunks":   func(m *queue.Message) { m.Chunks = 2 },
		"a giant tail":     func(m *queue.Message) { m.Tail = make([]byte, queue.ChunkSize+1) },
		"a local part that no address has": func(m *queue.Message) {
			m.Envelope.Recipients[0].Address.Local = "a\r\nRCPT TO:<b"
		},
	} {
		m := b.message("m1", "a@example.com", "b@example.org")
		spoil(&m)
		if err := b.Enqueue(ctx(), b.now, m); err == nil {
			t.Errorf("%s: was taken", why)
		}
	}
	if got := b.list(queue.Filter{}); len(got) != 1 {
		t.Errorf("the queue has %d entries, want only the first: %+v", len(got), got)
	}
	job := b.one()
	wrong := map[string][]mail.Outcome{
		"no outcomes":         nil,
		"too many outcomes":   append(b.outcomes(job, mail.Delivered), b.outcomes(job, mail.Delivered)...),
		"a strange recipient": {{Recipient: address("z@example.com"), Status: mail.Delivered}},
		"a strange status":    {{Recipient: address("a@example.com"), Status: "perhaps"}},
	}
	for why, outcomes := range wrong {
		if err := b.Finish(ctx(), b.now, queue.Result{Job: job, Outcomes: outcomes}); err == nil {
			t.Errorf("a result with %s was taken", why)
		}
	}
	b.finish(job, mail.Delivered)
}

// testRoundTrip: all of a message comes back, in jobs and in lists.
func testRoundTrip(t *testing.T, b *bench) {
	want := queue.Message{
		ID: queue.NewID(),
		Envelope: mail.Envelope{
			From: mail.Path{Address: address(`"odd \"one\" @home"@example.net`)},
			Recipients: []mail.Recipient{
				{Address: address("a@example.com"), Notify: mail.Notify{Never: true}},
				{Address: address("b@example.com"), Notify: mail.Notify{Success: true, Failure: true, Delay: true}, Original: "rfc822;B+2BC@example.com"},
			},
			UTF8: true, Body: mail.Body8BitMIME, Return: mail.ReturnFull, ID: "QQ+2B314", Size: 4711,
		},
		Received: b.now.Add(-time.Second), Expires: b.now.Add(time.Hour), Backup: true, Notice: true,
		Client: "mail.example.net [192.0.2.1]", Size: 5, Tail: []byte("abc\r\n"),
	}
	if err := b.Enqueue(ctx(), b.now, want); err != nil {
		t.Fatal(err)
	}
	want.Tail = nil
	if got := b.entry().Message; !reflect.DeepEqual(got, want) {
		t.Errorf("listed\n%+v, want\n%+v", got, want)
	}
	job := b.one()
	if !reflect.DeepEqual(job.Message, want) {
		t.Errorf("leased\n%+v, want\n%+v", job.Message, want)
	}
	outcomes := b.outcomes(job, mail.Deferred)
	outcomes[0].DSN, outcomes[0].Reply.Text = true, "two\nlines"
	outcomes[1] = mail.Outcome{Recipient: outcomes[1].Recipient, Status: mail.Deferred, Stage: mail.StageRoute, When: b.now}
	b.result(queue.Result{Job: job, Outcomes: outcomes, Next: b.now})
	if got := b.entry().Last; !reflect.DeepEqual(got, outcomes) {
		t.Errorf("last\n%+v, want\n%+v", got, outcomes)
	}
}

// testOddData: what the network may send, and no column or JSON may spoil or refuse.
func testOddData(t *testing.T, b *bench) {
	m := b.message("m1", "δοκιμή@xn--jxalpdlp.example", "用户@example.com", "postmaster@example.com")
	m.Envelope.From = mail.Path{}
	m.Client = "bad \x00\xff name [2001:db8::1]"
	m.Envelope.ID = "nul+00"
	m.Tail = []byte("a\x00b\xff\r\n'; DROP TABLE message; --\r\n")
	if err := b.Enqueue(ctx(), b.now, m); err != nil {
		t.Fatal(err)
	}
	if got := b.read("m1"); !bytes.Equal(got, m.Tail) {
		t.Errorf("the body is %q, want %q", got, m.Tail)
	}
	for _, job := range b.lease(10) {
		if !job.Message.Envelope.From.IsNull() || !strings.HasPrefix(job.Message.Client, "bad ") {
			t.Errorf("leased %+v", job)
		}
		outcomes := b.outcomes(job, mail.Deferred)
		for i := range outcomes {
			outcomes[i].Reply.Text = "nul \x00, no UTF-8 \xff\xfe, controls \x1b[31m, and 用户"
			outcomes[i].Host = "\x00"
		}
		b.result(queue.Result{Job: job, Outcomes: outcomes, Next: b.now})
	}
	for _, e := range b.list(queue.Filter{}) {
		for i, o := range e.Last {
			if !strings.HasPrefix(o.Reply.Text, "nul \x00, no UTF-8 ") || o.Recipient != e.Message.Envelope.Recipients[i].Address {
				t.Errorf("last: %+v", o)
			}
		}
	}
	// A lone "postmaster" has no host (RFC 5321 §4.5.1), and so a destination without name.
	bare := b.message("m2", "a@example.com")
	bare.Envelope.Recipients[0].Address = mail.Address{Local: "Postmaster"}
	if err := b.Enqueue(ctx(), b.now, bare); err != nil {
		t.Fatal(err)
	}
	if got := b.list(queue.Filter{Message: "m2"}); len(got) != 1 || got[0].Destination != "" || got[0].Message.Envelope.Recipients[0] != bare.Envelope.Recipients[0] {
		t.Errorf("postmaster: %+v", got)
	}
}

// testManyRecipients: 1,000 recipients at 50 destinations.
func testManyRecipients(t *testing.T, b *bench) {
	var to []string
	for i := range 1000 {
		to = append(to, fmt.Sprintf("user%d@d%d.example", i, i%50))
	}
	b.enqueue("m1", to...)
	jobs := b.lease(100)
	if len(jobs) != 50 {
		t.Fatalf("leased %d jobs, want 50", len(jobs))
	}
	seen := map[string]bool{}
	for _, j := range jobs {
		for _, r := range j.Message.Envelope.Recipients {
			if r.Address.Host() != j.Destination || seen[r.Address.String()] {
				t.Errorf("%s came for %s, or twice", r.Address, j.Destination)
			}
			seen[r.Address.String()] = true
		}
		b.finish(j, mail.Delivered)
	}
	if len(seen) != 1000 {
		t.Errorf("%d recipients came back, want 1000", len(seen))
	}
	b.empty("m1")
}

// spool stores a body as a session does, its head last, and enqueues it.
func (b *bench) spool(id queue.ID, head string, body io.Reader, to string) {
	b.Helper()
	s := queue.NewSpool(ctx(), b.Engine, id)
	defer s.Discard()
	if _, err := io.Copy(s, body); err != nil {
		b.Fatal(err)
	}
	m := b.message(string(id), to)
	var err error
	if m.Chunks, m.Tail, err = s.Body([]byte(head)); err != nil {
		b.Fatal(err)
	}
	m.Size = s.Size()
	if err := b.Enqueue(ctx(), b.now, m); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) read(id queue.ID) []byte {
	b.Helper()
	r := queue.Open(ctx(), b.Engine, id)
	defer r.Close()
	body, err := io.ReadAll(r)
	if err != nil {
		b.Fatal(err)
	}
	return body
}

// pattern gives octets that differ from place to place.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 31 >> 3)
	}
	return p
}

// testBodies: sizes around the borders of a chunk come back whole, and go with their
// message.
func testBodies(t *testing.T, b *bench) {
	const c = queue.ChunkSize
	for _, n := range []int{0, 1, 5000, c - 1, c, c + 1, 2 * c, 3*c + 7} {
		id := queue.ID(fmt.Sprintf("m%d", n))
		want := pattern(n)
		headed := id + "h"
		b.spool(headed, "head\r\n", bytes.NewReader(want), "a@example.com")
		if got := b.read(headed); string(got) != "head\r\n"+string(want) {
			t.Errorf("of a head and %d octets %d came back, or others", n, len(got))
		}
		b.finish(b.lease(1)[0], mail.Delivered)
		b.spool(id, "", bytes.NewReader(want), "a@example.com")
		if got := b.read(id); !bytes.Equal(got, want) {
			t.Errorf("of %d octets %d came back, or others", n, len(got))
		}
		if e := b.entry(); e.Message.Size != int64(n) || e.Message.Tail != nil {
			t.Errorf("%d octets: size %d, tail %d", n, e.Message.Size, len(e.Message.Tail))
		}
		last := (n + c - 1) / c
		if _, err := b.Chunk(ctx(), id, last); err != io.EOF {
			t.Errorf("%d octets: chunk %d gives %v, want io.EOF", n, last, err)
		}
		b.finish(b.one(), mail.Delivered)
		b.empty(id)
		if n, err := b.Sweep(ctx(), b.now.Add(time.Hour)); err != nil || n != 0 {
			t.Errorf("after %s: swept %d, %v; want nothing to be left", id, n, err)
		}
	}
	if _, err := b.Chunk(ctx(), "nobody", 0); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("a chunk of no message: %v, want ErrNotFound", err)
	}
	if err := b.AppendChunk(ctx(), b.now, "m1", 0, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Chunk(ctx(), "m1", 0); !errors.Is(err, queue.ErrNotFound) {
		t.Errorf("a chunk of a message that is not enqueued: %v, want ErrNotFound", err)
	}
}

// testLargeBody: 50 MB go in and out, and hardly any of it is ever in memory.
func testLargeBody(t *testing.T, b *bench) {
	const size = 50_000_000
	const bound = 16 << 20
	peak := watchHeap()
	b.spool("m1", "", io.LimitReader(&counter{}, size), "a@example.com")
	r := queue.Open(ctx(), b.Engine, "m1")
	defer r.Close()
	check := &counter{}
	n, err := io.Copy(check, r)
	if err != nil || n != size || check.wrong {
		t.Errorf("%d octets came back, wrong: %t, %v", n, check.wrong, err)
	}
	if grown := peak(); grown > bound {
		t.Errorf("memory grew by %d MiB, want at most %d", grown>>20, bound>>20)
	}
	b.finish(b.one(), mail.Delivered)
	b.empty("m1")
}

// counter is a stream that is easily checked: as a reader it gives it, as a writer it
// compares.
type counter struct {
	at    uint32
	wrong bool
}

func (c *counter) next() byte { c.at++; return byte(c.at * 2654435761 >> 24) }

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c.next()
	}
	return len(p), nil
}

func (c *counter) Write(p []byte) (int, error) {
	for i := range p {
		if p[i] != c.next() {
			c.wrong = true
		}
	}
	return len(p), nil
}

// watchHeap measures live memory until the function it gives is called, which tells by
// how much it grew at most.
func watchHeap() func() int64 {
	live := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := live()
	stop := make(chan struct{})
	peak := make(chan int64)
	go func() {
		most := before
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				peak <- most
				return
			case <-tick.C:
				most = max(most, live())
			}
		}
	}()
	return func() int64 { close(stop); return <-peak - before }
}

// testSweep: only bodies that nobody wants and nobody is writing are removed.
func testSweep(t *testing.T, b *bench) {
	chunk := func(id queue.ID, seq int) {
		t.Helper()
		if err := b.AppendChunk(ctx(), b.now, id, seq, pattern(queue.ChunkSize)); err != nil {
			t.Fatal(err)
		}
	}
	chunk("given-up", 0)
	chunk("given-up", 1)
	chunk("slow", 0) // its first chunk is old, its second new
	b.spool("mail", "", bytes.NewReader(pattern(queue.ChunkSize+5)), "a@example.com")
	b.pass(time.Hour)
	chunk("slow", 1)
	chunk("new", 0)
	if n, err := b.Sweep(ctx(), b.now.Add(-time.Minute)); err != nil || n != 1 {
		t.Errorf("swept %d bodies, %v; want 1", n, err)
	}
	slow := b.message("slow", "b@example.com")
	slow.Chunks = 2
	if err := b.Enqueue(ctx(), b.now, slow); err != nil {
		t.Errorf("a message that was slow to come in: %v", err)
	}
	gone := b.message("given-up", "b@example.com")
	gone.Chunks = 2
	if err := b.Enqueue(ctx(), b.now, gone); err == nil {
		t.Error("a message was taken after its body was swept")
	}
	if n, err := b.Sweep(ctx(), b.now.Add(time.Hour)); err != nil || n != 1 {
		t.Errorf("swept %d bodies, %v; want 1, the new one", n, err)
	}
	if got := b.read("mail"); len(got) != queue.ChunkSize+5 {
		t.Errorf("the enqueued message has %d octets left", len(got))
	}
	if got := b.read("slow"); len(got) != 2*queue.ChunkSize+len(slow.Tail) {
		t.Errorf("the slow message has %d octets left", len(got))
	}
}

// testSweepRace: a Sweep that meets an Enqueue either comes first, and the message is
// refused, or leaves its body alone.
func testSweepRace(t *testing.T, b *bench) {
	other := b.another()
	for i := range 30 {
		id := queue.ID(fmt.Sprintf("m%d", i))
		if err := b.AppendChunk(ctx(), b.now, id, 0, pattern(queue.ChunkSize)); err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		group.Go(func() {
			if _, err := other.Sweep(ctx(), b.now.Add(time.Hour)); err != nil {
				t.Error(err)
			}
		})
		m := b.message(string(id), "a@example.com")
		m.Chunks = 1
		err := b.Enqueue(ctx(), b.now, m)
		group.Wait()
		if err != nil {
			continue
		}
		if got := b.read(id); len(got) != queue.ChunkSize+len(m.Tail) {
			t.Fatalf("%s was acknowledged and has %d octets", id, len(got))
		}
	}
}

// testCancelled: a call whose context has ended says so and changes nothing.
func testCancelled(t *testing.T, b *bench) {
	ended, cancel := context.WithCancel(ctx())
	cancel()
	if err := b.Enqueue(ended, b.now, b.message("m1", "a@example.com")); !errors.Is(err, context.Canceled) {
		t.Errorf("Enqueue: %v, want context.Canceled", err)
	}
	if got := b.list(queue.Filter{}); len(got) != 0 {
		t.Errorf("the queue has %+v", got)
	}
}

// testClosed: after Close every call fails, and Close may be called again.
func testClosed(t *testing.T, b *bench) {
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Enqueue(ctx(), b.now, b.message("m1", "a@example.com")); err == nil {
		t.Error("Enqueue after Close was answered well")
	}
	if _, err := b.List(ctx(), queue.Filter{}); err == nil {
		t.Error("List after Close was answered well")
	}
	if err := b.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
}
