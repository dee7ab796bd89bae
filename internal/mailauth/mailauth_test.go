package mailauth

import (
	"bufio"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/mail"
	"mxward/internal/mailauth/arc"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/dmarc"
	"mxward/internal/mailauth/spf"
)

var signingKey = sync.OnceValues(dkim.GenerateEd25519)

const message = "From: A <a@example.net>\r\nTo: b@example.com\r\nSubject: one\r\nDate: Mon, 1 Jun 2026 10:00:00 +0000\r\n\r\nbody\r\n"

// world is the DNS of the tests.
func world(t testing.TB) dns.Resolver {
	t.Helper()
	key, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := dkim.KeyOf(key)
	if err != nil {
		t.Fatal(err)
	}
	return dnstest.Zone(t, ".", `
$TTL 300
. SOA ns.example. x.example. 1 1 1 1 1
. NS  ns.example.
ns.example. A 192.0.2.53
example.net.               TXT "v=spf1 ip4:192.0.2.1 -all"
_dmarc.example.net.        TXT "v=DMARC1; p=reject"
s1._domainkey.example.net. TXT "`+public.String()+`"
mail.example.net.          TXT "v=spf1 a -all"
mail.example.net.          A   192.0.2.1
`)
}

func sign(t testing.TB, text string) string {
	t.Helper()
	key, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	field, err := dkim.Sign(strings.NewReader(text), dkim.Signer{Domain: dns.MustName("example.net"), Selector: "s1", Key: crypto.Signer(key)})
	if err != nil {
		t.Fatal(err)
	}
	return field + text
}

func judge(r dns.Resolver) Judge {
	return Judge{Resolver: r, ID: dns.MustName("mx.example.com"), Own: []dns.Name{dns.MustName("mx2.example.com")}}
}

func from(sender string) Session {
	return Session{Client: netip.MustParseAddr("192.0.2.1"), Helo: "mail.example.net", From: sender, Receiver: "mx.example.com"}
}

// run judges a message that comes in such pieces, and gives what was passed on.
func run(t testing.TB, j Judge, s Session, r io.Reader) (Results, string, error) {
	t.Helper()
	var out strings.Builder
	c := j.Start(t.Context(), s, &out)
	defer c.Stop()
	if _, err := io.Copy(c, r); err != nil {
		return Results{}, out.String(), err
	}
	results, err := c.Finish()
	return results, out.String(), err
}

// slow answers when the context ends, broken panics, down has no answer.
func slow(ctx context.Context, q dns.Question) (dns.Answer, error) {
	<-ctx.Done()
	return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply, Err: ctx.Err()}
}

func broken(context.Context, dns.Question) (dns.Answer, error) { panic("a mistake") }

func down(_ context.Context, q dns.Question) (dns.Answer, error) {
	return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.ServerFailed}
}

