package edge

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/textproto"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/mailauth"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/queue"
)

// senders is the DNS of whoever writes to the gate, and a message of theirs with its
// signature.
func senders(t testing.TB, text string) (dns.Resolver, string) {
	t.Helper()
	key, err := dkim.GenerateEd25519()
	if err != nil {
		t.Fatal(err)
	}
	public, err := dkim.KeyOf(key)
	if err != nil {
		t.Fatal(err)
	}
	field, err := dkim.Sign(strings.NewReader(text), dkim.Signer{Domain: dns.MustName("example.edu"), Selector: "s1", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return dnstest.Zone(t, ".", `
$TTL 300
. SOA ns.example. x.example. 1 1 1 1 1
. NS  ns.example.
ns.example. A 192.0.2.53
example.edu.               TXT "v=spf1 ip4:198.51.100.0/24 -all"
_dmarc.example.edu.        TXT "v=DMARC1; p=quarantine"
s1._domainkey.example.edu. TXT "`+public.String()+`"
`), field + text
}

// observed keeps what an observer is told.
type observed []Observation

func (o *observed) Observe(_ context.Context, seen Observation) { *o = append(*o, seen) }

const (
	letter = "From: A <a@example.edu>\r\nTo: user@example.com\r\nSubject: x\r\nDate: Mon, 1 Jun 2026 10:00:00 +0000\r\n\r\n.a line with a dot\r\n..two\r\nend\r\n"
	forged = "Authentication-Results: MX1.example.com (x) 1; dkim=pass\r\n\theader.d=example.org\r\n"
	others = "Authentication-Results: mx.example.org; spf=pass\r\n"
)

// TestJudged: over the wire, both copies of a message come out with our two fields above
// them, without what was said in our name, and for the rest octet by octet as they came.
func TestJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, m, log := newGate(t)
		var signed string
		g.Resolver, signed = senders(t, letter)
		seen := &observed{}
		g.Observer = seen
		p := &player{T: t, gate: g, memory: m, began: time.Now(), ended: make(chan struct{})}
		p.connect("mx2.example.com")
		var dotted bytes.Buffer
		w := textproto.NewWriter(bufio.NewWriter(&dotted)).DotWriter()
		io.WriteString(w, forged+others+signed)
		w.Close()
		for _, step := range []string{"S: 220", "C: EHLO mail.example.edu", "S: 250", "C: MAIL FROM:<a@example.edu>", "S: 250",
			"C: RCPT TO:<user@example.net>", "S: 250", "C: RCPT TO:<user@example.com>", "S: 250", "C: DATA", "S: 354"} {
			verb, rest, _ := strings.Cut(step, " ")
			if err := p.step(verb, rest); err != nil {
				t.Fatalf("%s: %v", step, err)
			}
		}
		if _, err := p.client.Write(dotted.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := p.read("250 2.0.0"); err != nil {
			t.Fatal(err)
		}
		p.client.Close()
		<-p.ended
		if len(m.messages) != 2 {
			t.Fatalf("%d copies", len(m.messages))
		}
		for _, msg := range m.messages {
			head, ok := strings.CutSuffix(m.body(msg), others+signed)
			received, results, two := strings.Cut(head, "\r\nAuthentication-Results: ")
			if !ok || !two || !strings.HasPrefix(received, "Received: from mail.example.edu") || strings.Contains(received, "Authentication-Results") {
				t.Fatalf("the message came out as\n%s", m.body(msg))
			}
			field, err := mailauth.Parse(results)
			if err != nil || field.ID != "mx1.example.com" {
				t.Fatalf("%q is read as %+v, %v", results, field, err)
			}
			want := "mx1.example.com; spf=pass smtp.mailfrom=a@example.edu; spf=none smtp.helo=mail.example.edu; dkim=pass header.d=example.edu header.s=s1"
			if got := field.String(); !strings.HasPrefix(got, want) || !strings.Contains(got, "; dmarc=pass header.from=example.edu policy.dmarc=quarantine") {
				t.Errorf("got %s", got)
			}
			if int64(len(m.body(msg))) != msg.Size || msg.Envelope.Size != msg.Size {
				t.Errorf("sizes %d and %d of %d octets", msg.Size, msg.Envelope.Size, len(m.body(msg)))
			}
		}
		for _, part := range []string{"spf=pass", "dkim=pass", "dmarc=pass", "author=example.edu", "forged=1"} {
			if !strings.Contains(log.String(), part) {
				t.Errorf("the log has no %s:\n%s", part, log)
			}
		}
		if len(*seen) != 1 {
			t.Fatalf("observed %d times", len(*seen))
		}
		o := (*seen)[0]
		if o.Client.String() != "198.51.100.25" || o.Host.String() != "mx2.example.com" || o.EnvelopeFrom != "a@example.edu" || o.Helo != "mail.example.edu" ||
			o.HeaderFrom.String() != "example.edu" || len(o.Recipients) != 2 || o.Time.IsZero() || o.Results.BestDKIM() != dkim.Pass {
			t.Errorf("observed %+v", o)
		}
	})
}

