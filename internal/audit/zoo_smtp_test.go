package audit

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/zone"
	"mxward/internal/mail"
	"mxward/internal/mailauth/tlsa"
	"mxward/internal/probe"
	"mxward/internal/probe/probetest"
)

// Where the zoo's MX hosts are.
const (
	mx1At   = "192.0.2.25"
	mx1AtV6 = "2001:db8::25"
	mx2At   = "198.51.100.25"
	otherAt = "203.0.113.25" // hosts that are known to answer
	thirdAt = "203.0.113.26"
)

const month = 30 * 24 * time.Hour

// zooControls are domains whose hosts are somewhere else.
const zooControls = `
control 300 MX 10 mx.control
mx.control 300 A 203.0.113.25
second 300 MX 10 mx.second
mx.second 300 A 203.0.113.26
`

// mailHosts are the MX hosts without fault, but for what turn does.
func mailHosts(turn func(*probetest.Authority, probetest.Net)) func(*probetest.Authority) probetest.Net {
	return func(ca *probetest.Authority) probetest.Net {
		mx1 := func() *probetest.Host { return &probetest.Host{TLS: ca.Server(2*month, "mx1.example.com")} }
		n := probetest.Net{mx1At: mx1(), mx1AtV6: mx1(), mx2At: {Name: "mx2.example.com", TLS: ca.Server(2*month, "mx2.example.com")}}
		if turn != nil {
			turn(ca, n)
		}
		return n
	}
}

// second is a domain whose second MX host is another.
func second(why, fails string, h func(ca *probetest.Authority) *probetest.Host) animal {
	return animal{why: why, fails: fails, smtp: mailHosts(func(ca *probetest.Authority, n probetest.Net) {
		n[mx2At] = h(ca)
		if n[mx2At].Name == "" {
			n[mx2At].Name = "mx2.example.com"
		}
	})}
}

// lost makes hosts that nobody can connect to.
func lost(err error, places ...string) func(*probetest.Authority) probetest.Net {
	return mailHosts(func(_ *probetest.Authority, n probetest.Net) {
		for _, at := range places {
			n[at] = &probetest.Host{Err: err}
		}
	})
}