func TestJudge(t *testing.T) {
	signed := sign(t, message)
	named := from("a@example.net")
	named.Name = dns.MustName("mail.example.net")
	six := from("a@example.net")
	six.Client, six.Name = netip.MustParseAddr("2001:db8::1"), dns.MustName("mail.example.net")
	tests := []struct {
		why      string
		resolver dns.Resolver
		session  Session
		message  string
		want     string // the field, unfolded, without its name; b= is B
	}{
		{"everything passes", world(t), named, signed,
			"mx.example.com; spf=pass smtp.mailfrom=a@example.net; spf=pass smtp.helo=mail.example.net; dkim=pass header.d=example.net header.s=s1 header.a=ed25519-sha256 header.b=B; dmarc=pass header.from=example.net policy.dmarc=reject; iprev=pass policy.iprev=192.0.2.1"},
		{"no signature, SPF alone", world(t), from("a@example.net"), message,
			"mx.example.com; spf=pass smtp.mailfrom=a@example.net; spf=pass smtp.helo=mail.example.net; dkim=none; dmarc=pass header.from=example.net policy.dmarc=reject"},
		{"a client that may not send; its IPv6 address is quoted (RFC 8601 §2.2)", world(t), six, message,
			`mx.example.com; spf=fail smtp.mailfrom=a@example.net; spf=fail smtp.helo=mail.example.net; dkim=none; dmarc=fail header.from=example.net policy.dmarc=reject; iprev=pass policy.iprev="2001:db8::1"`},
		{"the null sender is judged by HELO alone", world(t), from(""), message,
			"mx.example.com; spf=pass smtp.helo=mail.example.net; dkim=none; dmarc=pass header.from=example.net policy.dmarc=reject"},
		{"a body that was changed", world(t), from("a@example.org"), strings.Replace(signed, "body", "Body", 1),
			`mx.example.com; spf=none smtp.mailfrom=a@example.org; spf=pass smtp.helo=mail.example.net; dkim=fail reason="the body was changed after signing" header.d=example.net header.s=s1 header.a=ed25519-sha256 header.b=B; dmarc=fail header.from=example.net policy.dmarc=reject`},
		{"no policy at all", world(t), from("a@example.org"), strings.ReplaceAll(message, "example.net", "example.org"),
			"mx.example.com; spf=none smtp.mailfrom=a@example.org; spf=pass smtp.helo=mail.example.net; dkim=none; dmarc=none header.from=example.org"},
		{"no answer is temperror, never none", dns.ResolverFunc(down), from("a@example.net"), signed,
			`mx.example.com; spf=temperror smtp.mailfrom=a@example.net; spf=temperror smtp.helo=mail.example.net; dkim=temperror reason="REASON" header.d=example.net header.s=s1 header.a=ed25519-sha256 header.b=B; dmarc=temperror header.from=example.net`},
		{"a panic is temperror", dns.ResolverFunc(broken), from("a@example.net"), signed,
			`mx.example.com; spf=temperror smtp.mailfrom=a@example.net; spf=temperror smtp.helo=mail.example.net; dkim=temperror reason="REASON" header.d=example.net header.s=s1 header.a=ed25519-sha256 header.b=B; dmarc=temperror header.from=example.net`},
		{"an mbox line makes the header malformed", world(t), from("a@example.net"), "From a@example.net Mon Jun  1 10:00:00 2026\r\n" + message,
			`mx.example.com; spf=pass smtp.mailfrom=a@example.net; spf=pass smtp.helo=mail.example.net; dkim=permerror reason="malformed message header"; arc=fail reason="malformed message header"; dmarc=permerror`},
		{"no From", world(t), from("a@example.net"), "Subject: x\r\n\r\n",
			"mx.example.com; spf=pass smtp.mailfrom=a@example.net; spf=pass smtp.helo=mail.example.net; dkim=none; dmarc=permerror"},
		{"nobody to ask: nothing is judged", nil, from("a@example.net"), signed, "mx.example.com; none"},
	}
	for _, tt := range tests {
		for name, cut := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "octets": iotest.OneByteReader,
		} {
			got, out, err := run(t, judge(tt.resolver), tt.session, cut(strings.NewReader(tt.message)))
			if err != nil || out != tt.message {
				t.Errorf("%s, %s: passed on %q, %v", tt.why, name, out, err)
			}
			field := unfold(t, got.Header(dns.MustName("mx.example.com")))
			for _, s := range got.DKIM {
				if s.Value != "" {
					b := writeValue(s.Value[:8])
					field = strings.Replace(field, "header.b="+b, "header.b=B", 1)
				}
				if s.Result == dkim.TempError {
					field = strings.Replace(field, quote(got.clean(s.Reason, maxReason)), `"REASON"`, 1)
				}
			}
			if field != tt.want {
				t.Errorf("%s, %s:\ngot  %s\nwant %s", tt.why, name, field, tt.want)
			}
			if parsed, err := Parse(field); err != nil || parsed.String() != field {
				t.Errorf("%s: %s is read as %s, %v", tt.why, field, parsed, err)
			}
		}
	}
}