func TestJudgedHeaders(t *testing.T) {
	line := "X: " + strings.Repeat("x", 70) + "\r\n"
	tests := []struct {
		why, body, want string
		rest            string // of the message, below our fields; "" is body
	}{
		// RFC 5322 §2.1.1 bounds no header; 1 MiB is ours.
		{"a large header", strings.Repeat(line, 5000) + "\r\nbody\r\n", "250", ""},
		{"a header over the limit", strings.Repeat(line, 20000) + "\r\nbody\r\n", "552 5.3.4", ""},
		{"too many fields", strings.Repeat("X: y\r\n", 10000) + "\r\nbody\r\n", "552 5.3.4", ""},
		{"an mbox line: it is judged permerror and taken", "From a@b\r\n" + forged + letter, "250", "From a@b\r\n" + letter},
		{"a first line that would go on with our field", " header.d=example.org\r\n" + letter, "250", "\r\n header.d=example.org\r\n" + letter},
		{"no empty line", "Subject: x\r\n" + forged, "250", "Subject: x\r\n"},
		{"nothing", "", "250", ""},
		{"two chunks", letter + strings.Repeat(line, 2*queue.ChunkSize/len(line)), "250", ""},
	}
	for _, tt := range tests {
		g, m, log := newGate(t)
		g.Resolver, _ = senders(t, letter)
		s := ready(t, g, "user@example.com")
		want(t, s.Data(t.Context(), strings.NewReader(tt.body)), tt.want)
		if tt.want != "250" {
			if len(m.messages) > 0 || !strings.Contains(log.String(), "reason="+string(HeaderLarge)) {
				t.Errorf("%s: %d queued, log %s", tt.why, len(m.messages), log)
			}
			continue
		}
		rest := tt.rest
		if rest == "" {
			rest = tt.body
		}
		got := m.body(m.messages[0])
		head, ok := strings.CutSuffix(got, rest)
		_, results, two := strings.Cut(head, "\r\nAuthentication-Results: ")
		if _, err := mailauth.Parse(results); !ok || !two || err != nil || strings.Count(head, "Authentication-Results") != 1 {
			t.Errorf("%s: the head is %q, %v", tt.why, head, err)
		}
	}
}

// A DNS that does not answer costs a message some seconds and not its life.
func TestJudgedWithoutDNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, m, log := newGate(t)
		g.Resolver = dns.ResolverFunc(func(ctx context.Context, q dns.Question) (dns.Answer, error) {
			<-ctx.Done()
			return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply, Err: ctx.Err()}
		})
		s := ready(t, g, "user@example.com")
		began := time.Now()
		want(t, s.Data(t.Context(), strings.NewReader(letter)), "250")
		if took := time.Since(began); took > nameTimeout+mailauth.Limit {
			t.Errorf("it took %s", took)
		}
		if len(m.messages) != 1 || !strings.Contains(log.String(), "dmarc=temperror") {
			t.Errorf("%d queued, log %s", len(m.messages), log)
		}
	})
}

// hasty panics.
type hasty struct{}

func (hasty) Observe(context.Context, Observation) { panic("too late") }

// A panic in the judgement, or in the observer, is logged, and the message is taken.
func TestJudgedWithPanic(t *testing.T) {
	g, m, log := newGate(t)
	g.Resolver = dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) { panic(errors.New("a mistake")) })
	g.Observer = hasty{}
	s := ready(t, g, "user@example.com")
	want(t, s.Data(t.Context(), strings.NewReader(letter)), "250")
	if len(m.messages) != 1 || !strings.Contains(log.String(), "judge a message") || !strings.Contains(log.String(), "observe a message") || !strings.Contains(log.String(), "spf=temperror") {
		t.Errorf("%d queued, log %s", len(m.messages), log)
	}
}

// In whose name the results stand, and in whose nobody else may speak.
func TestAuthservID(t *testing.T) {
	g, m, _ := newGate(t)
	g.Plan.AuthservID = dns.MustName("example.com")
	g.Resolver, _ = senders(t, letter)
	g.Observer = nil
	s := ready(t, g, "user@example.com")
	claims := ""
	for _, name := range []string{"example.com", "mx1.example.com", "mx2.example.com"} {
		claims += "Authentication-Results: " + name + "; spf=pass\r\n"
	}
	want(t, s.Data(t.Context(), strings.NewReader(claims+letter)), "250")
	got := m.body(m.messages[0])
	if !strings.Contains(got, "\r\nAuthentication-Results: example.com; spf=") || strings.Count(got, "Authentication-Results") != 1 || !strings.HasSuffix(got, letter) {
		t.Errorf("the message came out as\n%s", got)
	}
}
