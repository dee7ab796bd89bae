package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/probe/probetest"
)

const (
	at   = "192.0.2.25"
	host = "mx1.example.com"
)

// visit goes to one host.
func visitTo(t *testing.T, h *probetest.Host, p Prober) Session {
	t.Helper()
	p.Hello, p.Dial = "check.example.net", probetest.Net{at: h}.Dial
	return p.Visit(t.Context(), Target{Host: dns.MustName(host), Addr: netip.MustParseAddr(at), Domain: dns.MustName("example.com")})
}

func says(at, what string) map[string]string { return map[string]string{at: what} }

// TestSession goes to hosts that behave at each stage in every way, and wants to know where the
// session ended, and with what.
func TestSession(t *testing.T) {
	var ca *probetest.Authority
	good := func() *tls.Config { return ca.Server(60*24*time.Hour, host) }
	for _, row := range []struct {
		why  string
		host func() *probetest.Host
		want string // "stage trouble code", of the end
		said string // the commands
	}{
		{"a host without TLS", func() *probetest.Host { return &probetest.Host{} }, "quit  221", "EHLO MAIL RCPT RSET QUIT"},
		{"a host with TLS", func() *probetest.Host { return &probetest.Host{TLS: good()} }, "quit  221", "EHLO STARTTLS EHLO MAIL RCPT RSET QUIT"},
		{"refused", func() *probetest.Host { return &probetest.Host{Err: syscall.ECONNREFUSED} }, "connect refused 0", ""},
		{"reset", func() *probetest.Host { return &probetest.Host{Err: syscall.ECONNRESET} }, "connect refused 0", ""},
		{"silence", func() *probetest.Host { return &probetest.Host{Err: probetest.ErrLost} }, "connect timeout 0", ""},
		{"no way", func() *probetest.Host { return &probetest.Host{Err: syscall.ENETUNREACH} }, "connect no-way 0", ""},
		{"a router knows no host there", func() *probetest.Host { return &probetest.Host{Err: syscall.EHOSTUNREACH} }, "connect unreachable 0", ""},
		{"no socket", func() *probetest.Host { return &probetest.Host{Err: syscall.EMFILE} }, "connect no-way 0", ""},
		{"421", func() *probetest.Host { return &probetest.Host{Says: says("greeting", "421 4.3.2 too busy")} }, "greeting  421", "QUIT"},
		{"554", func() *probetest.Host { return &probetest.Host{Says: says("greeting", "554 no mail here")} }, "greeting  554", "QUIT"},
		{"no greeting", func() *probetest.Host { return &probetest.Host{Says: says("greeting", probetest.Hang)} }, "greeting timeout 0", ""},
		{"hangs up at once", func() *probetest.Host { return &probetest.Host{Says: says("greeting", probetest.Drop)} }, "greeting closed 0", ""},
		{"another protocol", func() *probetest.Host { return &probetest.Host{Says: says("greeting", "SSH-2.0-OpenSSH")} }, "greeting protocol 0", ""},
		{"a line of 10 MB", func() *probetest.Host {
			return &probetest.Host{Says: says("greeting", "220 "+strings.Repeat("x", 10<<20))}
		}, "greeting protocol 0", ""},
		{"a reply without end", func() *probetest.Host {
			return &probetest.Host{Says: says("greeting", strings.Repeat("220-more\r\n", 1000)+"220 end")}
		}, "greeting protocol 0", ""},
		{"a greeting that is none", func() *probetest.Host { return &probetest.Host{Says: says("greeting", "250 hello")} }, "greeting  250", "QUIT"},
		{"no EHLO", func() *probetest.Host { return &probetest.Host{Says: says("EHLO", "502 what?")} }, "quit  221", "EHLO HELO MAIL RCPT RSET QUIT"},
		{"no EHLO and no HELO", func() *probetest.Host {
			return &probetest.Host{Says: map[string]string{"EHLO": "550 no", "HELO": "550 no"}}
		}, "hello  550", "EHLO HELO QUIT"},
		{"not now", func() *probetest.Host { return &probetest.Host{Says: says("EHLO", "421 later")} }, "hello  421", "EHLO QUIT"},
		{"hangs up at EHLO", func() *probetest.Host { return &probetest.Host{Says: says("EHLO", probetest.Drop)} }, "hello closed 0", "EHLO"},
		{"STARTTLS not now", func() *probetest.Host { return &probetest.Host{TLS: good(), Says: says("STARTTLS", "454 no TLS")} }, "quit  221", "EHLO STARTTLS MAIL RCPT RSET QUIT"},
		{"hangs up at STARTTLS", func() *probetest.Host {
			return &probetest.Host{TLS: good(), Says: says("STARTTLS", probetest.Drop)}
		}, "starttls closed 0", "EHLO STARTTLS"},
		{"no TLS behind STARTTLS", func() *probetest.Host { return &probetest.Host{TLS: good(), Garbled: true} }, "tls tls 0", "EHLO STARTTLS"},
		{"no certificate behind STARTTLS", func() *probetest.Host { return &probetest.Host{TLS: &tls.Config{}} }, "tls tls 0", "EHLO STARTTLS"},
		{"goes on in plain text", func() *probetest.Host {
			return &probetest.Host{TLS: good(), Says: says("STARTTLS", "220 go\r\n250 more")}
		}, "tls tls 0", "EHLO STARTTLS"},
		{"hangs up under TLS", func() *probetest.Host { return &probetest.Host{TLS: good(), Says: says("EHLO2", probetest.Drop)} }, "hello closed 0", "EHLO STARTTLS EHLO"},
		{"MAIL is refused", func() *probetest.Host { return &probetest.Host{Says: says("MAIL", "550 no")} }, "quit  221", "EHLO MAIL QUIT"},
		{"hangs up at MAIL", func() *probetest.Host { return &probetest.Host{Says: says("MAIL", probetest.Drop)} }, "mail closed 0", "EHLO MAIL"},
		{"hangs up at RCPT", func() *probetest.Host { return &probetest.Host{Says: says("RCPT", probetest.Drop)} }, "rcpt closed 0", "EHLO MAIL RCPT"},
		{"hangs up at RSET", func() *probetest.Host { return &probetest.Host{Says: says("RSET", probetest.Drop)} }, "rset closed 0", "EHLO MAIL RCPT RSET"},
		{"silence at QUIT", func() *probetest.Host { return &probetest.Host{Says: says("QUIT", probetest.Hang)} }, "quit timeout 0", "EHLO MAIL RCPT RSET QUIT"},
	} {
		t.Run(row.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca = probetest.NewAuthority(t)
				h := row.host()
				s := visitTo(t, h, Prober{})
				end := s.End()
				if got := strings.Join([]string{string(end.Stage), string(end.Trouble), end.Reply()[:min(3, len(end.Reply()))]}, " "); strings.TrimSpace(got) != strings.TrimSuffix(row.want, " 0") {
					t.Errorf("ended at %q, want %q\n%s", got, row.want, strings.Join(s.Transcript(), "\n"))
				}
				synctest.Wait()
				var verbs []string
				for _, line := range h.Said() {
					verb, _, _ := strings.Cut(line, " ")
					verbs = append(verbs, verb)
				}
				if got := strings.Join(verbs, " "); got != row.said {
					t.Errorf("said %s, want %s", got, row.said)
				}
				if limit := ms(Limit + time.Second); s.TookMS > limit {
					t.Errorf("it took %v ms", s.TookMS)
				}
				back(t, s)
			})
		})
	}
}

