package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/queue"
	"mxward/internal/reputation"
)

// testFilters: each field narrows a list, and so do two together.
func testFilters(t *testing.T, b *bench) {
	b.enqueue("m1", "a@example.com", "b@example.org")
	b.pass(time.Second)
	b.enqueue("m2", "a@example.com")
	b.pass(time.Second)
	b.enqueue("m3", "c@example.org")
	b.change(queue.Filter{Message: "m3"}, queue.ActHold, 1)
	b.lease(1) // m1's job for one of its destinations
	for _, row := range []struct {
		filter queue.Filter
		want   int
	}{
		{queue.Filter{}, 4},                                          // all
		{queue.Filter{Message: "m1"}, 2},                             // both jobs
		{queue.Filter{Message: "none"}, 0},                           // no such message is no error
		{queue.Filter{Destination: "example.org"}, 2},                // of two messages
		{queue.Filter{Destination: "example.or"}, 0},                 // no prefix
		{queue.Filter{State: queue.Held}, 1},                         //
		{queue.Filter{State: queue.Leased}, 1},                       //
		{queue.Filter{State: queue.Ready}, 2},                        //
		{queue.Filter{Message: "m1", Destination: "example.org"}, 1}, // both narrow
		{queue.Filter{Destination: "example.com", State: "held"}, 0}, //
		{queue.Filter{Limit: 3}, 3},                                  //
		{queue.Filter{Destination: "example.org", Limit: 1}, 1},      //
		{queue.Filter{Message: "m1' OR '1'='1"}, 0},                  // names are no SQL
	} {
		got := b.list(row.filter)
		if len(got) != row.want {
			t.Errorf("%+v: %d entries, want %d", row.filter, len(got), row.want)
		}
		for i := range got[min(1, len(got)):] {
			if got[i].Message.Received.After(got[i+1].Message.Received) {
				t.Errorf("%+v: %s is before %s", row.filter, got[i].Message.ID, got[i+1].Message.ID)
			}
		}
	}
}

// testActions: an action reaches what its filter names, and no more than its limit.
func testActions(t *testing.T, b *bench) {
	for _, id := range []string{"m1", "m2", "m3"} {
		b.enqueue(id, "a@example.com", "b@example.org")
	}
	b.change(queue.Filter{Destination: "example.org"}, queue.ActHold, 3)
	b.change(queue.Filter{Destination: "example.org"}, queue.ActHold, 0) // they are held
	b.change(queue.Filter{}, queue.ActRelease, 3)
	b.change(queue.Filter{Message: "m1"}, queue.ActDrop, 2)
	b.change(queue.Filter{Limit: 3}, queue.ActDrop, 3)
	b.change(queue.Filter{State: queue.Ready}, queue.ActRetry, 1)
	if got := b.entry(); got.Message.ID != "m3" {
		t.Errorf("left is %s, want m3", got.Message.ID)
	}
	b.empty("m1")
	b.empty("m2")
	if _, err := b.Chunk(ctx(), "m3", 0); err != nil {
		t.Errorf("m3 has a job left: %v", err)
	}
	if _, err := b.Change(ctx(), b.now, queue.Filter{}, "burn"); err == nil {
		t.Error("an unknown action was done")
	}
}

// testLargeChange: more jobs than one transaction takes.
func testLargeChange(t *testing.T, b *bench) {
	const count = 1201
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := worker; i < count; i += 8 {
				if err := b.Enqueue(ctx(), b.now, b.message(fmt.Sprintf("m%d", i), "a@example.com")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	b.change(queue.Filter{}, queue.ActHold, count)
	b.change(queue.Filter{Limit: 700}, queue.ActRelease, 700)
	b.change(queue.Filter{Destination: "example.com"}, queue.ActRetry, 700)
	b.change(queue.Filter{}, queue.ActDrop, count)
	if got := b.list(queue.Filter{}); len(got) != 0 {
		t.Errorf("%d entries are left", len(got))
	}
}

// testTwoProcesses: one has the store open and works, another comes to look and to hold.
func testTwoProcesses(t *testing.T, b *bench) {
	other := b.another()
	var group sync.WaitGroup
	stop := make(chan struct{})
	for worker := range 4 {
		group.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := b.Enqueue(ctx(), b.now, b.message(fmt.Sprintf("w%d-%d", worker, i), "a@example.org")); err != nil {
					t.Errorf("while another process looks: %v", err)
					return
				}
			}
		})
	}
	for i := range 20 {
		id := fmt.Sprintf("m%d", i)
		b.enqueue(id, "a@example.com")
		f := queue.Filter{Message: queue.ID(id)}
		entries, err := other.List(ctx(), f)
		if err != nil || len(entries) != 1 {
			t.Errorf("the other process sees %d of %s, %v", len(entries), id, err)
		}
		if n, err := other.Change(ctx(), b.now, f, queue.ActHold); err != nil || n != 1 {
			t.Errorf("the other process held %d of %s, %v", n, id, err)
		}
		if got := b.list(f); len(got) != 1 || got[0].State != queue.Held {
			t.Errorf("here it is %+v, want held", got)
		}
	}
	close(stop)
	group.Wait()
}