// unfold takes a whole field apart and holds it to its form.
func unfold(t testing.TB, field string) string {
	t.Helper()
	value, ok := strings.CutPrefix(field, FieldName+": ")
	value, ended := strings.CutSuffix(value, "\r\n")
	one := strings.ReplaceAll(value, "\r\n\t", " ")
	if !ok || !ended || strings.ContainsAny(one, "\r\n\t\x00") {
		t.Errorf("no field: %q", field)
	}
	for line := range strings.SplitSeq(field, "\r\n") {
		if len(line) > 998 { // RFC 5322 §2.1.1
			t.Errorf("a line of %d octets", len(line))
		}
	}
	return one
}

// TestChain: a chain of ARC is judged beside the rest.
func TestChain(t *testing.T) {
	key, err := signingKey()
	if err != nil {
		t.Fatal(err)
	}
	r, text := world(t), sign(t, message)
	head, body, _ := strings.Cut(text, "\r\n\r\n")
	h, err := mail.ReadHeader(bufio.NewReader(strings.NewReader(head)))
	if err != nil {
		t.Fatal(err)
	}
	sealing, err := arc.Sealer{Domain: dns.MustName("example.net"), Selector: "s1", Key: key}.Start(h)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(sealing, body)
	set, err := sealing.Finish(arc.Chain{Status: arc.None}, "mx.example.com; none")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ why, text, want string }{
		{"a chain, whose results in our name remain", set + text, "arc=pass header.oldest-pass=0 smtp.remote-ip=192.0.2.1"},
		{"a chain that is broken", strings.Replace(set+text, "body", "Body", 1), "arc=fail"},
	} {
		got, out, err := run(t, judge(r), from(""), strings.NewReader(tt.text))
		if field := unfold(t, got.Header(dns.MustName("mx.example.com"))); err != nil || out != tt.text || !strings.Contains(field, "; "+tt.want) {
			t.Errorf("%s: %s, %v", tt.why, field, err)
		}
	}
}

// A panic is told of, with its stack, for each part.
func TestFaults(t *testing.T) {
	got, _, err := run(t, judge(dns.ResolverFunc(broken)), from("a@example.net"), strings.NewReader(sign(t, message)))
	if err != nil || len(got.Faults) == 0 || got.Faults[0].Value != "a mistake" || !strings.Contains(got.Faults[0].Stack, "broken") {
		t.Errorf("%d faults: %+v, %v", len(got.Faults), got.Faults, err)
	}
	if got.SPF.Result != spf.TempError || got.BestDKIM() != dkim.TempError || got.DMARC.Result != dmarc.TempError {
		t.Errorf("%s, %s, %s", got.SPF.Result, got.BestDKIM(), got.DMARC.Result)
	}
	// One that a part has recovered from.
	mistake := &dkim.Panic{Value: "another", Stack: "there"}
	part := &Check{}
	part.tell("dkim", fmt.Errorf("%w: %w", dkim.ErrTemporary, mistake))
	part.tell("dkim", dkim.ErrTemporary)
	if len(part.faults) != 1 || part.faults[0] != (Fault{"dkim", "another", "there"}) {
		t.Errorf("%+v", part.faults)
	}
	// One that ends a part, and not the others.
	c := judge(world(t)).Start(t.Context(), from(""), io.Discard)
	defer c.Stop()
	c.inBody = true
	if c.guard("x", func() { panic(errors.New("y")) }) {
		t.Error("a panic came to its end")
	}
	c.failDKIM(dkim.TempError, errFault)
	c.failARC(arc.TempError, errFault)
	if got, err := c.Finish(); err != nil || got.BestDKIM() != dkim.TempError || got.ARC.Status != arc.TempError || len(got.Faults) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Whatever the DNS does, a message waits no longer than Limit in all.
func TestLimit(t *testing.T) {
	world(t) // the key is made outside of the bubble
	synctest.Test(t, func(t *testing.T) {
		signed := sign(t, message)
		began := time.Now()
		got, out, err := run(t, judge(dns.ResolverFunc(slow)), from("a@example.net"), strings.NewReader(signed))
		if err != nil || out != signed || time.Since(began) != Limit {
			t.Errorf("%d octets after %s, %v; want %s", len(out), time.Since(began), err, Limit)
		}
		if got.SPF.Result != spf.TempError || got.Helo.Result != spf.TempError || got.BestDKIM() != dkim.TempError || got.DMARC.Result != dmarc.TempError {
			t.Errorf("%s, %s, %s, %s; want temperror", got.SPF.Result, got.Helo.Result, got.BestDKIM(), got.DMARC.Result)
		}
	})
}

// A client that is gone leaves nothing behind that still asks.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		c := judge(dns.ResolverFunc(slow)).Start(t.Context(), from("a@example.net"), io.Discard)
		c.Stop()
		synctest.Wait()
		if got := <-c.spf; got.Result != spf.TempError || time.Since(began) > 0 {
			t.Errorf("%s after %s", got.Result, time.Since(began))
		}
	})
}