func smtpZoo() []animal {
	says := func(at, what string) map[string]string { return map[string]string{at: what} }
	with := func(a animal, turn func(*animal)) animal { turn(&a); return a }
	good := func(ca *probetest.Authority) *tls.Config { return ca.Server(2*month, "mx2.example.com") }
	plain := func(h *probetest.Host) func(*probetest.Authority) *probetest.Host {
		return func(ca *probetest.Authority) *probetest.Host {
			h.TLS = good(ca)
			return h
		}
	}
	cert := func(turn func(ca *probetest.Authority) *tls.Config) func(*probetest.Authority) *probetest.Host {
		return func(ca *probetest.Authority) *probetest.Host { return &probetest.Host{TLS: turn(ca)} }
	}
	enforced := func(a animal) animal {
		sts := stsIs(a.why, "v=STSv1; id=1;", policy("version: STSv1\nmode: enforce\nmx: mx1.example.com\nmx: mx2.example.com\nmax_age: 2419200\n"), a.fails)
		sts.smtp, sts.blamed = a.smtp, a.blamed
		return sts
	}
	old := func(ca *probetest.Authority) *tls.Config {
		c := good(ca)
		c.MaxVersion = tls.VersionTLS11
		return c
	}
	all := []string{mx1At, mx1AtV6, mx2At}
	return []animal{
		{why: "MX hosts without fault", smtp: mailHosts(nil)},
		enforced(animal{why: "MX hosts without fault, and MTA-STS", smtp: mailHosts(nil)}),

		{why: "one address of several refuses", fails: "smtp.unreachable", blamed: "smtp.unreachable@mx-host@" + mx1AtV6, smtp: lost(syscall.ECONNREFUSED, mx1AtV6)},
		{why: "one MX host is silent", fails: "smtp.unreachable", blamed: "smtp.unreachable@mx-host@" + mx2At, smtp: lost(probetest.ErrLost, mx2At)},
		{why: "no MX host answers, and others do", fails: "smtp.unreachable", controls: "control.net second.net", net: zooControls, smtp: mailHosts(func(_ *probetest.Authority, n probetest.Net) {
			for _, at := range all {
				n[at] = &probetest.Host{Err: probetest.ErrLost}
			}
			n[otherAt] = &probetest.Host{}
		}), blamed: "smtp.unreachable@mx-host@" + mx2At, unknown: "smtp.unreachable@local-network@" + mx1AtV6 + " smtp.open-relay@mx-host"},
		{why: "every MX host refuses", fails: "smtp.unreachable", smtp: lost(syscall.ECONNREFUSED, all...), blamed: "smtp.unreachable@mx-host@" + mx2At, unknown: "net.port25-blocked@local-network"},
		{why: "this network lets nothing out to port 25", fails: "net.port25-blocked", controls: "control.net second.net", net: zooControls, smtp: lost(probetest.ErrLost, all...),
			blamed: "net.port25-blocked@local-network", unknown: "smtp.unreachable@local-network@" + mx1At + " smtp.unreachable@local-network@" + mx2At + " smtp.open-relay@local-network"},
		{why: "this network refuses whatever goes out to port 25", fails: "net.port25-blocked", controls: "control.net second.net", net: zooControls, smtp: lost(syscall.ECONNREFUSED, append(all, otherAt, thirdAt)...),
			blamed: "net.port25-blocked@local-network", unknown: "smtp.unreachable@local-network@" + mx1At},
		{why: "no MX host answers, and nobody is there to compare with", smtp: lost(probetest.ErrLost, all...), unknown: "net.port25-blocked@local-network smtp.unreachable@local-network@" + mx1At},
		{why: "no IPv6 here", smtp: lost(syscall.ENETUNREACH, mx1AtV6), unknown: "smtp.unreachable@local-network@" + mx1AtV6},
		{why: "no way to one host, and to others there is", smtp: lost(syscall.ENETUNREACH, mx2At), unknown: "smtp.unreachable@unknown@" + mx2At},
		{why: "a router knows no such host, and leads to others", fails: "smtp.unreachable", smtp: lost(syscall.EHOSTUNREACH, mx2At), blamed: "smtp.unreachable@mx-host@" + mx2At},
		{why: "no router leads to any MX host", smtp: lost(syscall.EHOSTUNREACH, all...), unknown: "smtp.unreachable@local-network@" + mx2At},
		{why: "this host refuses us", smtp: second("", "", plain(&probetest.Host{Says: says("greeting", "554 5.7.1 you are on a list")})).smtp, unknown: "smtp.unreachable@unknown@" + mx2At + " smtp.open-relay@unknown@" + mx2At},

		with(second("no greeting", "", plain(&probetest.Host{Says: says("greeting", probetest.Drop)})), func(a *animal) { a.unknown = "smtp.banner-missing@unknown@" + mx2At }),
		second("another protocol", "smtp.banner-missing", plain(&probetest.Host{Says: says("greeting", "SSH-2.0-OpenSSH_10.0")})),
		with(second("a greeting that does not come", "smtp.slow", plain(&probetest.Host{Says: says("greeting", probetest.Hang)})), func(a *animal) { a.unknown = "smtp.banner-missing@mx-host@" + mx2At }),
		second("slow at every step", "smtp.slow", plain(&probetest.Host{Slow: map[string]time.Duration{"EHLO": 11 * time.Second, "MAIL": 3 * time.Second}})),
		second("octet by octet", "smtp.tarpit", plain(&probetest.Host{Pace: 100 * time.Millisecond})),
		second("another name in the greeting", "smtp.banner-mismatch", plain(&probetest.Host{Says: says("greeting", "220 ns1.example.com ESMTP")})),
		second("a name without an address", "smtp.helo-unresolvable smtp.banner-mismatch smtp.helo-ptr-mismatch", plain(&probetest.Host{Name: "gone.example.com"})),
		second("a name that is none", "smtp.helo-unresolvable smtp.banner-mismatch", plain(&probetest.Host{Name: "localhost"})),
		second("a name that is not its address's", "smtp.helo-ptr-mismatch smtp.banner-mismatch", plain(&probetest.Host{Name: "ns1.example.com"})),
		second("its address for a name", "smtp.banner-mismatch", plain(&probetest.Host{Name: "[198.51.100.25]"})),

		second("no STARTTLS", "smtp.starttls-missing", func(*probetest.Authority) *probetest.Host { return &probetest.Host{} }),
		with(second("STARTTLS below other characters", "", plain(&probetest.Host{Says: says("EHLO", "250-mx2.example.com\r\n250 XXXXXXXA")})), func(a *animal) { a.unknown = "smtp.starttls-missing@local-network@" + mx2At }),
		with(second("no STARTTLS, and a greeting of stars", "smtp.banner-mismatch", func(*probetest.Authority) *probetest.Host {
			return &probetest.Host{Says: says("greeting", "220 *****************2******0*0*")}
		}), func(a *animal) { a.unknown = "smtp.starttls-missing@local-network@" + mx2At }),
		second("STARTTLS that does not work", "smtp.starttls-missing", plain(&probetest.Host{Garbled: true})),
		second("STARTTLS that is refused", "smtp.starttls-missing", plain(&probetest.Host{Says: says("STARTTLS", "454 4.7.0 no TLS")})),
		with(second("no cipher suite in common", "", cert(func(ca *probetest.Authority) *tls.Config {
			c := good(ca) // its key is of no use to the suite
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA}
			return c
		})), func(a *animal) { a.unknown = "smtp.starttls-missing@unknown@" + mx2At }),
		with(second("a certificate that Go does not read", "", cert(func(ca *probetest.Authority) *tls.Config {
			c := good(ca)
			c.Certificates[0].Certificate = [][]byte{[]byte("unread")}
			return c
		})), func(a *animal) { a.unknown = "smtp.starttls-missing@unknown@" + mx2At }),
		second("TLS 1.1", "smtp.tls-old", cert(old)),
		second("a certificate for another name", "smtp.cert-name", cert(func(ca *probetest.Authority) *tls.Config { return ca.Server(2*month, "www.example.com") })),
		second("a certificate that has ended", "smtp.cert-expired", cert(func(ca *probetest.Authority) *tls.Config { return ca.Server(-time.Hour, "mx2.example.com") })),
		second("a certificate that ends in a week", "smtp.cert-expiring", cert(func(ca *probetest.Authority) *tls.Config { return ca.Server(7*24*time.Hour, "mx2.example.com") })),
		second("a certificate without its issuer's", "smtp.cert-chain", func(ca *probetest.Authority) *probetest.Host {
			return &probetest.Host{TLS: ca.Stranger().Server(2*month, "mx2.example.com")}
		}),

		second("an open relay", "smtp.open-relay", plain(&probetest.Host{Says: says("RCPT", "250 2.1.5 ok")})),
		with(second("a trap that takes everything", "smtp.tarpit", plain(&probetest.Host{Pace: 100 * time.Millisecond, Says: says("RCPT", "250 ok")})), func(a *animal) { a.unknown = "smtp.open-relay@unknown@" + mx2At }),
		with(second("greylisting", "smtp.temp-reject", plain(&probetest.Host{Says: says("RCPT", "451 4.7.1 Greylisted, come back in a minute")})), func(a *animal) { a.unknown = "smtp.open-relay@unknown@" + mx2At }),
		second("busy", "smtp.temp-reject", plain(&probetest.Host{Says: says("greeting", "421 4.3.2 busy")})),

		pinned("TLSA records of the keys in use alone", "dane.rollover-unsafe", nil, bothTLSA(keyTLSA)),
		pinned("TLSA records of an authority", "", nil, authorityTLSA),
		pinned("a TLSA record of another key", "dane.mismatch", nil, func(_, mx1, _ *x509.Certificate) string {
			return bothTLSA(func(*x509.Certificate) string {
				return keyTLSA(mx1) + "\n_25._tcp.mx1 TLSA 3 1 1 " + strings.Repeat("ab", 32)
			})(nil, mx1, mx1)
		}),
		pinned("another name below a TLSA record's authority", "dane.name-mismatch smtp.cert-name", func(ca *probetest.Authority, n probetest.Net) { n[mx2At].TLS = ca.Server(2*month, "www.example.com") }, authorityTLSA),

		enforced(second("a certificate for another name, and MTA-STS", "smtp.cert-name", cert(func(ca *probetest.Authority) *tls.Config { return ca.Server(2*month, "www.example.com") }))),
		enforced(second("no STARTTLS, and MTA-STS", "smtp.starttls-missing", func(*probetest.Authority) *probetest.Host { return &probetest.Host{} })),
	}
}

