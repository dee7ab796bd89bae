package storetest

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"mxward/internal/mail"
	"mxward/internal/queue"
)

// testStates walks one job through its usual life.
func testStates(t *testing.T, b *bench) {
	b.enqueue("m1", "a@example.com")
	if e := b.entry(); e.State != queue.Ready || e.Attempts != 0 || !e.Next.Equal(b.now) || e.Destination != "example.com" || len(e.Last) != 0 {
		t.Errorf("enqueued: %+v", e)
	}
	job := b.one()
	if job.Attempt != 1 || job.Destination != "example.com" || job.Message.ID != "m1" {
		t.Errorf("leased: %+v", job)
	}
	if e := b.entry(); e.State != queue.Leased || e.Attempts != 1 || !e.Next.Equal(b.now.Add(leaseTime)) {
		t.Errorf("leased: %+v", e)
	}
	b.none()
	b.finish(job, mail.Deferred)
	if e := b.entry(); e.State != queue.Ready || !e.Next.Equal(b.now.Add(time.Hour)) || len(e.Last) != 1 || e.Last[0].Reply.Text != "not now" {
		t.Errorf("deferred: %+v", e)
	}
	b.pass(time.Hour - time.Microsecond)
	b.none()
	b.pass(time.Microsecond)
	if job = b.one(); job.Attempt != 2 {
		t.Errorf("leased again: attempt %d, want 2", job.Attempt)
	}
	b.finish(job, mail.Delivered)
	b.empty("m1")
}

// testStateTable tries each row of the table in package queue from each state.
func testStateTable(t *testing.T, b *bench) {
	const gone = queue.State("gone")
	for _, row := range []struct {
		event string
		from  queue.State
		want  queue.State
		due   time.Duration // from now; -1: never
	}{
		{"lease", queue.Ready, queue.Leased, leaseTime},           // worker takes it
		{"lease", queue.Leased, queue.Leased, 30 * time.Second},   // another has it, and its lease has not ended
		{"lease", queue.Held, queue.Held, -1},                     // never
		{"expire", queue.Leased, queue.Leased, 2 * leaseTime},     // lease ends (crash): another worker takes it
		{"renew", queue.Leased, queue.Leased, 10 * time.Minute},   // worker is still at it
		{"defer", queue.Leased, queue.Ready, time.Hour},           // some recipients deferred
		{"deliver", queue.Leased, gone, 0},                        // all delivered
		{"fail", queue.Leased, gone, 0},                           // all failed
		{"retry", queue.Ready, queue.Ready, 0},                    // person
		{"retry", queue.Leased, queue.Leased, 30 * time.Second},   // nothing to do: it is being tried
		{"retry", queue.Held, queue.Held, -1},                     // held stays held
		{"hold", queue.Ready, queue.Held, -1},                     //
		{"hold", queue.Leased, queue.Held, -1},                    //
		{"hold", queue.Held, queue.Held, -1},                      //
		{"release", queue.Held, queue.Ready, 0},                   //
		{"release", queue.Ready, queue.Ready, 30 * time.Minute},   // was not held
		{"release", queue.Leased, queue.Leased, 30 * time.Second}, // was not held
		{"drop", queue.Ready, gone, 0},                            //
		{"drop", queue.Leased, gone, 0},                           //
		{"drop", queue.Held, gone, 0},                             //
	} {
		name := row.event + " of " + string(row.from)
		m := b.message("m1", "a@example.com")
		if err := b.Enqueue(ctx(), b.now, m); err != nil {
			t.Fatal(err)
		}
		var job queue.Job
		switch row.from {
		case queue.Leased:
			job = b.one()
			b.pass(leaseTime / 2)
		case queue.Held:
			b.change(queue.Filter{}, queue.ActHold, 1)
		case queue.Ready:
			if row.event == "release" || row.event == "retry" { // let it be due later
				b.finish(b.one(), mail.Deferred)
				b.pass(30 * time.Minute)
			}
		}
		b.event(row.event, job)
		entries := b.list(queue.Filter{})
		switch {
		case row.want == gone:
			if len(entries) != 0 {
				t.Errorf("%s: still there: %+v", name, entries)
			}
		case len(entries) != 1 || entries[0].State != row.want:
			t.Errorf("%s: %+v, want %s", name, entries, row.want)
		case row.due < 0:
			if !entries[0].Next.IsZero() {
				t.Errorf("%s: due at %s, want never", name, entries[0].Next)
			}
		case row.event == "expire":
		case !entries[0].Next.Equal(b.now.Add(row.due)):
			t.Errorf("%s: due in %s, want %s", name, entries[0].Next.Sub(b.now), row.due)
		}
		if _, err := b.Change(ctx(), b.now, queue.Filter{}, queue.ActDrop); err != nil {
			t.Fatal(err)
		}
		b.empty("m1")
	}
}

