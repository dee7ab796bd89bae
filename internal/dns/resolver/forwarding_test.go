package resolver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
	"mxward/internal/dns/dnstest"
)

// Each row is what forwarders make of a signed answer: one that can be had is had.
func TestForwardBogus(t *testing.T) {
	for _, tt := range []struct {
		why          string
		first, other string // what they do: "good", "broken", "strict" (SERVFAIL unless CD=1), "cd" (broken unless CD=1)
		fine         bool
	}{
		{"the second has what the first has spoilt", "broken", "good", true},
		{"the cache of the only one is bad: CD=1 goes round it", "cd", "", true},
		{"it judges otherwise: CD=1 gives the records for our own judgement", "strict", "", true},
		{"all have spoilt it", "broken", "broken", false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSigned(t)
				own := s.Resolver
				serve := func(at, how string) {
					s.Set(at, dnstest.Host{Recursion: true, Resolver: dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
						cd := q.CheckingDisabled
						q.CheckingDisabled = true
						a, err := own.Resolve(ctx, q)
						if q.Type != dns.TypeA || how == "good" {
							return a, err
						}
						if how == "strict" && !cd {
							return dns.Answer{Rcode: dns.ServFail}, nil
						}
						if how == "broken" || how == "cd" && !cd {
							a.Answer = withoutTypes(cloned(a.Answer), typeRRSIG)
						}
						return a, err
					})})
				}
				servers := []netip.AddrPort{at("192.0.2.70:53")}
				serve("192.0.2.70", tt.first)
				if tt.other != "" {
					servers = append(servers, at("192.0.2.71:53"))
					serve("192.0.2.71", tt.other)
				}
				s.Resolver = &Resolver{Dial: s.Dial, TrustAnchors: own.TrustAnchors, Forwards: []Forward{{Zone: dns.Root, Servers: servers}}}
				if tt.fine {
					s.secure("mx.example.org A", true)
				} else {
					s.bogus("mx.example.org A", dnssec.CodeSignaturesMissing, "no signature")
				}
				if n := len(s.Asked("192.0.2.70")) + len(s.Asked("192.0.2.71")); n > 16 {
					t.Errorf("%d packets to forwarders", n)
				}
			})
		})
	}
}

// A forwarder that says FORMERR is remembered as one without EDNS only once it has done
// better without: one bad moment must not cost an hour without signatures.
func TestForwardEDNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var withEDNS []bool
		bad := true
		r := &Resolver{
			Forwards: []Forward{{Zone: dns.Root, Servers: []netip.AddrPort{at("192.0.2.70:53")}}}, StaleFor: -1,
			Dial: func(context.Context, string, string) (net.Conn, error) {
				return newPeer(func(q []byte) [][]byte {
					var m wire.Msg
					if err := m.Unpack(q); err != nil {
						t.Error(err)
					}
					withEDNS = append(withEDNS, m.IsEdns0() != nil)
					if bad {
						return [][]byte{pack(new(wire.Msg).SetRcodeFormatError(&m))}
					}
					return [][]byte{answerTo(q, m.Question[0].Name+" 60 A 192.0.2.80")}
				}), nil
			},
		}
		w := &world{t: t, Resolver: r}
		w.wantTrouble("a.example A", dns.ServerFailed)
		bad = false
		time.Sleep(time.Minute)
		w.want("a.example A", dns.NoError, "A 192.0.2.80")
		if fmt.Sprint(withEDNS) != "[true false true]" {
			t.Errorf("EDNS in the questions: %v", withEDNS)
		}
	})
}