// pinned is a signed domain whose hosts have these TLSA records. Both addresses of the first have
// one certificate.
func pinned(why, fails string, turn func(*probetest.Authority, probetest.Net), records func(ca, mx1, mx2 *x509.Certificate) string) animal {
	return animal{why: why, fails: fails, gone: "dnssec.insecure", signed: &zone.Signing{}, smtp: mailHosts(func(ca *probetest.Authority, n probetest.Net) {
		n[mx1AtV6].TLS = n[mx1At].TLS
		if turn != nil {
			turn(ca, n)
		}
	}), tlsa: func(ca *x509.Certificate, n probetest.Net) string {
		return records(ca, n[mx1At].TLS.Certificates[0].Leaf, n[mx2At].TLS.Certificates[0].Leaf)
	}}
}

func bothTLSA(record func(*x509.Certificate) string) func(_, mx1, mx2 *x509.Certificate) string {
	return func(_, mx1, mx2 *x509.Certificate) string {
		return "_25._tcp.mx1 TLSA " + record(mx1) + "\n_25._tcp.mx2 TLSA " + record(mx2) + "\n"
	}
}

func keyTLSA(c *x509.Certificate) string {
	return tlsa.Of(c, tlsa.DANEEE, tlsa.SPKI, tlsa.SHA256).String()
}

