package spf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
)

// networksZone is what the policies of TestNetworks name.
const networksZone = `
@ TXT "v=spf1 -all"
h A 192.0.2.1
h AAAA 2001:db8::1
m MX 10 h
m MX 20 gone
null MX 0 .
inner TXT "v=spf1 -ip4:192.0.2.128/25 ip4:192.0.2.0/24 ?all"
world TXT "v=spf1 +all"
deep TXT "v=spf1 include:inner.example.com a:h.example.com ~all"
macro TXT "v=spf1 exists:%{i}.l.example.com ip4:203.0.113.0/24 -all"
none A 192.0.2.9
mapped AAAA ::ffff:192.0.2.7
wrong TXT "v=spf1 ip4:192.0.2.300 -all"
loop TXT "v=spf1 include:loop.example.com -all"
`

// samples are held against Check: what it passes is in the set, and nothing else.
var samples = []string{"192.0.2.1", "192.0.2.5", "192.0.2.130", "198.51.100.7", "203.0.113.9", "2001:db8::1", "2001:db8::9", "2001:db8:1::1"}

func TestNetworks(t *testing.T) {
	for _, tt := range []struct {
		why, record, want string
	}{
		{"networks alone", "ip4:192.0.2.0/24 ip6:2001:db8::/32 -all", "192.0.2.0/24 2001:db8::/32"},
		{"two halves and their whole are one", "ip4:192.0.2.0/25 ip4:192.0.2.128/25 ip4:192.0.2.0/24 -all", "192.0.2.0/24"},
		{"host bits mean nothing", "ip4:192.0.2.77/24 -all", "192.0.2.0/24"},
		{"the first that matches decides", "-ip4:192.0.2.0/25 ip4:192.0.2.0/24 -all", "192.0.2.128/25"},
		{"a pass stands before what refuses it", "ip4:192.0.2.1 -ip4:192.0.2.0/24 ip4:192.0.2.0/24 -all", "192.0.2.1/32"},
		{"soft and neutral are no pass", "~ip4:192.0.2.0/24 ?ip4:198.51.100.0/24 -all", ""},
		{"nobody", "-all", ""},
		{"what stands after all is never reached", "-all ip4:192.0.2.0/24", ""},
		{"both families of a host", "a:h.example.com -all", "192.0.2.1/32 2001:db8::1/128"},
		{"a host and those around it", "a:h.example.com/24//64 -all", "192.0.2.0/24 2001:db8::/64"},
		{"MX hosts, and one that is gone", "mx:m.example.com -all", "192.0.2.1/32 2001:db8::1/128"},
		{"an IPv4 address in IPv6 is nobody's, as a client's is read as IPv4", "ip6:::ffff:192.0.2.0/120 a:mapped.example.com ip4:203.0.113.9 -all", "203.0.113.9/32"},
		{"nor does it refuse anybody", "-ip6:::ffff:192.0.2.0/120 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all", "192.0.2.0/24 2001:db8::/32"},
		{"a null MX is no host", "mx:null.example.com ip4:203.0.113.9 -all", "203.0.113.9/32"},
		{"an include passes what it passes, and refuses nobody", "include:inner.example.com ip4:192.0.2.130 -all", "192.0.2.0/25 192.0.2.130/32"},
		{"an include that refuses whom it passes", "-include:inner.example.com ip4:192.0.2.0/24 -all", "192.0.2.128/25"},
		{"includes below includes", "include:deep.example.com -all", "192.0.2.0/25 2001:db8::1/128"},
		{"a redirect takes the place of all", "ip4:203.0.113.0/24 redirect=inner.example.com", "192.0.2.0/25 203.0.113.0/24"},
		{"and does nothing beside it", "ip4:203.0.113.0/24 redirect=inner.example.com -all", "203.0.113.0/24"},
		{"the whole world", "include:world.example.com -all", "0.0.0.0/0 ::/0"},
		{"the world but some", "-ip4:128.0.0.0/1 -ip6:::/0 all", "0.0.0.0/1"},
		{"a name that is there passes everybody", "exists:h.example.com -all", "0.0.0.0/0 ::/0"},
		{"and one that is not, nobody", "exists:gone.example.com -all", ""},
		{"what depends on the client may pass more", "exists:%{i}.l.example.com ip4:192.0.2.0/24 -all", "192.0.2.0/24 beyond exists:%{i}.l.example.com more"},
		{"or refuse more", "-exists:%{i}.l.example.com ptr ip4:192.0.2.0/24 -all", "192.0.2.0/24 beyond -exists:%{i}.l.example.com ptr more fewer"},
		{"below an include too", "include:macro.example.com -all", "203.0.113.0/24 beyond exists:%{i}.l.example.com more"},
		{"and the other way round below one that refuses", "-include:macro.example.com ip4:203.0.112.0/23 -all", "203.0.112.0/24 beyond exists:%{i}.l.example.com fewer"},
		{"an include by a macro", "include:%{d2}.example.net ip4:192.0.2.1 -all", "192.0.2.1/32 beyond include:%{d2}.example.net more"},
		{"an include without a policy is an error", "include:none.example.com ip4:192.0.2.1 -all", "192.0.2.1/32 permanent"},
		{"as one with a mistake is", "include:wrong.example.com ip4:192.0.2.1 -all", "192.0.2.1/32 permanent"},
		{"and one that includes itself", "include:loop.example.com -all", "permanent"},
	} {
		r := world(t, networksZone+"x TXT \"v=spf1 "+tt.record+"\"\n")
		got := NetworksOf(t.Context(), r, "x.example.com")
		if text := got.words(); text != strings.TrimSpace(tt.want) {
			t.Errorf("%s: got %q, want %q (%v)", tt.why, text, tt.want, got.Err)
		}
		if len(got.Beyond) > 0 || got.Err != nil {
			continue
		}
		for _, s := range samples {
			client := netip.MustParseAddr(s)
			v := Check(t.Context(), r, Session{Client: client, Helo: "x.example.com"})
			if (v.Result == Pass) != got.Set.Contains(client) {
				t.Errorf("%s: %s is %s, and the set is %q", tt.why, s, v.Result, got.words())
			}
		}
	}
}