// back: what is written down is what is read again, key by key.
func back(t *testing.T, s Session) {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var again Session
	if err := json.Unmarshal(text, &again); err != nil || !reflect.DeepEqual(s, again) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, again, s)
	}
}

// TestCertificates: none ends a session; what is wrong with each is said afterwards.
func TestCertificates(t *testing.T) {
	const day = 24 * time.Hour
	for _, row := range []struct {
		why                string
		turn               func(ca *probetest.Authority) *tls.Config
		known              bool // the authority
		old                bool
		trust              Trust
		name, dates, valid bool
	}{
		{"a good one", func(ca *probetest.Authority) *tls.Config { return ca.Server(60*day, host) }, true, false, Trusted, true, true, true},
		{"a wildcard", func(ca *probetest.Authority) *tls.Config { return ca.Server(60*day, "*.example.com") }, true, false, Trusted, true, true, true},
		{"another name", func(ca *probetest.Authority) *tls.Config { return ca.Server(60*day, "www.example.com") }, true, false, Trusted, false, true, false},
		{"no name", func(ca *probetest.Authority) *tls.Config { return ca.Server(60 * day) }, true, false, Trusted, false, true, false},
		{"ended", func(ca *probetest.Authority) *tls.Config { return ca.Server(-day, host) }, true, false, Trusted, true, false, false},
		{"begins tomorrow", func(ca *probetest.Authority) *tls.Config { return ca.Server(91*day, host) }, true, false, Trusted, true, false, false},
		{"an issuer that nobody knows", func(ca *probetest.Authority) *tls.Config { return ca.Server(60*day, host) }, false, false, Untrusted, true, true, false},
		{"TLS 1.0", func(ca *probetest.Authority) *tls.Config {
			c := ca.Server(60*day, host)
			c.MaxVersion = tls.VersionTLS10
			return c
		}, true, true, Trusted, true, true, true},
	} {
		t.Run(row.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := probetest.NewAuthority(t)
				p := Prober{Roots: probetest.NewAuthority(t).Roots()}
				if row.known {
					p.Roots = ca.Roots()
				}
				s := visitTo(t, &probetest.Host{TLS: row.turn(ca)}, p)
				if s.TLS == nil || s.End().Stage != mail.StageQuit {
					t.Fatalf("no TLS: %s", s.TLSFault())
				}
				name := dns.MustName(host)
				if got := s.TLS; got.Old() != row.old || got.Trust != row.trust || (got.Name(name) == nil) != row.name || (got.Dates(s.Began) == nil) != row.dates || (got.PKIX(name, s.Began) == nil) != row.valid {
					t.Errorf("%s, old %t, trust %s (%s), name %v, dates %v, valid %v", got.Version, got.Old(), got.Trust, got.TrustError, got.Name(name), got.Dates(s.Began), got.PKIX(name, s.Began))
				}
				back(t, s)
			})
		})
	}
}