func authorityTLSA(ca, _, _ *x509.Certificate) string {
	one := tlsa.Of(ca, tlsa.DANETA, tlsa.SPKI, tlsa.SHA256).String()
	return bothTLSA(func(*x509.Certificate) string { return one })(ca, ca, ca)
}

// TestDANE: TLSA records and the certificates that they should mean.
func TestDANE(t *testing.T) {
	both, key, authority := bothTLSA, keyTLSA, authorityTLSA
	const next = "3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, row := range []struct {
		why     string
		turn    func(ca *probetest.Authority, n probetest.Net)
		records func(ca, mx1, mx2 *x509.Certificate) string
		want    string // what fails of smtp and dane, with the severity
		na      string
	}{
		{"the key in use alone", nil, both(key), "dane.rollover-unsafe/notice", "smtp.cert-name smtp.cert-chain smtp.cert-expired"},
		{"the key in use and the next", nil, func(ca, mx1, mx2 *x509.Certificate) string {
			return both(key)(ca, mx1, mx2) + "_25._tcp.mx1 TLSA " + next + "\n_25._tcp.mx2 TLSA " + next + "\n"
		}, "", "smtp.cert-name"},
		{"the key of somebody else", nil, both(func(*x509.Certificate) string { return next }), "dane.mismatch/critical", ""},
		{"an authority", nil, authority, "", ""},
		{"an authority, and another name", func(ca *probetest.Authority, n probetest.Net) { n[mx2At].TLS = ca.Server(2*month, "www.example.com") }, authority, "dane.name-mismatch/error smtp.cert-name/warning", ""},
		{"an expired certificate with its key pinned", func(ca *probetest.Authority, n probetest.Net) {
			n[mx2At].TLS = ca.Server(-time.Hour, "www.example.com")
		}, both(key), "dane.rollover-unsafe/notice", "smtp.cert-expired smtp.cert-name"},
		{"an expired certificate below an authority", func(ca *probetest.Authority, n probetest.Net) {
			n[mx2At].TLS = ca.Server(-time.Hour, "mx2.example.com")
		}, authority, "dane.mismatch/error smtp.cert-expired/warning", ""},
		{"no TLS, though there are TLSA records", func(_ *probetest.Authority, n probetest.Net) {
			n[mx2At].Says = map[string]string{"EHLO": "250 mx2.example.com"}
		}, authority, "smtp.starttls-missing/error", ""},
	} {
		t.Run(row.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got, na []string
				_, findings := pinned(row.why, "", row.turn, row.records).visit(t)
				for _, f := range findings {
					mine := strings.HasPrefix(f.ID, "smtp.") || strings.HasPrefix(f.ID, "dane.")
					switch {
					case mine && f.Status == Fail:
						got = append(got, f.ID+"/"+string(f.Severity))
					case f.Status == NotApplicable:
						na = append(na, f.ID)
					}
				}
				if words := strings.Join(slices.Compact(got), " "); words != row.want {
					t.Errorf("got %q, want %q", words, row.want)
				}
				for _, id := range strings.Fields(row.na) {
					if !slices.Contains(na, id) {
						t.Errorf("%s does apply", id)
					}
				}
			})
		})
	}
}