// event makes a row of the state table happen.
func (b *bench) event(name string, job queue.Job) {
	b.Helper()
	switch name {
	case "lease":
		b.lease(10)
	case "expire":
		b.pass(leaseTime)
		if again := b.one(); again.Lease == job.Lease || again.Attempt != 2 {
			b.Errorf("leased again: %+v after %+v", again, job)
		}
	case "renew":
		if err := b.Renew(ctx(), job.Lease, b.now.Add(10*time.Minute)); err != nil {
			b.Error(err)
		}
	case "defer":
		b.finish(job, mail.Deferred)
	case "deliver":
		b.finish(job, mail.Delivered)
	case "fail":
		b.finish(job, mail.Failed)
	default:
		if _, err := b.Change(ctx(), b.now, queue.Filter{}, queue.Action(name)); err != nil {
			b.Error(err)
		}
	}
}

// testOrder: the longest due first, whatever the order of acceptance.
func testOrder(t *testing.T, b *bench) {
	for _, id := range []string{"m1", "m2", "m3", "m4"} {
		b.enqueue(id, "a@example.com")
	}
	for i, job := range b.lease(10) { // m1 is due last, m4 first
		b.result(queue.Result{Job: job, Outcomes: b.outcomes(job, mail.Deferred), Next: b.now.Add(time.Duration(9-i) * time.Minute)})
	}
	b.pass(8 * time.Minute)
	if got := ids(b.lease(2)); got != "m4 m3 " {
		t.Errorf("leased %q, want m4 m3", got)
	}
	if got := ids(b.lease(2)); got != "m2 " {
		t.Errorf("leased %q, want m2", got)
	}
	b.pass(time.Minute) // the leases of all three end now, and m1 has been due just as long
	if got := ids(b.lease(1)); got != "m4 " && got != "m1 " && got != "m2 " && got != "m3 " {
		t.Errorf("leased %q", got)
	}
	if got := b.list(queue.Filter{}); len(got) != 4 || got[0].Message.ID != "m1" || got[3].Message.ID != "m4" {
		t.Errorf("listed %+v, want the oldest message first", got)
	}
}

// testExcept: busy destinations are left out, also when their jobs are many and older.
func testExcept(t *testing.T, b *bench) {
	for range 400 {
		b.enqueue(string(queue.NewID()), "a@busy.example")
	}
	b.pass(time.Second)
	b.enqueue("m1", "a@after.example")
	b.enqueue("m2", "a@zone.example")
	b.pass(time.Second)
	if got := ids(b.lease(5, "busy.example")); got != "m1 m2 " {
		t.Errorf("leased %q, want m1 m2", got)
	}
	b.pass(leaseTime)
	if got := ids(b.lease(5, "busy.example", "after.example")); got != "m2 " {
		t.Errorf("leased %q, want m2", got)
	}
	if got := b.lease(5, "zone.example", "busy.example", "none.example"); len(got) != 1 || got[0].Destination != "after.example" {
		t.Errorf("leased %+v, want that for after.example", got)
	}
	if got := b.lease(5, "zone.example", "after.example"); len(got) != 5 || got[0].Destination != "busy.example" {
		t.Errorf("leased %+v, want five for busy.example", got)
	}
}