// TestLongChain: of a chain, so many certificates are kept and no more.
func TestLongChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := probetest.NewAuthority(t)
		config := ca.Server(60*24*time.Hour, host)
		for range 2 * maxChain {
			config.Certificates[0].Certificate = append(config.Certificates[0].Certificate, ca.Cert().Raw)
		}
		s := visitTo(t, &probetest.Host{TLS: config}, Prober{Roots: ca.Roots()})
		if s.TLS == nil || len(s.TLS.Chain) != maxChain || s.TLS.Trust != Trusted {
			t.Errorf("%s", strings.Join(s.Transcript(), "\n"))
		}
	})
}

// TestRecognised: what a host does on purpose is told from what it cannot help.
func TestRecognised(t *testing.T) {
	slow := func(at string, d time.Duration) map[string]time.Duration { return map[string]time.Duration{at: d} }
	for _, row := range []struct {
		why  string
		host *probetest.Host
		want string
	}{
		{"nothing", &probetest.Host{}, ""},
		{"a second of thought", &probetest.Host{Slow: slow("greeting", time.Second)}, ""},
		{"greylisting", &probetest.Host{Says: says("RCPT", "451 4.7.1 Greylisted, see http://postgrey.example.org/")}, "deferred at rcpt, grey"},
		{"greylisting at MAIL", &probetest.Host{Says: says("MAIL", "450 4.2.0 Graylisting in action")}, "deferred at mail, grey"},
		{"busy", &probetest.Host{Says: says("greeting", "421 too many connections")}, "deferred at greeting"},
		{"a soft refusal", &probetest.Host{Says: says("RCPT", "454 4.7.1 Relay access denied")}, ""},
		{"STARTTLS not now", &probetest.Host{Says: says("STARTTLS", "454 later")}, ""},
		{"an open relay", &probetest.Host{Says: says("RCPT", "250 ok")}, "relays"},
		{"octet by octet", &probetest.Host{Pace: time.Second}, "tarpit"},
		{"octet by octet, until we give up", &probetest.Host{Pace: 20 * time.Second}, "tarpit"},
		{"a teaser", &probetest.Host{Says: says("greeting", "220-mx1 stay on\r\n220 mx1 ESMTP"), Pace: 200 * time.Millisecond}, "tarpit"},
		{"a pause before the greeting", &probetest.Host{Slow: slow("greeting", 20*time.Second)}, "tarpit"},
		{"slow at every step", &probetest.Host{Slow: map[string]time.Duration{"greeting": 12 * time.Second, "EHLO": 12 * time.Second}}, "slow"},
		{"slow at RCPT", &probetest.Host{Slow: slow("RCPT", 15*time.Second)}, "slow"},
		{"silent", &probetest.Host{Says: says("greeting", probetest.Hang)}, "slow"},
	} {
		t.Run(row.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := visitTo(t, row.host, Prober{})
				time.Sleep(time.Minute) // for the host to see that we have gone
				var got []string
				if step, grey, ok := s.Deferred(); ok {
					word := "deferred at " + string(step.Stage)
					if grey {
						word += ", grey"
					}
					got = append(got, word)
				}
				if relays, _ := s.Relays(); relays {
					got = append(got, "relays")
				}
				if s.Tarpit() != "" {
					got = append(got, "tarpit")
				}
				if _, ok := s.Slow(); ok {
					got = append(got, "slow")
				}
				if words := strings.Join(got, "; "); words != row.want {
					t.Errorf("got %q, want %q\n%s", words, row.want, strings.Join(s.Transcript(), "\n"))
				}
				if slices.ContainsFunc(row.host.Said(), func(l string) bool { return strings.HasPrefix(l, "DATA") }) {
					t.Error("DATA was said")
				}
			})
		})
	}
}

