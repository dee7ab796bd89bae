package deliver

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/mail"
)

func only(h *fake) map[string]*fake { return map[string]*fake{first: h} }

// A thousand messages, twenty at a time, for a host that does not answer: they wait once,
// not a thousand times, and each says why it waits.
func TestDeadHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := rig(t, only(&fake{says: map[mail.Stage]string{mail.StageConnect: hang}}))
		d.Finder.Resolver = world(t, "example.com. MX 10 mx1.example.com.\n"+twoHosts)
		began := time.Now()
		work := make(chan int)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for range work {
					if o := deliver1(t, d); told(o) != "deferred connect 451 ours" || o.Host != "mx1.example.com [192.0.2.1]:25" {
						t.Errorf("%s by %q: %s", told(o), o.Host, o.Reply)
					}
				}
			})
		}
		for i := range 1000 {
			work <- i
		}
		close(work)
		wg.Wait()
		if took := time.Since(began); took > defaultConnect+time.Second {
			t.Errorf("took %s", took)
		}
		if got := n.hosts[first].dialled; got != 20 {
			t.Errorf("%d connections tried", got)
		}
	})
}

// The next host takes the mail of a dead one without delay; the dead one is tried again by
// a canary, and is used again once it answers.
func TestDeadHostAndAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := rig(t, map[string]*fake{first: {says: map[mail.Stage]string{mail.StageConnect: hang}}, second: {}})
		deliver1(t, d)
		began := time.Now()
		for range 10 {
			if o := deliver1(t, d); o.Status != mail.Delivered || o.Host != "mx2.example.com [192.0.2.2]:25" {
				t.Errorf("%s by %s", told(o), o.Host)
			}
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("ten messages took %s", took)
		}
		if got := n.hosts[first].dialled; got != 1 {
			t.Errorf("the dead host was tried %d times", got)
		}
		n.change(func() { n.hosts[first].says = nil })
		time.Sleep(defaultDead)
		for range 2 {
			if o := deliver1(t, d); o.Host != "mx1.example.com [192.0.2.1]:25" {
				t.Errorf("%s by %s", told(o), o.Host)
			}
		}
	})
}

// While the canary waits, the others go on to the next host at once.
func TestOneCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := rig(t, map[string]*fake{first: {says: map[mail.Stage]string{mail.StageConnect: hang}}, second: {}})
		deliver1(t, d)
		time.Sleep(defaultDead)
		go deliver1(t, d) // the canary
		synctest.Wait()
		began := time.Now()
		for range 10 {
			if o := deliver1(t, d); o.Status != mail.Delivered {
				t.Errorf("%s", told(o))
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("took %s", took)
		}
		if got := n.hosts[first].dialled; got != 2 {
			t.Errorf("the dead host was tried %d times", got)
		}
		time.Sleep(time.Minute)
	})
}

// The only host is back: the messages that come together with the canary wait for it and
// are delivered too.
func TestTogetherWithTheCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := rig(t, only(&fake{says: map[mail.Stage]string{mail.StageConnect: refused}}))
		d.Finder.Resolver = world(t, "example.com. MX 10 mx1.example.com.\n"+twoHosts)
		deliver1(t, d)
		time.Sleep(defaultDead)
		n.change(func() { n.hosts[first].says = nil })
		slow := d.Dial
		dials := 0
		d.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			n.change(func() { dials++ })
			time.Sleep(time.Second)
			return slow(ctx, network, address)
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if o := deliver1(t, d); o.Status != mail.Delivered {
					t.Errorf("%s %s", told(o), o.Reply)
				}
			})
		}
		time.Sleep(500 * time.Millisecond)
		n.change(func() {
			if dials != 1 {
				t.Errorf("%d canaries", dials)
			}
		})
		wg.Wait()
	})
}

// The only host stays dead: those that come with the canary wait for it no longer than
// canaryWait, and are deferred with the reason that is known.
func TestCanaryKeepsNobodyLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := rig(t, only(&fake{says: map[mail.Stage]string{mail.StageGreeting: "421 4.3.2 going down"}}))
		d.Finder.Resolver = world(t, "example.com. MX 10 mx1.example.com.\n"+twoHosts)
		deliver1(t, d)
		n.change(func() { n.hosts[first].says = map[mail.Stage]string{mail.StageConnect: hang} })
		time.Sleep(defaultDead)
		go deliver1(t, d)
		synctest.Wait()
		began := time.Now()
		if o := deliver1(t, d); told(o) != "deferred greeting 421 remote" {
			t.Errorf("%s", told(o))
		}
		if took := time.Since(began); took != canaryWait {
			t.Errorf("took %s", took)
		}
		time.Sleep(time.Minute)
	})
}

