package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"mxward/internal/mail"
	"mxward/internal/queue"
	"mxward/internal/store"
)

// Fresh gives, for one test, an empty database, as a function that opens it: the first
// time, and again as after a crash or from another process.
type Fresh func(t testing.TB) (open func() (store.Engine, error))

// Run proves that an engine keeps the promises of queue.Store, reputation.Store and package
// report's.
func Run(t *testing.T, fresh Fresh) {
	for _, part := range []struct {
		name string
		test func(*testing.T, *bench)
	}{
		{"states", testStates},
		{"state table", testStateTable},
		{"order", testOrder},
		{"except", testExcept},
		{"lease lost", testLeaseLost},
		{"held meanwhile", testHeldMeanwhile},
		{"crash", testCrash},
		{"several destinations", testSeveralDestinations},
		{"partly done", testPartlyDone},
		{"canary", testCanary},
		{"drain", testDrain},
		{"notice", testNotice},
		{"refused", testRefused},
		{"round trip", testRoundTrip},
		{"odd data", testOddData},
		{"many recipients", testManyRecipients},
		{"bodies", testBodies},
		{"large body", testLargeBody},
		{"sweep", testSweep},
		{"sweep while enqueueing", testSweepRace},
		{"filters", testFilters},
		{"actions", testActions},
		{"large change", testLargeChange},
		{"cancelled", testCancelled},
		{"closed", testClosed},
		{"two processes", testTwoProcesses},
		{"nothing lost, nothing twice", testConcurrency},
		{"last two jobs", testLastJobs},
		{"contacts", testContacts},
		{"contacts of odd clients", testOddContacts},
		{"counts for reports", testCounts},
		{"long counts", testLongCounts},
		{"limits of counts", testCountLimits},
		{"one owner's domains", testOwned},
		{"many sources", testManySources},
		{"claims of days", testClaims},
		{"claims at once", testClaimRace},
		{"reports of others", testReceived},
		{"reports of one reporter", testReporterShare},
		{"kept state", testKeptState},
		{"kept state, broken off", testBrokenState},
	} {
		t.Run(part.name, func(t *testing.T) {
			b := &bench{T: t, open: fresh(t), now: time.Date(2026, 5, 4, 3, 2, 1, 123456000, time.UTC)}
			b.Engine = b.another()
			part.test(t, b)
		})
	}
}

// bench is a store under test, and a clock that the test moves.
type bench struct {
	*testing.T
	store.Engine
	open func() (store.Engine, error)
	now  time.Time
}

// another opens the same database once more, as another process would.
func (b *bench) another() store.Engine {
	b.Helper()
	e, err := b.open()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.Close() }) // a second Close is harmless
	return e
}

// reopen closes the store and opens it again.
func (b *bench) reopen() {
	b.Helper()
	if err := b.Engine.Close(); err != nil {
		b.Fatal(err)
	}
	b.Engine = b.another()
}

// pass moves the clock.
func (b *bench) pass(d time.Duration) { b.now = b.now.Add(d) }

func ctx() context.Context { return context.Background() }

func address(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err) // a fault of the test itself
	}
	return a
}

// message makes a small message for the recipients.
func (b *bench) message(id string, to ...string) queue.Message {
	m := queue.Message{
		ID:       queue.ID(id),
		Envelope: mail.Envelope{From: mail.Path{Address: address("sender@example.net")}},
		Received: b.now, Expires: b.now.Add(queue.Lifetime), Client: "mail.example.net [192.0.2.1]",
		Tail: []byte("Subject: " + id + "\r\n\r\n"),
	}
	m.Size = int64(len(m.Tail))
	for _, r := range to {
		m.Envelope.Recipients = append(m.Envelope.Recipients, mail.Recipient{Address: address(r)})
	}
	return m
}

func (b *bench) enqueue(id string, to ...string) {
	b.Helper()
	if err := b.Enqueue(ctx(), b.now, b.message(id, to...)); err != nil {
		b.Fatal(err)
	}
}

// leaseTime is how long the tests' leases are.
const leaseTime = time.Minute

// lease leases up to limit jobs.
func (b *bench) lease(limit int, except ...string) []queue.Job {
	b.Helper()
	jobs, err := b.Lease(ctx(), queue.LeaseRequest{Now: b.now, Until: b.now.Add(leaseTime), Limit: limit, Except: except})
	if err != nil {
		b.Fatal(err)
	}
	return jobs
}

// one leases the one job that is due.
func (b *bench) one() queue.Job {
	b.Helper()
	jobs := b.lease(10)
	if len(jobs) != 1 {
		b.Fatalf("leased %d jobs, want 1", len(jobs))
	}
	return jobs[0]
}

// none wants no job to be due.
func (b *bench) none() {
	b.Helper()
	if jobs := b.lease(10); len(jobs) != 0 {
		b.Fatalf("leased %d jobs, want none: %+v", len(jobs), jobs)
	}
}

// outcomes gives each recipient of the job the statuses in turn, the last for the rest.
func (b *bench) outcomes(j queue.Job, statuses ...mail.Status) []mail.Outcome {
	out := make([]mail.Outcome, len(j.Message.Envelope.Recipients))
	for i, r := range j.Message.Envelope.Recipients {
		status := statuses[min(i, len(statuses)-1)]
		reply := map[mail.Status]mail.Reply{
			mail.Delivered: mail.NewReply(250, 0, 0, "ok"), mail.Deferred: mail.NewReply(451, 3, 0, "not now"),
			mail.Failed: mail.NewReply(550, 1, 1, "no such user"),
		}[status]
		out[i] = mail.Outcome{
			Recipient: r.Address, Status: status, Stage: mail.StageRcpt, Reply: reply,
			Host: "mx.example.com [192.0.2.2]:25", Remote: true, When: b.now,
		}
	}
	return out
}

func (b *bench) finish(j queue.Job, statuses ...mail.Status) {
	b.Helper()
	b.result(queue.Result{Job: j, Outcomes: b.outcomes(j, statuses...), Next: b.now.Add(time.Hour)})
}

func (b *bench) result(r queue.Result) {
	b.Helper()
	if err := b.Finish(ctx(), b.now, r); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) change(f queue.Filter, a queue.Action, want int) {
	b.Helper()
	n, err := b.Change(ctx(), b.now, f, a)
	if err != nil {
		b.Fatal(err)
	}
	if n != want {
		b.Fatalf("%s changed %d jobs, want %d", a, n, want)
	}
}

func (b *bench) list(f queue.Filter) []queue.Entry {
	b.Helper()
	entries, err := b.List(ctx(), f)
	if err != nil {
		b.Fatal(err)
	}
	return entries
}

// entry gives the one entry of the queue.
func (b *bench) entry() queue.Entry {
	b.Helper()
	entries := b.list(queue.Filter{})
	if len(entries) != 1 {
		b.Fatalf("the queue has %d entries, want 1", len(entries))
	}
	return entries[0]
}

// empty wants nothing of a message to be left.
func (b *bench) empty(id queue.ID) {
	b.Helper()
	if entries := b.list(queue.Filter{Message: id}); len(entries) != 0 {
		b.Errorf("%s is still in the queue: %+v", id, entries)
	}
	if _, err := b.Chunk(ctx(), id, 0); !errors.Is(err, queue.ErrNotFound) {
		b.Errorf("reading %s after its end: %v, want ErrNotFound", id, err)
	}
}

func ids(jobs []queue.Job) string {
	s := ""
	for _, j := range jobs {
		s += string(j.Message.ID) + " "
	}
	return s
}