func TestForged(t *testing.T) {
	own := []dns.Name{dns.MustName("mx.example.com"), dns.MustName("bücher.example")}
	tests := []struct {
		why, raw string
		want     bool
	}{
		{"ours", "Authentication-Results: mx.example.com; spf=pass", true},
		{"any case", "AUTHENTICATION-results: MX.Example.COM; none", true},
		{"white space before the colon (RFC 5322 §4.5)", "Authentication-Results \t: mx.example.com; none", true},
		{"a version (RFC 8601 §2.2)", "Authentication-Results: mx.example.com 1; none", true},
		{"comments, nested, with a quoted parenthesis", "Authentication-Results: (a (b) \\) c) mx.example.com(x)1(y); none", true},
		{"quoted, with a needless backslash", `Authentication-Results: "mx\.example.com"; none`, true},
		{"folded", "Authentication-Results:\r\n\t(x\r\n y)\r\n mx.example.com\r\n ; none", true},
		{"a dot behind it", "Authentication-Results: mx.example.com.; none", true},
		{"nothing behind it", "Authentication-Results: mx.example.com", true},
		{"no semicolon", "Authentication-Results: mx.example.com spf=pass", true},
		{"followed by what no value may have", "Authentication-Results: mx.example.com@evil.example; none", true},
		{"another script", "Authentication-Results: bücher.example; none", true},
		{"and its A-label", "Authentication-Results: xn--bcher-kva.example; none", true},
		{"nobody can tell whose: empty", "Authentication-Results:", true},
		{"a comment without an end", "Authentication-Results: (mx.example.com; none", true},
		{"a string without an end", `Authentication-Results: "mx.example.com; none`, true},
		{"an encoded word", "Authentication-Results: =?utf-8?q?mx.example.com?=; none", true},
		{"a control character before it", "Authentication-Results: \x00mx.example.com; none", true},
		{"no UTF-8", "Authentication-Results: mx.example.com\xff; none", true},

		{"another host's", "Authentication-Results: mx.example.net; spf=pass", false},
		{"a longer name", "Authentication-Results: mx.example.com.example.net; spf=pass", false},
		{"a name below ours", "Authentication-Results: a.mx.example.com; spf=pass", false},
		{"ours in a comment", "Authentication-Results: (mx.example.com) mx.example.net; none", false},
		{"ours in a property", "Authentication-Results: mx.example.net; spf=pass smtp.helo=mx.example.com", false},
		{"a word that is no name", "Authentication-Results: trusted; none", false},
		{"of ARC, which is signed", "ARC-Authentication-Results: i=1; mx.example.com; none", false},
		{"a longer field name", "X-Authentication-Results: mx.example.com; none", false},
	}
	for _, tt := range tests {
		name, _, _ := strings.Cut(tt.raw, ":")
		f := mail.Field{Name: strings.TrimRight(name, " \t"), Raw: tt.raw + "\r\n"}
		if got := Forged(f, own...); got != tt.want {
			t.Errorf("%s: %q: got %v", tt.why, tt.raw, got)
		}
	}
}

