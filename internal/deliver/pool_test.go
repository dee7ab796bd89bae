package deliver

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/mail"
)

// deliver1 delivers one message to user@example.com.
func deliver1(t *testing.T, d *Deliverer) mail.Outcome {
	t.Helper()
	return d.Deliver(t.Context(), envelope(t, "user@example.com"), body(text))[0]
}

// One connection serves several messages, up to a number, and is not kept for long.
func TestPool(t *testing.T) {
	tests := []struct {
		about    string
		host     *fake
		set      func(*Deliverer)
		messages int
		pause    time.Duration // between messages
		sessions int
	}{
		{about: "ten messages, one connection", host: &fake{}, messages: 10, sessions: 1},
		{about: "with PIPELINING", host: &fake{pipelining: true}, messages: 10, sessions: 1},
		{about: "a pause shorter than the time it is kept", host: &fake{}, messages: 5, pause: 4 * time.Second, sessions: 1},
		{about: "a longer one", host: &fake{}, messages: 5, pause: 6 * time.Second, sessions: 5},
		{about: "not at all, if the plan says so", host: &fake{}, set: func(d *Deliverer) { d.IdleFor = -1 }, messages: 5, sessions: 5},
		{about: "a connection carries a hundred messages", host: &fake{}, messages: 101, sessions: 2},
		{about: "the host ends it after three: nobody notices", host: &fake{maxMails: 3}, messages: 9, sessions: 3},
		{about: "the host drops idle connections: nobody notices", host: &fake{quiet: time.Second}, messages: 4, pause: 2 * time.Second, sessions: 4},
		{about: "the same with PIPELINING", host: &fake{quiet: time.Second, pipelining: true}, messages: 4, pause: 2 * time.Second, sessions: 4},
	}
	for _, tt := range tests {
		t.Run(tt.about, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, n := rig(t, map[string]*fake{first: tt.host})
				if tt.set != nil {
					tt.set(d)
				}
				for i := range tt.messages {
					if o := deliver1(t, d); o.Status != mail.Delivered || o.Host != "mx1.example.com [192.0.2.1]:25" {
						t.Fatalf("message %d: %s by %s: %s", i, told(o), o.Host, o.Reply)
					}
					time.Sleep(tt.pause)
				}
				n.change(func() {
					if tt.host.sessions != tt.sessions || len(tt.host.mails) != tt.messages {
						t.Errorf("%d messages over %d connections, want %d over %d", len(tt.host.mails), tt.host.sessions, tt.messages, tt.sessions)
					}
				})
			})
		})
	}
}

// A kept connection that died is replaced once: if the new one is no better, the next host
// has its turn.
func TestStaleOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := rig(t, map[string]*fake{first: {}, second: {}})
		deliver1(t, d)
		n.change(func() { n.hosts[first].says = map[mail.Stage]string{mail.StageMail: drop} })
		o := deliver1(t, d)
		if o.Status != mail.Delivered || o.Host != "mx2.example.com [192.0.2.2]:25" {
			t.Errorf("%s by %s", told(o), o.Host)
		}
		if got := n.hosts[first].sessions; got != 2 {
			t.Errorf("%d connections to the first host", got)
		}
	})
}

// A refusal on a kept connection is a refusal, not a dead connection.
func TestKeptConnectionRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := rig(t, map[string]*fake{first: {}})
		deliver1(t, d)
		n.change(func() { n.hosts[first].says = map[mail.Stage]string{mail.StageMail: "550 5.7.1 no"} })
		if o := deliver1(t, d); told(o) != "failed mail 550 remote" {
			t.Errorf("%s", told(o))
		}
		if got := n.hosts[first].sessions; got != 1 {
			t.Errorf("%d connections", got)
		}
	})
}

// Idle connections are ended politely: after their time, and by Close; and none is left.
func TestPoolCloses(t *testing.T) {
	for _, byClose := range []bool{false, true} {
		t.Run(fmt.Sprintf("close=%v", byClose), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, n := rig(t, map[string]*fake{first: {}})
				deliver1(t, d)
				if byClose {
					d.Close()
					d.Close() // twice is not wrong
				} else {
					time.Sleep(defaultIdle + time.Second)
				}
				n.change(func() {
					if n.hosts[first].quits != 1 {
						t.Errorf("%d times QUIT", n.hosts[first].quits)
					}
				})
				if d.pool.idling != 0 || len(d.pool.idle) != 0 || len(d.pool.open) != 0 {
					t.Errorf("left: %d idle, %v, %v", d.pool.idling, d.pool.idle, d.pool.open)
				}
				if byClose {
					deliver1(t, d)
					synctest.Wait()
					if d.pool.idling != 0 {
						t.Error("a closed pool keeps connections")
					}
				}
			})
		})
	}
}

// The number of idle connections to one host is bounded, whatever the burst.
func TestPoolBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := rig(t, map[string]*fake{first: {}})
		var wg sync.WaitGroup
		for range 3 * maxIdlePerHost {
			wg.Go(func() { deliver1(t, d) })
		}
		wg.Wait()
		synctest.Wait()
		n.change(func() {
			if len(n.hosts[first].mails) != 3*maxIdlePerHost {
				t.Errorf("%d messages", len(n.hosts[first].mails))
			}
		})
		d.pool.mu.Lock()
		defer d.pool.mu.Unlock()
		if d.pool.idling > maxIdlePerHost || d.pool.idling != len(d.pool.idle[d.placeOf(Hop{Host: names("mx1.example.com")[0], Addr: addrs("192.0.2.1")[0]})]) {
			t.Errorf("%d idle", d.pool.idling)
		}
	})
}