// testLeaseLost: who has lost the lease changes nothing, however it was lost.
func testLeaseLost(t *testing.T, b *bench) {
	for _, way := range []string{"another worker", "held and released", "dropped", "finished", "dropped, and a new message"} {
		b.enqueue("m1", "a@example.com")
		job := b.one()
		switch way {
		case "another worker":
			b.pass(leaseTime)
			b.one()
		case "held and released":
			b.change(queue.Filter{}, queue.ActHold, 1)
			b.change(queue.Filter{}, queue.ActRelease, 1)
		case "dropped":
			b.change(queue.Filter{}, queue.ActDrop, 1)
		case "finished":
			b.finish(job, mail.Delivered)
		case "dropped, and a new message":
			b.change(queue.Filter{}, queue.ActDrop, 1)
			b.enqueue("m2", "a@example.com")
			b.one()
		}
		before := b.list(queue.Filter{})
		for _, r := range []queue.Result{
			{Job: job, Outcomes: b.outcomes(job, mail.Delivered)},
			{Job: job, Outcomes: b.outcomes(job, mail.Deferred), Next: b.now},
			{Job: job, Outcomes: b.outcomes(job, mail.Deferred), Next: b.now, Canary: b.now, Drain: true},
			{Job: job, Outcomes: b.outcomes(job, mail.Failed), Notice: new(b.message("n1", "sender@example.net")), Drain: true},
		} {
			if err := b.Finish(ctx(), b.now, r); !errors.Is(err, queue.ErrLeaseLost) {
				t.Errorf("%s: Finish: %v, want ErrLeaseLost", way, err)
			}
		}
		if err := b.Renew(ctx(), job.Lease, b.now.Add(time.Hour)); !errors.Is(err, queue.ErrLeaseLost) {
			t.Errorf("%s: Renew: %v, want ErrLeaseLost", way, err)
		}
		after := b.list(queue.Filter{})
		if !slices.EqualFunc(before, after, func(x, y queue.Entry) bool {
			return x.State == y.State && x.Next.Equal(y.Next) && x.Message.ID == y.Message.ID
		}) {
			t.Errorf("%s: the queue has changed from %+v to %+v", way, before, after)
		}
		if _, err := b.Change(ctx(), b.now, queue.Filter{}, queue.ActDrop); err != nil {
			t.Fatal(err)
		}
	}
}

// testHeldMeanwhile: a job that a person holds while it is tried is not tried again for
// those who have the message.
func testHeldMeanwhile(t *testing.T, b *bench) {
	b.enqueue("m1", "a@example.com", "b@example.com")
	job := b.one()
	b.change(queue.Filter{}, queue.ActHold, 1)
	if err := b.Renew(ctx(), job.Lease, b.now.Add(time.Hour)); !errors.Is(err, queue.ErrLeaseLost) {
		t.Errorf("Renew: %v, want ErrLeaseLost", err)
	}
	b.finish(job, mail.Delivered, mail.Deferred)
	if e := b.entry(); e.State != queue.Held || !e.Next.IsZero() || len(e.Message.Envelope.Recipients) != 1 || len(e.Last) != 1 {
		t.Errorf("half delivered: %+v, want it held for b alone", e)
	}
	if err := b.Finish(ctx(), b.now, queue.Result{Job: job, Outcomes: b.outcomes(job, mail.Delivered)}); !errors.Is(err, queue.ErrLeaseLost) {
		t.Errorf("finished twice: %v, want ErrLeaseLost", err)
	}
	b.change(queue.Filter{}, queue.ActRelease, 1)
	job = b.one()
	b.change(queue.Filter{}, queue.ActHold, 1)
	b.finish(job, mail.Delivered)
	b.empty("m1")
}