// TestStopped: when we are told to stop, it is nobody's silence.
func TestStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		p := Prober{Hello: "check.example.net", Dial: probetest.Net{at: {Says: says("EHLO", probetest.Hang)}}.Dial}
		s := p.Visit(ctx, Target{Host: dns.MustName(host), Addr: netip.MustParseAddr(at)})
		if end := s.End(); end.Stage != mail.StageHello || end.Trouble != Stopped || s.TookMS > 2000 {
			t.Errorf("%+v", end)
		}
	})
}

// TestVisits: an address that stands twice is visited once.
func TestVisits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &probetest.Host{}
		p := Prober{Hello: "check.example.net", Dial: probetest.Net{at: h}.Dial}
		target := Target{Host: dns.MustName(host), Addr: netip.MustParseAddr(at)}
		got := p.Visits(t.Context(), []Target{target, {Host: target.Host, Addr: netip.MustParseAddr("192.0.2.26")}, target})
		if len(got) != 3 || !got[0].Listens() || got[1].Connected() || !reflect.DeepEqual(got[0], got[2]) || len(h.Said()) != 5 {
			t.Errorf("%v, %v", got, h.Said())
		}
	})
}

// TestNames: an address of several names shows each its certificate, one after the other, and is
// not visited by very many.
func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := probetest.NewAuthority(t)
		names := []string{"mx1.example.com", "mx2.example.com", "mx3.example.com", "mx4.example.com"}
		h := &probetest.Host{TLS: ca.Chosen(60*24*time.Hour, names...)}
		p := Prober{Hello: "check.example.net", Dial: probetest.Net{at: h}.Dial, Roots: ca.Roots()}
		var targets []Target
		for _, name := range append(names, names[1]) {
			targets = append(targets, Target{Host: dns.MustName(name), Addr: netip.MustParseAddr(at)})
		}
		got := p.Visits(t.Context(), targets)
		for i, s := range got {
			switch {
			case s.Host != targets[i].Host:
				t.Errorf("%s: it is %s's", targets[i].Host, s.Host)
			case i == maxNames && (s.TLS != nil || s.End().Trouble != Stopped):
				t.Errorf("%s: %+v", s.Host, s.End())
			case i != maxNames && (s.TLS == nil || s.TLS.PKIX(s.Host, s.Began) != nil):
				t.Errorf("%s: %v", s.Host, s.Transcript())
			}
		}
		said := strings.Join(h.Said(), " ")
		if strings.Count(said, "STARTTLS") != maxNames || strings.Count(said, "MAIL") != 1 || strings.Count(said, "QUIT") != maxNames {
			t.Errorf("%s", said)
		}
		plain := &probetest.Host{}
		p.Dial = probetest.Net{at: plain}.Dial
		got = p.Visits(t.Context(), targets)
		if !got[1].Listens() || got[1].Host != targets[1].Host || strings.Count(strings.Join(plain.Said(), " "), "EHLO") != 1 {
			t.Errorf("%+v, %v", got[1], plain.Said())
		}
	})
}