// What is not forged is passed on octet by octet, however it comes.
func TestFilter(t *testing.T) {
	const forged = "Authentication-Results: mx.example.com;\r\n\tspf=pass\r\n smtp.mailfrom=x\r\n"
	tests := []struct {
		why, in, want string
		removed       int
	}{
		{"nothing to remove", message, message, 0},
		{"a fold before the colon, which some readers undo first", "Authentication-Results\r\n : mx.example.com; spf=pass\r\n" + message, message, 1},
		{"first, last and twice", forged + "A: b\r\n" + forged + forged + "\r\nbody", "A: b\r\n\r\nbody", 3},
		{"nothing else", forged + "\r\n", "\r\n", 1},
		{"another host of ours", "authentication-results : MX2.example.com; none\r\nA: b\r\n\r\n", "A: b\r\n\r\n", 1},
		{"of strangers and of ARC", "Authentication-Results: mx.example.net; none\r\nARC-Authentication-Results: i=1; mx.example.com; none\r\n\r\n", "Authentication-Results: mx.example.net; none\r\nARC-Authentication-Results: i=1; mx.example.com; none\r\n\r\n", 0},
		{"in the body", "A: b\r\n\r\n" + forged + "\r\n", "A: b\r\n\r\n" + forged + "\r\n", 0},
		{"in a malformed header", "From x\r\n" + forged + "no field\r\n" + forged + "A: b\r\n\r\n.\r\n", "From x\r\nno field\r\nA: b\r\n\r\n.\r\n", 2},
		{"no empty line", "A: b\r\n" + forged, "A: b\r\n", 1},
		{"no end of line", "A: b\r\nAuthentication-Results: mx.example.com", "A: b\r\n", 1},
		{"LF alone", "A: b\nAuthentication-Results: mx.example.com\n ;none\nC: d\n\nbody\n", "A: b\nC: d\n\nbody\n", 1},
		{"empty", "", "", 0},
		{"no header", "\r\nbody", "\r\nbody", 0},
		{"a first line that would go on with our own field", " dkim=pass\r\nA: b\r\n\r\n", "\r\n dkim=pass\r\nA: b\r\n\r\n", 0},
		{"white space is no empty line", "A: b\r\n \r\n" + forged + "\r\n", "A: b\r\n \r\n\r\n", 1},
	}
	for _, tt := range tests {
		for name, cut := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "octets": iotest.OneByteReader, "halves": iotest.HalfReader,
		} {
			got, out, err := run(t, judge(nil), from(""), cut(strings.NewReader(tt.in)))
			if err != nil || out != tt.want || got.Removed != tt.removed {
				t.Errorf("%s, %s: got %q, %d removed, %v; want %q, %d", tt.why, name, out, got.Removed, err, tt.want, tt.removed)
			}
		}
	}
}