// testCrash: the store is closed at each point of a job's life and opened again.
func testCrash(t *testing.T, b *bench) {
	b.enqueue("m1", "a@example.com")
	b.reopen() // after Enqueue: it is there
	job := b.one()
	b.reopen() // after Lease: it comes back when the lease ends, not before
	b.none()
	b.pass(leaseTime)
	again := b.one()
	if again.Attempt != 2 {
		t.Errorf("attempt %d, want 2", again.Attempt)
	}
	if err := b.Finish(ctx(), b.now, queue.Result{Job: job, Outcomes: b.outcomes(job, mail.Delivered)}); !errors.Is(err, queue.ErrLeaseLost) {
		t.Errorf("Finish by the worker that crashed: %v, want ErrLeaseLost", err)
	}
	b.reopen() // the lease outlives its store
	b.finish(again, mail.Deferred)
	b.reopen() // after Finish: it waits
	b.none()
	b.pass(time.Hour)
	last := b.one()
	b.finish(last, mail.Delivered)
	b.reopen() // after the last Finish: it is gone
	b.empty("m1")
}

// testSeveralDestinations: a message lives until its last job is gone.
func testSeveralDestinations(t *testing.T, b *bench) {
	b.enqueue("m1", "a@example.com", "b@example.org", "c@example.com", "d@[192.0.2.7]", "e@[IPv6:2001:db8::7]")
	jobs := b.lease(10)
	var got []string
	for _, j := range jobs {
		var names []string
		for _, r := range j.Message.Envelope.Recipients {
			names = append(names, r.Address.Local)
		}
		got = append(got, j.Destination+":"+strings.Join(names, ","))
	}
	slices.Sort(got)
	if want := "[IPv6:2001:db8::7]:e [192.0.2.7]:d example.com:a,c example.org:b"; strings.Join(sorted(strings.Fields(want)), " ") != strings.Join(got, " ") {
		t.Fatalf("jobs %q, want %q", got, want)
	}
	for i, j := range jobs {
		if i > 0 {
			if _, err := b.Chunk(ctx(), "m1", 0); err != nil {
				t.Errorf("with %d jobs left: %v", len(jobs)-i, err)
			}
		}
		b.finish(j, []mail.Status{mail.Delivered, mail.Failed}[i%2])
	}
	b.empty("m1")
}

func sorted(s []string) []string { slices.Sort(s); return s }

// testPartlyDone: only the deferred recipients come back, each with its parameters.
func testPartlyDone(t *testing.T, b *bench) {
	m := b.message("m1", "a@example.com", "b@example.com", "c@example.com", "a@example.com")
	m.Envelope.Recipients[1] = mail.Recipient{Address: address("b@example.com"), Notify: mail.Notify{Success: true, Delay: true}, Original: "rfc822;b+2Bx@example.com"}
	if err := b.Enqueue(ctx(), b.now, m); err != nil {
		t.Fatal(err)
	}
	job := b.one()
	b.finish(job, mail.Delivered, mail.Deferred, mail.Failed, mail.Deferred)
	e := b.entry()
	if len(e.Last) != 2 || e.Last[0].Recipient.Local != "b" || e.Last[1].Recipient.Local != "a" {
		t.Errorf("last outcomes %+v, want those of b and a", e.Last)
	}
	b.pass(time.Hour)
	job = b.one()
	want := []mail.Recipient{m.Envelope.Recipients[1], m.Envelope.Recipients[3]}
	if !slices.Equal(job.Message.Envelope.Recipients, want) {
		t.Errorf("left are %+v, want %+v", job.Message.Envelope.Recipients, want)
	}
	b.finish(job, mail.Delivered)
	b.empty("m1")
}