// TestForeign: nobody is asked whether he takes mail for what may be his own domain.
func TestForeign(t *testing.T) {
	for names, want := range map[[2]string]string{
		{"mx1.example.com", "example.com"}: "example.org",
		{"mx1.example.com", "example.org"}: "example.net",
		{"mx1.example.org", "example.com"}: "example.net",
		{"mx1.example.org", "example.net"}: "example.com",
	} {
		if got := foreign(dns.MustName(names[0]), dns.MustName(names[1])); !strings.HasSuffix(got, "@"+want) {
			t.Errorf("%v: %s", names, got)
		}
	}
	if foreign(dns.Name{}, dns.Name{}) == "" {
		t.Error("an address literal")
	}
}

// TestBeside: a host relays for its own network, and that makes it no open relay.
func TestBeside(t *testing.T) {
	for _, row := range []struct {
		here, there string
		want        bool
	}{
		{"203.0.113.1", "192.0.2.25", false},
		{"192.0.2.1", "192.0.2.25", true},
		{"127.0.0.1", "127.0.0.25", true},
		{"::1", "2001:db8::25", true},
		{"2001:db8::1", "2001:db8::25", true},
		{"2001:db8:0:1::1", "2001:db8::25", false},
		{"10.0.0.1", "192.0.2.25", true}, // behind NAT, which may be the host's own
		{"192.168.0.1", "192.0.2.25", true},
		{"100.64.0.1", "192.0.2.25", true},
		{"fd00::1", "2001:db8::25", true},
	} {
		s := Session{Local: netip.MustParseAddr(row.here), Address: netip.AddrPortFrom(netip.MustParseAddr(row.there), 25)}
		if s.Beside() != row.want {
			t.Errorf("%+v", row)
		}
	}
	if (Session{Address: netip.MustParseAddrPort("192.0.2.25:25")}).Beside() {
		t.Error("nobody knows where we are")
	}
}

// TestNoRoots: who knows no authority does not say that a host's certificate has none.
func TestNoRoots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, other := probetest.NewAuthority(t), probetest.NewAuthority(t)
		h := &probetest.Host{TLS: ca.Server(60*24*time.Hour, "mx1.example.com")}
		for _, tt := range []struct {
			roots *x509.CertPool
			want  Trust
		}{{ca.Roots(), Trusted}, {other.Roots(), Untrusted}, {x509.NewCertPool(), NoRoots}} {
			p := Prober{Hello: "check.example.net", Dial: probetest.Net{at: h}.Dial, Roots: tt.roots}
			s := p.Visit(t.Context(), Target{Host: dns.MustName("mx1.example.com"), Addr: netip.MustParseAddr(at)})
			if s.TLS == nil || s.TLS.Trust != tt.want {
				t.Errorf("expected %s, got %+v", tt.want, s.TLS)
			}
		}
	})
}