// TestSeverities: how bad it is depends on what else answers, and on who wants TLS.
func TestSeverities(t *testing.T) {
	record := stsIs("", "v=STSv1; id=1;", policy("version: STSv1\nmode: enforce\nmx: mx1.example.com\nmx: mx2.example.com\nmax_age: 2419200\n"), "")
	bare := func(_ *probetest.Authority, n probetest.Net) { n[mx2At].TLS = nil }
	for _, row := range []struct {
		why, id, target string
		animal          animal
		want            Severity
	}{
		{"one address of a host", "smtp.unreachable", mx1AtV6, animal{smtp: lost(syscall.ECONNREFUSED, mx1AtV6)}, Warning},
		{"one host of two", "smtp.unreachable", mx2At, animal{smtp: lost(syscall.ECONNREFUSED, mx2At)}, Error},
		{"all", "smtp.unreachable", mx2At, animal{smtp: lost(syscall.ECONNREFUSED, mx1At, mx1AtV6, mx2At)}, Critical},
		{"all, as routers say", "smtp.unreachable", mx2At, animal{controls: "control.net second.net", net: zooControls, smtp: mailHosts(func(_ *probetest.Authority, n probetest.Net) {
			for _, at := range []string{mx1At, mx1AtV6, mx2At} {
				n[at] = &probetest.Host{Err: syscall.EHOSTUNREACH}
			}
			n[otherAt] = &probetest.Host{}
		})}, Error},
		{"all but one that we cannot see", "smtp.unreachable", mx2At, animal{smtp: mailHosts(func(_ *probetest.Authority, n probetest.Net) {
			n[mx1At], n[mx2At], n[mx1AtV6] = &probetest.Host{Err: syscall.ECONNREFUSED}, &probetest.Host{Err: syscall.ECONNREFUSED}, &probetest.Host{Err: syscall.ENETUNREACH}
		})}, Error},
		{"a web server that nobody calls an MX host", "smtp.unreachable", "203.0.113.80", animal{drop: []string{"@ MX"}, add: "@ A 203.0.113.80\n", smtp: lost(syscall.ECONNREFUSED, "203.0.113.80")}, Warning},
		{"no TLS", "smtp.starttls-missing", mx2At, animal{smtp: mailHosts(bare)}, Warning},
		{"no TLS, and MTA-STS", "smtp.starttls-missing", mx2At, animal{smtp: mailHosts(bare), policy: record.policy, add: record.add}, Error},
	} {
		t.Run(row.why, func(t *testing.T) {
			_, findings := row.animal.audit(t)
			i := slices.IndexFunc(findings, func(f Finding) bool { return f.ID == row.id && f.Target == row.target })
			if i < 0 || findings[i].Status != Fail || findings[i].Severity != row.want {
				t.Errorf("%+v", findings[max(i, 0)])
			}
		})
	}
}

