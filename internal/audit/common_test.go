package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
)

// failed gives what fails, with the side that is to blame.
func failed(findings []Finding) string {
	var all []string
	for _, f := range findings {
		if f.Status == Fail && !strings.HasPrefix(f.Target, "mxward-") { // a name by chance
			all = append(all, f.ID+"@"+string(f.Blame)+"@"+f.Target)
		}
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), " ")
}

// TestCommonZoo: who audits many domains finds of each animal what an audit by itself finds, also
// where all that is shared is known already.
func TestCommonZoo(t *testing.T) {
	for _, a := range zoo() {
		t.Run(a.why, func(t *testing.T) {
			a.oldSignature = a.oldAlgorithm // of many domains, only those that have signatures are asked for keys
			look := func(t *testing.T) {
				domain := "example.com"
				if a.domain != "" {
					domain = a.domain
				}
				auditor := a.world(t)
				want := failed(Judge(auditor.Gather(t.Context(), dns.MustName(domain)), Checks()))
				auditor.Common = &Common{}
				for range 2 {
					if got := failed(Judge(auditor.Gather(t.Context(), dns.MustName(domain)), Checks())); got != want {
						t.Errorf("got %s\nwant %s", got, want)
					}
				}
			}
			if a.policy != nil {
				look(t)
				return
			}
			synctest.Test(t, look)
		})
	}
}

// TestHasty: who is hasty leaves only what is worth to be asked again in any case, and leaves it
// sooner.
func TestHasty(t *testing.T) {
	left := 0
	for _, a := range zoo() {
		t.Run(a.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				domain := dns.MustName(cmp.Or(a.domain, "example.com"))
				auditor := a.world(t)
				auditor.Common, auditor.Hasty = &Common{}, true
				began := time.Now()
				if facts := auditor.Gather(t.Context(), domain); !facts.Unfinished {
					return
				}
				hasty := time.Since(began)
				left++
				auditor = a.world(t)
				auditor.Common = &Common{}
				began = time.Now()
				facts := auditor.Gather(t.Context(), domain)
				if full := time.Since(began); full <= hasty {
					t.Errorf("left after %s; to stay takes %s", hasty, full)
				}
				if findings := Judge(facts, Checks()); facts.Unfinished || !AskAgain(findings) {
					t.Errorf("unfinished: %t; nothing is open, and it was left", facts.Unfinished)
				}
			})
		})
	}
	if left == 0 {
		t.Error("no animal is left")
	}
}

// TestInTurn: about one of many domains the resolver is asked one question at a time, until something
// cannot be had; about one alone it is asked all that can be.
func TestInTurn(t *testing.T) {
	for _, tt := range []struct {
		why    string
		common *Common
		fails  dns.Type
		most   func(int) bool
	}{
		{"one alone", nil, 0, func(n int) bool { return n > 1 }},
		{"one of many", &Common{}, 0, func(n int) bool { return n == 1 }},
		{"one of many, in trouble", &Common{}, dns.TypeMX, func(n int) bool { return n > 1 }},
	} {
		synctest.Test(t, func(t *testing.T) {
			auditor := animal{}.world(t)
			auditor.Common = tt.common
			inner := auditor.Resolver
			var mu sync.Mutex
			now, most := 0, 0
			count := func(n int) {
				mu.Lock()
				defer mu.Unlock()
				now += n
				most = max(most, now)
			}
			auditor.Resolver = dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
				if q.Name != dns.Root && !strings.HasPrefix(q.Name.String(), "mxward-") { // our own side is all domains' matter
					count(1)
					defer count(-1)
				}
				time.Sleep(time.Millisecond)
				if q.Type == tt.fails {
					return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.ServerFailed}
				}
				return inner.Resolve(ctx, q)
			})
			auditor.Gather(t.Context(), dns.MustName("example.com"))
			if !tt.most(most) {
				t.Errorf("%s: %d questions at a time", tt.why, most)
			}
		})
	}
}

// TestHold: who waits for its turn at one server does not ask the others meanwhile; who is not heard
// soon after that does.
func TestHold(t *testing.T) {
	for _, tt := range []struct {
		why   string
		reply time.Duration // after the turn has come
		asked int32
	}{
		{"it answers at once", 0, 1},
		{"it takes its time", heardSoon + time.Millisecond, 3},
	} {
		synctest.Test(t, func(t *testing.T) {
			var asked atomic.Int32
			auditor := &Auditor{Common: &Common{}, Asker: askerFunc(func(ctx context.Context, _ netip.AddrPort, _ string, _ dns.Question) (dns.Said, error) {
				if asked.Add(1) == 1 {
					goOn := Hold(ctx)
					time.Sleep(10 * heardSoon)
					goOn()
					time.Sleep(tt.reply)
				}
				return dns.Said{}, nil
			})}
			servers := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("192.0.2.2:53"), netip.MustParseAddrPort("192.0.2.3:53")}
			auditor.gatherer(&Facts{}).askFirst(t.Context(), servers, dns.Question{Name: dns.MustName("example.com"), Type: dns.TypeNS}, func(Heard) bool { return true })
			if asked.Load() != tt.asked {
				t.Errorf("%s: %d were asked, want %d", tt.why, asked.Load(), tt.asked)
			}
		})
	}
}

// counter counts what single servers are asked.
type counter struct {
	Asker
	mu sync.Mutex
	n  map[string]int
}

func (c *counter) Ask(ctx context.Context, server netip.AddrPort, network string, q dns.Question) (dns.Said, error) {
	c.mu.Lock()
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[server.Addr().String()+" "+network]++
	c.mu.Unlock()
	return c.Asker.Ask(ctx, server, network, q)
}