// words writes a set for a table.
func (n Networks) words() string {
	var all []string
	for _, p := range n.Set.Prefixes() {
		all = append(all, p.String())
	}
	if len(n.Beyond) > 0 {
		all = append(all, "beyond "+strings.Join(n.Beyond, " "))
	}
	for word, is := range map[string]bool{"permanent": errors.Is(n.Err, ErrPermanent), "temporary": errors.Is(n.Err, ErrTemporary), "none": errors.Is(n.Err, ErrNotSPF) && !errors.Is(n.Err, ErrPermanent)} {
		if is {
			all = append(all, word)
		}
	}
	for _, flag := range []struct {
		is   bool
		word string
	}{{n.More, "more"}, {n.Fewer, "fewer"}} {
		if flag.is {
			all = append(all, flag.word)
		}
	}
	return strings.Join(all, " ")
}

// TestNetworksTrouble: what could not be asked is said, wherever it is, and is not "nobody".
func TestNetworksTrouble(t *testing.T) {
	zone := networksZone + "x TXT \"v=spf1 include:none.example.com mx:m.example.com include:inner.example.com -all\"\n"
	for _, tt := range []struct {
		why, name string
		want      string
	}{
		{"the policy itself", "x.example.com", "temporary"},
		{"an include's, beside one that has none", "inner.example.com", "192.0.2.1/32 2001:db8::1/128 temporary"},
		{"an MX host's addresses", "h.example.com", "192.0.2.0/25 temporary"},
	} {
		w := world(t, zone)
		r := dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
			if q.Name == dns.MustName(tt.name) {
				return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
			}
			return w.Resolve(ctx, q)
		})
		if got := NetworksOf(t.Context(), r, "x.example.com"); got.words() != tt.want {
			t.Errorf("%s: got %q, want %q", tt.why, got.words(), tt.want)
		}
	}
	if got := NetworksOf(t.Context(), world(t, ""), "gone.example.com"); got.words() != "none" {
		t.Errorf("without a policy: %q, %v", got.words(), got.Err)
	}
	synctest.Test(t, func(t *testing.T) { // a server that never answers is not waited for for ever
		stuck := dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
			<-ctx.Done()
			return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
		})
		began := time.Now()
		if got := NetworksOf(t.Context(), stuck, "example.com"); !errors.Is(got.Err, ErrTemporary) || time.Since(began) != maxSurveyTime {
			t.Errorf("%v after %s", got.Err, time.Since(began))
		}
	})
}