// testConcurrency: many producers and many workers, in two processes, with leases that
// end: nothing is lost, and nothing is with two workers at the same time.
func testConcurrency(t *testing.T, b *bench) {
	const producers, each, workers = 10, 40, 8
	processes := []queue.Store{b.Engine, b.another()}
	var mu sync.Mutex
	leased := map[queue.ID]int64{} // the token of who has it
	done := map[queue.ID]int{}
	var group sync.WaitGroup
	for p := range producers {
		group.Go(func() {
			for i := range each {
				m := b.message(fmt.Sprintf("p%d-%d", p, i), fmt.Sprintf("a@d%d.example", i%5))
				if err := processes[p%2].Enqueue(ctx(), b.now, m); err != nil {
					t.Error(err)
				}
			}
		})
	}
	deadline := time.Now().Add(30 * time.Second)
	for w := range workers {
		s := processes[w%2]
		random := rand.New(rand.NewPCG(1, uint64(w)))
		group.Go(func() {
			for time.Now().Before(deadline) {
				mu.Lock()
				finished := len(done) == producers*each
				mu.Unlock()
				if finished {
					return
				}
				jobs, err := s.Lease(ctx(), queue.LeaseRequest{Now: b.now, Until: b.now.Add(leaseTime), Limit: 1 + random.IntN(10)})
				if err != nil {
					t.Error(err)
					return
				}
				for _, j := range jobs {
					mu.Lock()
					if leased[j.Message.ID] != 0 {
						t.Errorf("%s is with two workers", j.Message.ID)
					}
					leased[j.Message.ID] = j.Lease.Token
					mu.Unlock()
				}
				for _, j := range jobs {
					status := mail.Delivered
					if random.IntN(3) == 0 {
						status = mail.Deferred
					}
					mu.Lock()
					delete(leased, j.Message.ID)
					mu.Unlock()
					if err := s.Finish(ctx(), b.now, queue.Result{Job: j, Outcomes: b.outcomes(j, status), Next: b.now}); err != nil {
						t.Error(err)
					}
					if status == mail.Delivered {
						mu.Lock()
						done[j.Message.ID]++
						mu.Unlock()
					}
				}
			}
		})
	}
	group.Wait()
	if len(done) != producers*each {
		t.Errorf("%d messages were delivered, want %d", len(done), producers*each)
	}
	for id, n := range done {
		if n != 1 {
			t.Errorf("%s was delivered %d times", id, n)
		}
	}
	if got := b.list(queue.Filter{}); len(got) != 0 {
		t.Errorf("%d entries are left", len(got))
	}
}