// TestPrivateMX: no domain's records make us talk to this host or network.
func TestPrivateMX(t *testing.T) {
	for _, lab := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			inside := &probetest.Host{}
			a := animal{drop: []string{"mx1 A"}, add: "mx1 A 127.0.0.1\nmx1 A 10.0.0.25\nmx1 A 100.64.0.1\n", smtp: mailHosts(func(_ *probetest.Authority, n probetest.Net) {
				n["127.0.0.1"], n["10.0.0.25"], n["100.64.0.1"] = inside, inside, inside
			})}
			auditor := a.world(t)
			auditor.AllowLoopback = lab
			facts := auditor.Gather(t.Context(), dns.MustName("example.com"))
			if (len(inside.Said()) > 0) != lab {
				t.Errorf("lab %t: %q", lab, inside.Said())
			}
			if !lab && len(facts.SMTP.Visits) != 4 /* mx1 has no IPv6 here */ {
				t.Errorf("%d visits", len(facts.SMTP.Visits))
			}
		})
	}
}

// TestManyAddresses: one domain has so many sessions and no more, one for each address.
func TestManyAddressesToVisit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var add strings.Builder
		n := probetest.Net{}
		for i := range maxVisits + 5 {
			at := fmt.Sprintf("203.0.113.%d", 100+i)
			fmt.Fprintf(&add, "many%d A %s\nmany%d A %s\n@ MX 10 many%d\n", i%10, at, (i+1)%10, at, i%10)
			n[at] = &probetest.Host{}
		}
		a := animal{drop: []string{"@ MX"}, add: add.String(), smtp: func(*probetest.Authority) probetest.Net { return n }}
		facts := a.world(t).Gather(t.Context(), dns.MustName("example.com"))
		if len(facts.SMTP.Visits) != maxVisits || facts.SMTP.Left != 5 {
			t.Errorf("%d visits, %d left", len(facts.SMTP.Visits), facts.SMTP.Left)
		}
		for at, h := range n {
			if hellos := strings.Count(strings.Join(h.Said(), "\n"), "EHLO"); hellos > 1 {
				t.Errorf("%s was visited %d times", at, hellos)
			}
		}
		for _, f := range Judge(facts, Checks()) {
			if f.ID == "smtp.unreachable" && f.Status == Unknown && !f.aside {
				t.Errorf("%+v", f)
			}
		}
	})
}

// TestSMTPInTime: hosts that are as slow as can be leave time for the rest.
func TestSMTPInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := animal{smtp: mailHosts(func(_ *probetest.Authority, n probetest.Net) {
			for _, at := range []string{mx1At, mx1AtV6, mx2At} {
				n[at] = &probetest.Host{Says: map[string]string{"greeting": probetest.Hang}}
			}
		})}
		began := time.Now()
		a.world(t).Gather(t.Context(), dns.MustName("example.com"))
		if took := time.Since(began); took > smtpLimit+5*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// TestNoSMTP: where nobody was to be visited, nothing is known and nothing is wrong.