// What makes an address dead for a while, and what does not.
func TestWhatIsRemembered(t *testing.T) {
	at := func(s mail.Stage, word string) map[mail.Stage]string { return map[mail.Stage]string{s: word} }
	tests := []struct {
		about string
		says  map[mail.Stage]string
		dead  bool
	}{
		{"a refused connection", at(mail.StageConnect, refused), true},
		{"a time-out", at(mail.StageConnect, hang), true},
		{"a 421 greeting", at(mail.StageGreeting, "421 4.3.2 later"), true},
		{"a greeting that does not come", at(mail.StageGreeting, hang), true},
		{"a drop at EHLO", at(mail.StageHello, drop), true},
		{"421 at MAIL: it listened", at(mail.StageMail, "421 4.3.2 later"), false},
		{"greylisting", at(mail.StageRcpt, "450 4.7.1 later"), false},
		{"a drop after DATA", at(mail.StageData, drop), false},
	}
	for _, tt := range tests {
		t.Run(tt.about, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, n := rig(t, only(&fake{says: tt.says}))
				deliver1(t, d)
				if dead := d.memory.graves[first] != nil; dead != tt.dead {
					t.Errorf("taken for dead: %v", dead)
				}
				d.Close() // so that the next message needs a connection
				deliver1(t, d)
				if dead := n.hosts[first].dialled == 1; dead != tt.dead {
					t.Errorf("tried %d times", n.hosts[first].dialled)
				}
			})
		})
	}
}

// A host that turns away a further connection while others are open is busy, not dead.
func TestBusyIsNotDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := rig(t, only(&fake{}))
		deliver1(t, d) // leaves an idle connection
		busy := d.pool.take(d.placeOf(Hop{Host: names("mx1.example.com")[0], Addr: addrs("192.0.2.1")[0]}))
		n.change(func() {
			n.hosts[first].says = map[mail.Stage]string{mail.StageGreeting: "421 4.7.0 too many connections"}
		})
		deliver1(t, d)
		deliver1(t, d)
		if got := n.hosts[first].dialled; got != 3 {
			t.Errorf("tried %d times", got)
		}
		d.pool.put(busy)
		if o := deliver1(t, d); o.Status != mail.Delivered {
			t.Errorf("the open connection was not used: %s", told(o))
		}
	})
}

// DeadFor sets the time, or turns the memory off.
func TestDeadFor(t *testing.T) {
	for _, tt := range []struct {
		deadFor time.Duration
		tries   int
	}{{0, 1}, {-1, 3}, {time.Millisecond, 3}} {
		synctest.Test(t, func(t *testing.T) {
			d, n := rig(t, only(&fake{says: map[mail.Stage]string{mail.StageConnect: refused}}))
			d.DeadFor = tt.deadFor
			for range 3 {
				deliver1(t, d)
				time.Sleep(time.Second)
			}
			if got := n.hosts[first].dialled; got != tt.tries {
				t.Errorf("%s: tried %d times", tt.deadFor, got)
			}
		})
	}
}

// A host that hangs for minutes is left alone for as long.
func TestSlowDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := rig(t, only(&fake{says: map[mail.Stage]string{mail.StageGreeting: hang}}))
		began := time.Now()
		deliver1(t, d)
		if took := time.Since(began); took != 5*time.Minute { // RFC 5321 §4.5.3.2.1
			t.Errorf("the first took %s", took)
		}
		for range 2 {
			time.Sleep(4 * time.Minute)
			deliver1(t, d)
		}
		if got := n.hosts[first].dialled; got != 2 {
			t.Errorf("tried %d times", got)
		}
	})
}

// A canary that ends for reasons of its own leaves the place to the next.
func TestCanaryGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{deadFor: time.Minute}
		v, _ := m.enter("a")
		v.dead(mail.Outcome{Stage: mail.StageConnect})
		if v, said := m.enter("a"); v != nil || said.Stage != mail.StageConnect {
			t.Error("a dead address was entered")
		}
		time.Sleep(time.Minute)
		canary, _ := m.enter("a")
		if other, _ := m.enter("a"); canary == nil || other != nil {
			t.Error("not exactly one canary")
		}
		canary.unknown()
		canary.dead(mail.Outcome{}) // too late: it has ended
		again, _ := m.enter("a")
		if again == nil {
			t.Fatal("nobody may follow the canary")
		}
		again.alive()
		if v, _ := m.enter("a"); v == nil || len(m.graves) != 0 {
			t.Error("a living address is dead")
		}
	})
}

// The memory is bounded: old graves make room, and without room nothing is remembered.
func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{deadFor: time.Minute}
		bury := func(address string) {
			v, _ := m.enter(address)
			v.dead(mail.Outcome{})
		}
		for i := range maxGraves + 10 {
			bury(fmt.Sprint(i))
		}
		if len(m.graves) != maxGraves {
			t.Errorf("%d graves", len(m.graves))
		}
		time.Sleep(2 * time.Minute)
		bury("new")
		if len(m.graves) != 1 {
			t.Errorf("%d graves after their time", len(m.graves))
		}
	})
}
