package edge

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/mail"
	"mxward/internal/smtp"
)

const reverse = `
$ORIGIN arpa.
@ 3600 SOA ns.example. root.example. 1 3600 600 86400 60
@ 3600 NS ns.example.
25.100.51.198.in-addr.arpa. 3600 PTR mail.example.edu.
26.100.51.198.in-addr.arpa. 3600 PTR mail.example.edu.
27.100.51.198.in-addr.arpa. 3600 PTR nowhere.example.edu.
27.100.51.198.in-addr.arpa. 3600 PTR other.example.edu.
28.100.51.198.in-addr.arpa. 3600 PTR a\(b\).example.edu.
29.100.51.198.in-addr.arpa. 3600 PTR .
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 3600 PTR six.example.edu.
`

const forward = `
$ORIGIN edu.
@ 3600 SOA ns.example. root.example. 1 3600 600 86400 60
@ 3600 NS ns.example.
mail.example.edu. 3600 A    198.51.100.25
other.example.edu. 3600 A    198.51.100.27
a\(b\).example.edu. 3600 A    198.51.100.28
six.example.edu. 3600 AAAA 2001:db8::1
`

func TestClientName(t *testing.T) {
	resolver := &dns.Mux{Zones: map[dns.Name]dns.Resolver{
		dns.MustName("arpa"): dnstest.Zone(t, "arpa", reverse),
		dns.MustName("edu"):  dnstest.Zone(t, "edu", forward),
	}}
	tests := []struct{ client, want string }{
		{"198.51.100.25", "mail.example.edu [198.51.100.25]"},  // there and back
		{"198.51.100.26", "[198.51.100.26]"},                   // anybody can claim a name
		{"198.51.100.27", "other.example.edu [198.51.100.27]"}, // the second of two leads back
		{"198.51.100.28", "[198.51.100.28]"},                   // no host name, and a comment's end
		{"198.51.100.29", "[198.51.100.29]"},                   // the root is nobody
		{"198.51.100.30", "[198.51.100.30]"},                   // none at all
		{"2001:db8::1", "six.example.edu [IPv6:2001:db8::1]"},
		{"::ffff:198.51.100.25", "mail.example.edu [198.51.100.25]"}, // as a dual-stack socket gives it
	}
	for _, tt := range tests {
		g, m, _ := newGate(t)
		g.Resolver = resolver
		if name := acceptFrom(t, g, m, tt.client); name != tt.want {
			t.Errorf("%s is %s, want %s", tt.client, name, tt.want)
		}
	}
}

// acceptFrom takes one message from a client, and gives what is known of it.
func acceptFrom(t *testing.T, g *Gate, m *memory, client string) string {
	t.Helper()
	s, _ := g.Host(dns.MustName("mx1.example.com")).NewSession(t.Context(), smtp.Conn{
		ID: "S1", Remote: netip.AddrPortFrom(netip.MustParseAddr(client), 4000), Began: time.Now(),
	})
	s.Hello(t.Context(), smtp.Hello{Extended: true, Name: "x"})
	s.Mail(t.Context(), mail.Envelope{})
	want(t, rcpt(t, s, "user@example.com"), "250")
	want(t, s.Data(t.Context(), strings.NewReader("\r\n")), "250")
	msg := m.messages[len(m.messages)-1]
	if !strings.Contains(m.body(msg), "("+msg.Client+")") {
		t.Errorf("the trace field names another client than %s: %q", msg.Client, m.body(msg))
	}
	return msg.Client
}

// Mail waits for a name once, and not while the DNS is known to be slow.
func TestSlowNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, m, _ := newGate(t)
		var answer atomic.Bool // earlier look-ups may still read it
		g.Resolver = dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
			if answer.Load() {
				return dns.Answer{}, errors.New("no")
			}
			<-ctx.Done()
			return dns.Answer{}, ctx.Err()
		})
		for _, step := range []struct {
			answer bool
			pause  time.Duration
			want   time.Duration
		}{
			{true, 0, 0},                           // a quick answer, even a bad one
			{false, 0, nameTimeout},                // the first that is slow
			{false, 0, 0},                          // the next ones do not wait
			{false, time.Second, 0},                //
			{false, 2 * namePatience, nameTimeout}, // after a while the DNS gets another chance
			{true, 2 * namePatience, 0},            //
		} {
			time.Sleep(step.pause)
			answer.Store(step.answer)
			began := time.Now()
			acceptFrom(t, g, m, "198.51.100.25")
			if took := time.Since(began); took != step.want {
				t.Errorf("%+v: it took %s", step, took)
			}
		}
		time.Sleep(nameTimeout)
		g.Close()
	})
}

// A resolver that panics costs a name.
func TestNamePanic(t *testing.T) {
	g, m, log := newGate(t)
	g.Resolver = dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) { panic("oh") })
	if name := acceptFrom(t, g, m, "198.51.100.25"); name != "[198.51.100.25]" {
		t.Errorf("the client is %s", name)
	}
	if !strings.Contains(log.String(), "msg=panic") {
		t.Errorf("nothing in the log:\n%s", log)
	}
}

// Nobody asks for the names of loopback and link-local addresses.
func TestLocalNames(t *testing.T) {
	g, m, _ := newGate(t)
	g.Resolver = dns.ResolverFunc(func(_ context.Context, q dns.Question) (dns.Answer, error) {
		t.Errorf("asked for %s", q)
		return dns.Answer{}, nil
	})
	for _, client := range []string{"127.0.0.1", "::1", "fe80::1%lo"} {
		acceptFrom(t, g, m, client)
	}
}

// An attack cannot fill the log, nor forge its lines.
func TestLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		g, _, _ := newGate(t)
		g.Logger = slog.New(slog.NewTextHandler(&log, nil))
		for range 10 * refusalsPerSecond {
			s := begin(t, g, "mx1.example.com", "a@example.edu")
			s.Hello(t.Context(), smtp.Hello{Name: "x msg=accepted\n"})
			rcpt(t, s, "nobody@example.com")
			s.End(smtp.End{Stage: mail.StageRcpt, EarlyTalk: true, Err: errors.New("a\nb")})
		}
		if lines := strings.Count(log.String(), "\n"); lines != refusalsPerSecond {
			t.Errorf("%d lines, want %d", lines, refusalsPerSecond)
		}
		log.Reset()
		time.Sleep(time.Second)
		rcpt(t, begin(t, g, "mx1.example.com", ""), "nobody@example.com")
		if !strings.Contains(log.String(), "unlogged=") || strings.Contains(log.String(), "unlogged=0") {
			t.Errorf("the next line does not tell of those kept back:\n%s", &log)
		}
		log.Reset()
		open(t, g, "mx1.example.com").End(smtp.End{Stage: mail.StageHello, Quit: true})
		if log.Len() > 0 {
			t.Errorf("an idle connection is logged:\n%s", &log)
		}
		g.Close()
	})
}

func TestLoggedRecipients(t *testing.T) {
	many := make([]mail.Recipient, maxLoggedRecipients+5)
	if got := recipients(many); len(got) != maxLoggedRecipients+1 || got[maxLoggedRecipients] != "and 5 more" {
		t.Errorf("%d texts, the last %q", len(got), got[len(got)-1])
	}
}