// TestCommonAsksOnce: the root is asked for the first domain, servers take TCP once, and after a
// minute our own side is looked at again.
func TestCommonAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auditor := animal{}.world(t)
		count := &counter{Asker: auditor.Asker}
		auditor.Asker, auditor.Common = count, &Common{}
		auditor.Wanted = Want(slices.DeleteFunc(Checks(), func(c Check) bool { return c.ID == "deleg.axfr-open" }))
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { auditor.Gather(t.Context(), dns.MustName("example.com")) })
		}
		all.Wait()
		for range 20 {
			auditor.Gather(t.Context(), dns.MustName("example.com"))
		}
		if n := count.n[rootAt+" tcp"]; n != 1 {
			t.Errorf("our own side was looked at %d times", n)
		}
		if n := count.n[rootAt+" udp"]; n > 21 {
			t.Errorf("the root was asked %d times", n)
		}
		if n := count.n[ns1At+" tcp"]; n > 20 {
			t.Errorf("a server was asked over TCP %d times", n)
		}
		time.Sleep(controlAge + time.Second)
		facts := auditor.Gather(t.Context(), dns.MustName("example.com"))
		if n := count.n[rootAt+" tcp"]; n != 2 {
			t.Errorf("our own side was looked at %d times, a minute later", n)
		}
		if len(facts.evidence([]dns.Question{rootNS})) == 0 {
			t.Error("what is shared is no evidence")
		}
	})
}

// TestCommonSilent: a server that is silent is not waited for by each domain, and our network
// that goes in the middle is not held against the next one.
func TestCommonSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auditor := animal{}.world(t)
		auditor.Common = &Common{}
		dead := netip.MustParseAddrPort("203.0.113.99:53")
		ask := sparing{auditor.Asker, auditor.Common}
		of := func(i int) dns.Question {
			return dns.Question{Name: dns.MustName(fmt.Sprintf("d%d.example", i)), Type: dns.TypeNS}
		}
		for i := range silentAfter + 5 {
			began := time.Now()
			_, err := ask.Ask(t.Context(), dead, "udp", of(i))
			if dns.TroubleOf(err) != dns.NoReply || i >= silentAfter && time.Since(began) > 0 {
				t.Errorf("question %d: %v after %s", i, err, time.Since(began))
			}
		}
		time.Sleep(silentAge + time.Second)
		began := time.Now()
		if _, err := ask.Ask(t.Context(), dead, "udp", of(0)); err == nil || time.Since(began) == 0 {
			t.Error("it is not asked again later")
		}
	})
}

// cutOff is an Asker whose network goes away.
type cutOff struct {
	Asker
	gone *bool
}

func (c cutOff) Ask(ctx context.Context, server netip.AddrPort, network string, q dns.Question) (dns.Said, error) {
	if *c.gone {
		return dns.Said{}, &dns.Error{Question: q, Trouble: dns.NoReply}
	}
	return c.Asker.Ask(ctx, server, network, q)
}

func TestCommonOurNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := false
		auditor := animal{}.world(t)
		own := auditor.Resolver
		auditor.Asker, auditor.Common = cutOff{auditor.Asker, &gone}, &Common{}
		auditor.Resolver = dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
			if gone {
				return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
			}
			return own.Resolve(ctx, q)
		})
		auditor.Gather(t.Context(), dns.MustName("example.com"))
		time.Sleep(10 * time.Second) // what is known of our side is good for a minute
		gone = true
		findings := Judge(auditor.Gather(t.Context(), dns.MustName("example.com")), Checks())
		for _, f := range findings {
			if f.Status == Fail && !f.Blame.Ours() {
				t.Errorf("%s is held against %s", f.ID, f.Blame)
			}
		}
		if !Ours(findings) || AskAgain(findings) {
			t.Error("it is not our own side's")
		}
	})
}

// TestSpared: some servers drop questions for zones that they do not have. Two such domains do not
// make a server silent for a third; and what it is judged by, each domain asks itself.
func TestSpared(t *testing.T) {
	drops := askerFunc(func(context.Context, netip.AddrPort, string, dns.Question) (dns.Said, error) {
		return dns.Said{}, &dns.Error{Trouble: dns.NoReply, Detail: "dropped"}
	})
	server := netip.MustParseAddrPort("192.0.2.53:53")
	for _, tt := range []struct {
		why   string
		names string // that were dropped
		typ   dns.Type
		want  bool // that it is asked
	}{
		{"two domains, however often", "a.example b.example a.example b.example", dns.TypeNS, true},
		{"three domains: it is silent", "a.example b.example c.example", dns.TypeNS, false},
		{"the SOA record is always asked for", "a.example b.example c.example", dns.TypeSOA, true},
	} {
		common := &Common{}
		for name := range strings.FieldsSeq(tt.names) {
			_, _ = sparing{drops, common}.Ask(t.Context(), server, "udp", dns.Question{Name: dns.MustName(name), Type: dns.TypeNS})
		}
		asked := false
		q := dns.Question{Name: dns.MustName("d.example"), Type: tt.typ}
		_, err := sparing{askerFunc(func(context.Context, netip.AddrPort, string, dns.Question) (dns.Said, error) {
			asked = true
			return dns.Said{}, nil
		}), common}.Ask(t.Context(), server, "udp", q)
		if asked != tt.want {
			t.Errorf("%s: asked %t", tt.why, asked)
		}
		var e *dns.Error
		if !tt.want && (!errors.As(err, &e) || e.Question != q) {
			t.Errorf("%s: the error is of another question: %v", tt.why, err)
		}
	}
}