// An error of what takes the message on ends it.
func TestOutFails(t *testing.T) {
	full := errors.New("disk full")
	for _, text := range []string{message, "A: b", " A: b\r\n\r\n", "Authentication-Results: mx.example.com\r\n\r\nb"} {
		c := judge(nil).Start(t.Context(), from(""), failing{full})
		_, err := io.WriteString(c, text)
		if err == nil {
			_, err = c.Finish()
		}
		if !errors.Is(err, full) {
			t.Errorf("%q: %v", text, err)
		}
		c.Stop()
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// repeated gives a text again and again.
type repeated struct {
	text string
	left int
	rest string
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.rest == "" {
		if r.left == 0 {
			return 0, io.EOF
		}
		r.left--
		r.rest = r.text
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// TestHostile: what a message may cost, in octets that are allocated in all, and what
// becomes of it.
func TestHostile(t *testing.T) {
	line := strings.Repeat("x", 76) + "\r\n"
	var nested strings.Builder
	for range 1000 {
		nested.WriteString("--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n")
	}
	signed := sign(t, message)
	head, _, _ := strings.Cut(signed, "\r\n\r\n")
	head += "\r\n"
	tests := []struct {
		why    string
		text   io.Reader
		budget uint64
		err    error
	}{
		{"50 MB, signed", io.MultiReader(strings.NewReader(head+"\r\n"), &repeated{text: line, left: 50e6 / len(line)}), 1 << 20, nil},
		{"a header of 10 MB", io.MultiReader(&repeated{text: "A: " + line, left: 10e6 / len(line)}, strings.NewReader("\r\n")), 8 << 20, mail.ErrHeaderTooLarge},
		{"a header of 10 MB in one line", &repeated{text: "x", left: 10e6}, 8 << 20, mail.ErrHeaderTooLarge},
		{"10,000 fields", io.MultiReader(&repeated{text: "A: b\r\n", left: 10_000}, strings.NewReader("\r\n")), 8 << 20, mail.ErrHeaderTooLarge},
		{"4,000 forged fields", io.MultiReader(&repeated{text: "Authentication-Results: mx.example.com; none\r\n", left: 4000}, strings.NewReader(message)), 16 << 20, nil},
		{"1,000 signatures", io.MultiReader(&repeated{text: strings.TrimSuffix(signed, message), left: 1000}, strings.NewReader(message)), 16 << 20, nil},
		{"1,000 levels of MIME", strings.NewReader(head + "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + nested.String()), 1 << 20, nil},
		{"comments 100,000 deep", strings.NewReader("Authentication-Results: " + strings.Repeat("(", 100_000) + "\r\n\r\n"), 4 << 20, nil},
	}
	for _, tt := range tests {
		j := judge(world(t))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c := j.Start(t.Context(), from("a@example.net"), io.Discard)
		_, err := io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{tt.text}, make([]byte, 4096))
		var got Results
		if err == nil {
			got, err = c.Finish()
		}
		c.Stop()
		runtime.ReadMemStats(&after)
		if cost := after.TotalAlloc - before.TotalAlloc; cost > tt.budget {
			t.Errorf("%s: %d octets were allocated, %d are allowed", tt.why, cost, tt.budget)
		}
		if !errors.Is(err, tt.err) || err == nil && got.DMARC.Result == "" {
			t.Errorf("%s: %v, DMARC %q", tt.why, err, got.DMARC.Result)
		}
		if field := got.Header(j.ID); len(field) > MaxHeaderField {
			t.Errorf("%s: a field of %d octets", tt.why, len(field))
		}
	}
}

// benchMessage has 20 kB and a signature.
func benchMessage(t testing.TB) string {
	return sign(t, message+strings.Repeat("a line of the body, as long as most of them are in real mail\r\n", 320))
}

// judged is the whole judgement of a message.
func judged(t testing.TB, j Judge, s Session, text string) {
	c := j.Start(t.Context(), s, io.Discard)
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	got, err := c.Finish()
	c.Stop()
	if err != nil || got.DMARC.Result == "" || got.Header(j.ID) == "" {
		t.Fatal(got.DMARC, err)
	}
}

// TestAllocations: what the judgement of one message costs.
func TestAllocations(t *testing.T) {
	j := judge(world(t))
	for _, row := range []struct {
		why     string
		session Session
		text    string
		budget  float64
	}{
		{"signed, with SPF and DMARC", from("a@example.net"), benchMessage(t), 600},
		{"without any record", Session{Client: netip.MustParseAddr("192.0.2.1"), Helo: "x.example.org", From: "a@example.org"}, strings.ReplaceAll(message, "example.net", "example.org"), 400},
	} {
		if got := testing.AllocsPerRun(20, func() { judged(t, j, row.session, row.text) }); got > row.budget {
			t.Errorf("%s: %.0f allocations, %.0f are allowed", row.why, got, row.budget)
		}
	}
}

// BenchmarkJudge: a message of 20 kB, signed, with SPF and DMARC; the DNS answers from
// memory.
func BenchmarkJudge(b *testing.B) {
	j, text := judge(world(b)), benchMessage(b)
	plain := strings.ReplaceAll(message, "example.net", "example.org")
	for _, row := range []struct {
		name, text string
		session    Session
	}{
		{"signed", text, from("a@example.net")},
		{"plain", plain, Session{Client: netip.MustParseAddr("192.0.2.1"), Helo: "x.example.org", From: "a@example.org"}},
	} {
		b.Run(row.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(row.text)))
			for b.Loop() {
				judged(b, j, row.session, row.text)
			}
		})
	}
}