// testCanary: of the jobs that wait for a destination, one is due early.
func testCanary(t *testing.T, b *bench) {
	for _, id := range []string{"m1", "m2", "m3"} {
		b.enqueue(id, "a@example.com")
	}
	b.enqueue("m4", "a@example.org") // another destination has its own canary
	for _, job := range b.lease(10) {
		b.result(queue.Result{
			Job: job, Outcomes: b.outcomes(job, mail.Deferred),
			Next: b.now.Add(time.Hour), Canary: b.now.Add(time.Minute),
		})
	}
	b.pass(time.Minute)
	jobs := b.lease(10)
	if got := ids(jobs); got != "m1 m4 " && got != "m4 m1 " {
		t.Fatalf("leased %q, want m1 and m4", got)
	}
	for _, job := range jobs { // the canary fails: it stays the canary
		b.result(queue.Result{
			Job: job, Outcomes: b.outcomes(job, mail.Deferred),
			Next: b.now.Add(2 * time.Hour), Canary: b.now.Add(time.Minute),
		})
	}
	b.pass(time.Minute)
	jobs = b.lease(10)
	if len(jobs) != 2 {
		t.Fatalf("leased %q, want two canaries", ids(jobs))
	}
	for _, job := range jobs { // the canary is given up: another takes its place
		b.result(queue.Result{Job: job, Outcomes: b.outcomes(job, mail.Failed), Canary: b.now.Add(time.Minute)})
	}
	b.none()
	b.pass(time.Minute)
	if got := b.lease(10); len(got) != 1 || got[0].Destination != "example.com" {
		t.Errorf("leased %q, want the next canary", ids(got))
	}
}

// testDrain: one success makes what waits for the destination due, and nothing else.
func testDrain(t *testing.T, b *bench) {
	for _, id := range []string{"m1", "m2", "m3", "held", "leased"} {
		b.enqueue(id, "a@example.com")
	}
	b.enqueue("other", "a@example.org")
	for _, job := range b.lease(10) {
		if job.Message.ID == "m1" || job.Message.ID == "leased" {
			continue
		}
		b.finish(job, mail.Deferred)
	}
	b.change(queue.Filter{Message: "held"}, queue.ActHold, 1)
	b.pass(leaseTime)
	jobs := b.lease(10)
	if len(jobs) != 2 {
		t.Fatalf("leased %q, want m1 and leased", ids(jobs))
	}
	b.pass(time.Second)
	b.result(queue.Result{Job: jobs[0], Outcomes: b.outcomes(jobs[0], mail.Delivered), Drain: true})
	if got := strings.Join(sorted(strings.Fields(ids(b.lease(10)))), " "); got != "m2 m3" {
		t.Errorf("due after the drain: %q, want m2 m3", got)
	}
}

// testNotice: the DSN is there when the job is gone, and not before.
func testNotice(t *testing.T, b *bench) {
	b.enqueue("m1", "a@example.com")
	job := b.one()
	notice := b.message("n1", "sender@example.net")
	notice.Notice, notice.Envelope.From = true, mail.Path{}
	bad := notice
	bad.Envelope.Recipients = nil
	if err := b.Finish(ctx(), b.now, queue.Result{Job: job, Outcomes: b.outcomes(job, mail.Failed), Notice: &bad}); err == nil {
		t.Error("a notice without recipients was taken")
	}
	b.enqueue("n0", "b@example.org")
	duplicate := notice
	duplicate.ID = "n0"
	if err := b.Finish(ctx(), b.now, queue.Result{Job: job, Outcomes: b.outcomes(job, mail.Failed), Notice: &duplicate}); err == nil {
		t.Error("a notice whose ID is taken was taken")
	}
	if got := b.list(queue.Filter{Message: "m1"}); len(got) != 1 || got[0].State != queue.Leased {
		t.Errorf("after a Finish that failed: %+v, want the job as it was", got)
	}
	torn := notice
	torn.Chunks = 1
	if err := b.Finish(ctx(), b.now, queue.Result{Job: job, Outcomes: b.outcomes(job, mail.Failed), Notice: &torn}); err == nil {
		t.Error("a notice whose chunk is missing was taken")
	}
	b.result(queue.Result{Job: job, Outcomes: b.outcomes(job, mail.Failed), Notice: &notice})
	b.empty("m1")
	b.change(queue.Filter{Message: "n0"}, queue.ActDrop, 1)
	b.reopen()
	got := b.one()
	if got.Message.ID != "n1" || !got.Message.Notice || !got.Message.Envelope.From.IsNull() || got.Destination != "example.net" {
		t.Errorf("the notice: %+v", got)
	}
}