// TestNetworksOfOneFamily: a host with addresses of one family may have others, of which nothing was heard.
func TestNetworksOfOneFamily(t *testing.T) {
	for _, record := range []string{"a:h.example.com", "mx:m.example.com"} {
		for _, family := range []dns.Type{dns.TypeA, dns.TypeAAAA} {
			w := world(t, networksZone+"x TXT \"v=spf1 "+record+" -all\"\n")
			r := dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
				if q.Type == family {
					return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
				}
				return w.Resolve(ctx, q)
			})
			if got := NetworksOf(t.Context(), r, "x.example.com"); !errors.Is(got.Err, ErrTemporary) || len(got.Set.Prefixes()) != 1 {
				t.Errorf("%s without an answer for %s: %q, %v", record, family, got.words(), got.Err)
			}
			if err := Survey(t.Context(), r, "x.example.com").Undetermined(); err != nil { // for a receiver one may do
				t.Errorf("%s without an answer for %s: %v", record, family, err)
			}
		}
	}
}

// TestNetworksLimitRedirect: a redirect behind the last look-up that is made is left out, and said to be.
func TestNetworksLimitRedirect(t *testing.T) {
	zone, record := networksZone, "v=spf1 "
	for i := range 10 {
		zone += fmt.Sprintf("y%d TXT \"v=spf1%s\"\n", i, strings.Repeat(" a:h.example.com", maxSurveyed/10-1))
		record += fmt.Sprintf("include:y%d.example.com ", i)
	}
	r := world(t, zone+"x TXT \""+record+"redirect=inner.example.com\"\n")
	if got := NetworksOf(t.Context(), r, "x.example.com"); !errors.Is(got.Err, ErrPermanent) || !strings.Contains(got.Err.Error(), "more than") {
		t.Errorf("%q, %v", got.words(), got.Err)
	}
}

// TestNetworksLimits: a policy of a stranger costs so much and no more, and what is left out is said.
func TestNetworksLimits(t *testing.T) {
	var hosts, networks, many strings.Builder
	for i := range 11 {
		fmt.Fprintf(&many, "mx:m%d.example.com ", i)
		for j := range 10 {
			fmt.Fprintf(&hosts, "m%d MX %d h\n", i, j)
		}
	}
	for i := range maxNetworks + 1 {
		fmt.Fprintf(&networks, "ip4:10.%d.%d.1 ", i/256, i%256)
	}
	var asked atomic.Int64 // both families at once
	w := world(t, networksZone+hosts.String())
	r := dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
		if q.Name == dns.MustName("h.example.com") {
			asked.Add(1)
		}
		return w.Resolve(ctx, q)
	})
	for record, want := range map[string]error{many.String(): ErrPermanent, networks.String(): ErrTooLarge} {
		record := "v=spf1 " + record + "-all"
		r := dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
			if q.Name != dns.MustName("x.example.com") {
				return r.Resolve(ctx, q)
			}
			var parts []string
			for _, part := range Split(record) {
				parts = append(parts, quoted(part))
			}
			rr, err := dns.ParseRecord(q.Name, "TXT "+strings.Join(parts, " "))
			return dns.Answer{Answer: []dns.RR{rr}}, err
		})
		if got := NetworksOf(t.Context(), r, "x.example.com"); !errors.Is(got.Err, want) || !strings.Contains(got.Err.Error(), "more than") {
			t.Errorf("%.40s: %v", record, got.Err)
		}
	}
	if asked.Load() > 2*maxAsked {
		t.Errorf("%d questions for hosts", asked.Load())
	}
}

// TestWritten: the networks that stand in records at names of ours, and what they include.
func TestWritten(t *testing.T) {
	const zone = `
x TXT "v=spf1 ip4:192.0.2.7/24 -ip4:203.0.113.0/24 a:h.example.com include:flat.example.com include:theirs.example.com -all ip4:203.0.113.9"
flat TXT "v=spf1 ip6:2001:db8::/32 redirect=more.example.com"
more TXT "v=spf1 ip4:198.51.100.0/24 -all"
theirs TXT "v=spf1 ip4:203.0.113.77 -all"
h A 192.0.2.1
`
	tree := Survey(t.Context(), world(t, zone), "x.example.com")
	got := fmt.Sprint(tree.Written(func(n dns.Name) bool { return n != dns.MustName("theirs.example.com") }))
	if want := "[192.0.2.0/24 2001:db8::/32 198.51.100.0/24]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for name, want := range map[string]bool{"theirs.example.com": true, "more.example.com": true, "x.example.com": false} {
		if tree.Includes(dns.MustName(name)) != want {
			t.Errorf("includes %s: want %v", name, want)
		}
	}
}