// testLastJobs: the last two jobs of a message are finished at the same time by two
// processes, and the message goes.
func testLastJobs(t *testing.T, b *bench) {
	processes := []queue.Store{b.Engine, b.another()}
	for i := range 30 {
		id := fmt.Sprintf("m%d", i)
		b.enqueue(id, "a@example.com", "b@example.org")
		var group sync.WaitGroup
		for k, job := range b.lease(2) {
			group.Go(func() {
				if err := processes[k].Finish(ctx(), b.now, queue.Result{Job: job, Outcomes: b.outcomes(job, mail.Delivered)}); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		b.empty(queue.ID(id))
	}
}

func name(s string) dns.Name {
	n, err := dns.ParseName(s)
	if err != nil {
		panic(err) // a fault of the test itself
	}
	return n
}

// testContacts: contacts come back by client group and time, and are forgotten by age.
func testContacts(t *testing.T, b *bench) {
	contact := func(client string, after time.Duration, host string) reputation.Contact {
		return reputation.Contact{
			Client: netip.MustParseAddr(client), Host: name(host), Stage: mail.StageRcpt, When: b.now.Add(after),
			Session: "s1", Domain: name("example.com"), From: "sender@example.net", Helo: "mail.example.net",
		}
	}
	all := []reputation.Contact{
		contact("192.0.2.1", 0, "mx1.example.com"),
		contact("192.0.2.1", 2*time.Second, "mx2.example.com"),
		contact("192.0.2.255", time.Second, "mx2.example.com"), // the group's last address
		contact("192.0.3.0", time.Second, "mx1.example.com"),   // the next group's first
		contact("2001:db8::1", time.Second, "mx1.example.com"),
		contact("2001:db8:0:0:ffff::", 2*time.Second, "mx1.example.com"), // the same /64
		contact("2001:db8:0:1::", time.Second, "mx1.example.com"),        // the next one
		{Client: netip.MustParseAddr("198.51.100.1"), Host: name("mx1.example.com"), Stage: mail.StageConnect, When: b.now},
	}
	for _, some := range [][]reputation.Contact{all[:3], nil, all[3:]} {
		if err := b.Record(ctx(), some); err != nil {
			t.Fatal(err)
		}
	}
	b.reopen()
	query := func(prefix string, since time.Duration) []reputation.Contact {
		t.Helper()
		got, err := b.Contacts(ctx(), netip.MustParsePrefix(prefix), b.now.Add(since))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, row := range []struct {
		prefix string
		since  time.Duration
		want   []reputation.Contact
	}{
		{"192.0.2.0/24", 0, []reputation.Contact{all[0], all[2], all[1]}},   // oldest first
		{"192.0.2.77/24", 0, []reputation.Contact{all[0], all[2], all[1]}},  // host bits do not matter
		{"192.0.2.0/24", time.Second, []reputation.Contact{all[2], all[1]}}, // since is part of it
		{"192.0.2.1/32", 0, []reputation.Contact{all[0], all[1]}},           // one address
		{"192.0.2.0/23", time.Second, []reputation.Contact{all[2], all[3], all[1]}},
		{"2001:db8::/64", 0, []reputation.Contact{all[4], all[5]}},       //
		{"2001:db8::/48", 2 * time.Second, []reputation.Contact{all[5]}}, //
		{"198.51.100.0/24", 0, []reputation.Contact{all[7]}},             // what is not known stays zero
		{"203.0.113.0/24", 0, nil},                                       // never seen
	} {
		if got := query(row.prefix, row.since); len(got) != len(row.want) || len(got) > 0 && !reflect.DeepEqual(got, row.want) {
			t.Errorf("%s since %s:\n%+v, want\n%+v", row.prefix, row.since, got, row.want)
		}
	}
	if err := b.Forget(ctx(), b.now.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := query("192.0.2.0/24", -time.Hour); len(got) != 2 {
		t.Errorf("%d contacts are left, want the 2 newer ones", len(got))
	}
}

// testOddContacts: contacts hold what strangers say.
func testOddContacts(t *testing.T, b *bench) {
	odd := reputation.Contact{
		Client: netip.MustParseAddr("::ffff:192.0.2.9"), Host: name("mx1.example.com"), Stage: mail.StageHello,
		When: b.now, Helo: "nul \x00 and \xff", From: "用户@example.com",
	}
	if err := b.Record(ctx(), []reputation.Contact{odd}); err != nil {
		t.Fatal(err)
	}
	got, err := b.Contacts(ctx(), netip.MustParsePrefix("192.0.2.9/32"), b.now)
	if err != nil || len(got) != 1 || got[0].From != odd.From || got[0].Client != odd.Client.Unmap() {
		t.Errorf("%+v, %v", got, err)
	}
	if err := b.Record(ctx(), []reputation.Contact{odd, {Host: name("mx1.example.com")}}); err == nil {
		t.Error("a contact without a client was taken")
	}
	if got, _ := b.Contacts(ctx(), netip.MustParsePrefix("192.0.2.9/32"), b.now); len(got) != 1 {
		t.Errorf("%d contacts after a refused Record, want 1", len(got))
	}
	if err := b.Finish(ctx(), b.now, queue.Result{}); !errors.Is(err, queue.ErrLeaseLost) {
		t.Errorf("Finish of nothing: %v, want ErrLeaseLost", err)
	}
}