func TestNoSMTP(t *testing.T) {
	_, findings := animal{}.audit(t)
	for _, f := range findings {
		if NeedsSMTP([]Check{{ID: f.ID}}) && f.Status != Skipped && !strings.HasPrefix(f.ID, "dane.") {
			t.Errorf("%s: %s", f.ID, f.Status)
		}
	}
}

// TestSMTPEvidence shows the session itself.
func TestSMTPEvidence(t *testing.T) {
	_, findings := animal{smtp: mailHosts(func(_ *probetest.Authority, n probetest.Net) {
		n[mx2At].Says = map[string]string{"RCPT": "250 ok"}
	})}.audit(t)
	for _, f := range findings {
		if f.ID != "smtp.open-relay" || f.Status != Fail {
			continue
		}
		i := slices.IndexFunc(f.Evidence, func(x Exchange) bool { return x.Type == "SMTP" })
		if i < 0 || len(f.Evidence) != 1 || !slices.Contains(f.Evidence[i].Records, "> MAIL FROM:<>") || f.Evidence[i].Rcode != "220" || f.Confidence != Single || f.Blame != MXHost {
			t.Errorf("%+v", f)
		}
		return
	}
	t.Error("no finding")
}

// TestBesideMX: what relays for this host may do so because it is near.
func TestBesideMX(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		facts := animal{smtp: mailHosts(func(_ *probetest.Authority, n probetest.Net) {
			n[mx2At].Says = map[string]string{"RCPT": "250 ok"}
		})}.world(t).Gather(t.Context(), dns.MustName("example.com"))
		for i := range facts.SMTP.Visits {
			facts.SMTP.Visits[i].Local = facts.SMTP.Visits[i].Address.Addr()
		}
		for _, f := range Judge(facts, Checks()) {
			if f.ID == "smtp.open-relay" && f.Status == Fail {
				t.Errorf("%+v", f)
			}
		}
	})
}

// TestSides: whose it is that nobody took a connection, as what is known of others says.
func TestSides(t *testing.T) {
	dead := func(at string, err probe.Trouble) Visit {
		return Visit{Session: probe.Session{Address: netip.AddrPortFrom(netip.MustParseAddr(at), 25), Steps: []probe.Step{{Stage: mail.StageConnect, Trouble: err}}}}
	}
	knock := func(at string) Knock { return Knock{Addr: netip.MustParseAddr(at)} }
	met := Visit{Session: probe.Session{Address: netip.MustParseAddrPort(mx1At + ":25"), Steps: []probe.Step{{Stage: mail.StageConnect}}}}
	for _, row := range []struct {
		why  string
		smtp SMTP // of the first visit
		want Blame
	}{
		{"refused, and no control was asked", SMTP{Visits: []Visit{dead(mx2At, probe.Refused)}}, MXHost},
		{"refused, and the controls could not be looked up", SMTP{Visits: []Visit{dead(mx2At, probe.Refused)}, ControlErr: errors.New("no")}, LocalNetwork},
		{"no way to anybody", SMTP{Visits: []Visit{dead(mx2At, probe.NoWay)}}, LocalNetwork},
		{"a router knows no such host, nor another", SMTP{Visits: []Visit{dead(mx2At, probe.Unreachable)}}, LocalNetwork},
		{"a router knows no such host, though another was met", SMTP{Visits: []Visit{dead(mx2At, probe.Unreachable), met}}, MXHost},
		{"no way, though another host was met", SMTP{Visits: []Visit{dead(mx2At, probe.NoWay), met}}, Nobody},
		{"no way, though a control was met", SMTP{Visits: []Visit{dead(mx2At, probe.NoWay)}, Controls: []Knock{knock(otherAt)}}, Nobody},
		{"no way, and who was met is of the other family", SMTP{Visits: []Visit{dead(mx1AtV6, probe.NoWay), met}}, LocalNetwork},
	} {
		if got := (&Facts{SMTP: &row.smtp}).sideOfEnd(row.smtp.Visits[0]); got != row.want {
			t.Errorf("%s: %s", row.why, got)
		}
	}
}
