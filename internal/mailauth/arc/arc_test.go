package arc_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/arc"
	"mxward/internal/mailauth/dkim"
)

// keyRecords is a DNS of TXT records. A record "TROUBLE" stands for a name that cannot be
// asked for; names that are not in it do not exist.
type keyRecords map[string][]string

func (k keyRecords) Resolve(_ context.Context, q dns.Question) (dns.Answer, error) {
	records, ok := k[q.Name.String()]
	if !ok || q.Type != dns.TypeTXT {
		return dns.Answer{Rcode: dns.NXDomain}, nil
	}
	var a dns.Answer
	for _, text := range records {
		if text == "TROUBLE" {
			return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
		}
		rr, err := dns.ParseRecord(q.Name, "TXT "+quoted(text))
		if err != nil {
			return dns.Answer{}, err
		}
		a.Answer = append(a.Answer, rr)
	}
	return a, nil
}

// quoted writes text as the strings of a TXT record.
func quoted(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if i%200 == 0 {
			if i > 0 {
				b.WriteString(`" `)
			}
			b.WriteString(`"`)
		}
		fmt.Fprintf(&b, "\\%03d", text[i])
	}
	return b.String() + `"`
}

// The keys of the tests, made once.
var (
	rsaKey     = sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 1024)) })
	ed25519Key = sync.OnceValue(func() crypto.Signer { return must(dkim.GenerateEd25519()) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// published is where the keys of the tests are.
func published() keyRecords {
	return keyRecords{
		"rsa._domainkey.example.com":     {must(dkim.KeyOf(rsaKey())).String()},
		"ed25519._domainkey.example.com": {must(dkim.KeyOf(ed25519Key())).String()},
		"ed25519._domainkey.example.net": {must(dkim.KeyOf(ed25519Key())).String()},
	}
}

func sealer(selector string) arc.Sealer {
	key := map[string]func() crypto.Signer{"rsa": rsaKey, "ed25519": ed25519Key}[selector]
	return arc.Sealer{Domain: dns.MustName("example.com"), Selector: selector, Key: key()}
}

const (
	message = "From: A <a@example.com>\r\nTo: b@example.net\r\nSubject: one\r\n\ttwo\r\nDate: Mon, 1 Jun 2026 10:00:00 +0000\r\n\r\nHello  there \r\n\r\nbye\r\n\r\n\r\n"
	results = "mx.example.com; spf=pass smtp.mailfrom=a@example.com; dkim=none"
)

func validate(t testing.TB, r dns.Resolver, text string) arc.Chain {
	t.Helper()
	got, err := arc.Verifier{Resolver: r}.Validate(context.Background(), strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// seal validates and seals in one pass over the body.
func seal(t testing.TB, s arc.Sealer, r dns.Resolver, text, results string) (string, error) {
	t.Helper()
	body := bufio.NewReader(strings.NewReader(text))
	h, err := mail.ReadHeader(body)
	if err != nil {
		t.Fatal(err)
	}
	check := arc.Verifier{Resolver: r}.Start(context.Background(), h)
	sealing, err := s.Start(h)
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(io.MultiWriter(check, sealing), body); err != nil {
		t.Fatal(err)
	}
	return sealing.Finish(check.Finish(), results)
}

// sealChain seals a message that was changed since its chain was validated.
func sealChain(t testing.TB, s arc.Sealer, chain arc.Chain, text string) string {
	t.Helper()
	body := bufio.NewReader(strings.NewReader(text))
	sealing := must(s.Start(must(mail.ReadHeader(body))))
	if _, err := io.Copy(sealing, body); err != nil {
		t.Fatal(err)
	}
	return must(sealing.Finish(chain, results))
}

// sealed puts sets on a message, one for each selector.
func sealed(t testing.TB, text string, selectors ...string) string {
	t.Helper()
	for _, selector := range selectors {
		fields, err := seal(t, sealer(selector), published(), text, results)
		if err != nil {
			t.Fatal(err)
		}
		text = fields + text
	}
	return text
}

func TestSealAndValidate(t *testing.T) {
	one := sealed(t, message, "rsa")
	three := sealed(t, message, "rsa", "ed25519", "rsa")
	posted := sealed(t, message, "rsa", "rsa")
	listed := strings.Replace(posted, "Subject: one", "Subject: [list] one", 1)
	lists := sealed(t, sealChain(t, sealer("ed25519"), validate(t, published(), posted), listed)+listed, "rsa")
	tests := []struct {
		text   string
		want   arc.Status
		oldest int
		reason string // a part of it
		why    string
	}{
		{message, arc.None, 0, "", "no chain"},
		{one, arc.Pass, 0, "", "one set"},
		{strings.ReplaceAll(one, "\r\n", "\n"), arc.Pass, 0, "", "lines that end with LF"},
		{three, arc.Pass, 0, "", "both algorithms"},
		{lists, arc.Pass, 3, "", "a list changed the subject before set 3 (RFC 8617 §5.2 step 5)"},
		{strings.Replace(one, "Subject: one", "Subject: two", 1), arc.Fail, 0, "message signature of set 1", "the subject was changed"},
		{strings.Replace(three, "Hello", "Hullo", 1), arc.Fail, 0, "message signature of set 3", "the body was changed"},
		{strings.Replace(three, "i=2; mx.example.com;\r\n spf=pass", "i=2; mx.example.com;\r\n spf=fail", 1), arc.Fail, 0, "seal of set 3", "what set 2 said was changed"},
		{strings.Replace(one, "cv=none", "cv=pass", 1), arc.Fail, 0, "cv=pass, expected none", "the first seal says pass"},
		{strings.Replace(three, "cv=pass", "cv=none", 1), arc.Fail, 0, "cv=none, expected pass", "a later seal says none"},
		{strings.Replace(one, "ARC-Seal", "X-Seal", 1), arc.Fail, 0, "set 1 has no ARC-Seal", "no seal"},
		{strings.Replace(three, "i=2; mx", "i=4; mx", 1), arc.Fail, 0, "set 2 has no ARC-Authentication-Results", "a gap"},
		{strings.Replace(three, "i=2; mx", "i=51; mx", 1), arc.Fail, 0, "expected i=1 to 50", "RFC 8617 §4.2.1"},
		{strings.Replace(three, "i=2; mx", "i=3; mx", 1), arc.Fail, 0, "set 3 has two", "twice"},
		{strings.Replace(one, "rsa-sha256", "rsa-sha1", 1), arc.Fail, 0, "rsa-sha1 is not accepted", "RFC 8301 §3.1"},
		{strings.Replace(one, "s=rsa", "s=gone", 1), arc.Fail, 0, "does not exist", "no key"},
		{strings.Replace(one, "s=rsa", "s=ed25519", 1), arc.Fail, 0, "it is for ed25519", "a key of another type"},
		{strings.Repeat("ARC-Seal: i=1\r\n", 151) + message, arc.Fail, 0, "lacks a=", "more fields than 50 sets have"},
	}
	for _, tt := range tests {
		got := validate(t, published(), tt.text)
		if got.Status != tt.want || got.OldestPass != tt.oldest || !strings.Contains(got.Reason, tt.reason) {
			t.Errorf("%s: want %s, oldest-pass %d, %q; got %d, %s", tt.why, tt.want, tt.oldest, tt.reason, got.OldestPass, got)
		}
	}
}

// TestTrouble: what could not be asked for is neither a pass nor a fail, and is not sealed.
func TestTrouble(t *testing.T) {
	text := sealed(t, sealed(t, message, "rsa"), "ed25519")
	tests := []struct {
		zone keyRecords
		text string
		want arc.Status
		why  string
	}{
		{keyRecords{"ed25519._domainkey.example.com": {"TROUBLE"}}, text, arc.Fail, "the first key is not there: no answer can mend that"},
		{keyRecords{"rsa._domainkey.example.com": {"TROUBLE"}, "ed25519._domainkey.example.com": published()["ed25519._domainkey.example.com"]}, text, arc.TempError, "the first key cannot be asked for"},
		{keyRecords{"ed25519._domainkey.example.com": {"TROUBLE"}, "rsa._domainkey.example.com": published()["rsa._domainkey.example.com"]}, text, arc.TempError, "the newest key cannot be asked for"},
		{keyRecords{"ed25519._domainkey.example.com": {"TROUBLE"}, "rsa._domainkey.example.com": {"TROUBLE"}}, strings.Replace(text, "Hello", "Hullo", 1), arc.Fail, "the body was changed, whatever the keys are"},
	}
	for _, tt := range tests {
		got := validate(t, tt.zone, tt.text)
		var trouble *dns.Error
		if got.Status != tt.want || errors.As(got.Err, &trouble) != (tt.want == arc.TempError) || errors.Is(got.Err, arc.ErrTemporary) != (tt.want == arc.TempError) {
			t.Errorf("%s: want %s, got %s (%v)", tt.why, tt.want, got, got.Err)
		}
		fields, err := seal(t, sealer("rsa"), tt.zone, tt.text, results)
		if temporary := errors.Is(err, arc.ErrTemporary) && errors.Is(err, arc.ErrSeal); temporary != (tt.want == arc.TempError) || temporary != (fields == "") {
			t.Errorf("%s: sealing: %v\n%s", tt.why, err, fields)
		}
	}
}

// TestEnd: a broken chain is sealed once with cv=fail, and then by nobody.
func TestEnd(t *testing.T) {
	broken := strings.Replace(sealed(t, message, "rsa", "rsa"), "Hello", "Hullo", 1)
	fields, err := seal(t, sealer("rsa"), published(), broken, results)
	if err != nil || !strings.Contains(fields, "cv=fail") || !strings.Contains(fields, "i=3; mx") {
		t.Fatalf("%v\n%s", err, fields)
	}
	got := validate(t, published(), fields+broken)
	if got.Status != arc.Fail || !got.Ended || got.Highest != 3 {
		t.Errorf("got %s", got)
	}
	if more, err := seal(t, sealer("rsa"), published(), fields+broken, results); !errors.Is(err, arc.ErrEnded) || more != "" {
		t.Errorf("sealed again: %v\n%s", err, more)
	}
}

// passing is the status of a chain of so many sets that hold.
func passing(sets int) arc.Status {
	if sets == 0 {
		return arc.None
	}
	return arc.Pass
}

// TestLongestChain: 50 sets are a chain, the 51st is not made (RFC 8617 §5.1). Few message
// signatures are verified, each key is asked for once.
func TestLongestChain(t *testing.T) {
	text := message
	for i := range arc.MaxInstance {
		s := sealer("ed25519")
		s.Domain = dns.MustName([]string{"example.com", "example.net"}[i%2])
		text = sealChain(t, s, arc.Chain{Status: passing(i), Highest: i}, text) + text
	}
	counting := &counter{keyRecords: published()}
	got := validate(t, counting, text)
	looked := 0
	for _, s := range got.Sets {
		if s.SignatureResult.Status == arc.Pass {
			looked++
		}
	}
	if got.Status != arc.Pass || looked != arc.MaxSignatures || got.OldestPass != arc.MaxInstance-arc.MaxSignatures+1 || counting.asked != 2 {
		t.Errorf("%d signatures, %d keys asked for, oldest-pass %d, %s", looked, counting.asked, got.OldestPass, got.Reason)
	}
	if _, err := seal(t, sealer("rsa"), published(), text, results); !errors.Is(err, arc.ErrEnded) {
		t.Errorf("the 51st: %v", err)
	}
}

// counter counts questions.
type counter struct {
	keyRecords
	mu    sync.Mutex
	asked int
}

func (c *counter) Resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	c.mu.Lock()
	c.asked++
	c.mu.Unlock()
	return c.keyRecords.Resolve(ctx, q)
}

func TestSealRefuses(t *testing.T) {
	with := func(change func(*arc.Sealer)) arc.Sealer {
		s := sealer("rsa")
		change(&s)
		return s
	}
	tests := []struct {
		sealer  arc.Sealer
		results string
		why     string
	}{
		{with(func(s *arc.Sealer) { s.Key = nil }), results, "no key"},
		{with(func(s *arc.Sealer) { s.Selector = "" }), results, "no selector"},
		{with(func(s *arc.Sealer) { s.Domain = dns.Name{} }), results, "no domain"},
		{with(func(s *arc.Sealer) { s.Fields = []string{"From", "ARC-Seal"} }), results, "RFC 8617 §4.1.2"},
		{with(func(s *arc.Sealer) { s.Fields = []string{"From", "arc-message-signature"} }), results, "RFC 8617 §4.1.2"},
		{with(func(s *arc.Sealer) { s.Fields = []string{"From", "Authentication-Results"} }), results, "RFC 8617 §4.1.2"},
		{with(func(s *arc.Sealer) { s.Fields = []string{"From:To"} }), results, "two names in one"},
		{sealer("rsa"), "", "no results"},
		{sealer("rsa"), "mx.example.com; spf=pass\nX-Spam: no", "a line feed"},
		{sealer("rsa"), "mx.example.com; spf=\x00", "a control character"},
		{sealer("rsa"), "mx.example.com; spf=pass reason=\"" + strings.Repeat("x", 1000) + "\"", "a long line"},
		{sealer("rsa"), strings.Repeat("mx.example.com; spf=pass; ", 4000), "too much"},
	}
	for _, tt := range tests {
		fields, err := seal(t, tt.sealer, published(), message, tt.results)
		if !errors.Is(err, arc.ErrSeal) || fields != "" {
			t.Errorf("%s: %v\n%s", tt.why, err, fields)
		}
	}
	sealing := must(sealer("rsa").Start(must(mail.ReadHeader(bufio.NewReader(strings.NewReader(sealed(t, message, "rsa")))))))
	for _, other := range []arc.Chain{{}, {Status: arc.None}, {Status: arc.Pass, Highest: 2}, {Status: arc.Fail, Highest: 1, Ended: true}, {Highest: 1}} {
		if _, err := sealing.Finish(other, results); !errors.Is(err, arc.ErrSeal) {
			t.Errorf("sealed with the chain of another message: %+v", other)
		}
	}
}

// TestLines: what is made is fit for the wire, and h= is as it has to be.
func TestLines(t *testing.T) {
	text := "DKIM-Signature: v=1\r\nReceived: x\r\nTo: a\r\nTo: b\r\n\r\n"
	fields, err := seal(t, sealer("rsa"), published(), text, results)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(fields, "\r\n"), "\r\n") {
		if len(line) > 78 && !strings.HasPrefix(line, " b=") {
			t.Errorf("a line of %d octets: %s", len(line), line)
		}
	}
	if got := validate(t, published(), fields+text); strings.Join(got.Sets[0].Signature.Fields, ":") != "From:To:To:DKIM-Signature" || got.Status != arc.Pass {
		t.Errorf("h=%s\n%s", got.Sets[0].Signature.Fields, got)
	}
}

func TestExpired(t *testing.T) {
	past := strings.Replace(sealed(t, message, "rsa"), "h=From", fmt.Sprintf("x=%d; h=From", time.Now().Add(-time.Hour).Unix()), 1)
	if got := validate(t, published(), past); got.Status != arc.Fail || !strings.Contains(got.Reason, "expired") {
		t.Errorf("got %s", got)
	}
}

// TestTrace: a person can read it, and strangers cannot write to the terminal.
func TestTrace(t *testing.T) {
	text := sealed(t, message, "rsa", "ed25519")
	want := `arc=pass
set 2, sealed by example.com (ed25519, cv=pass)
  seal: pass
  message signature by example.com (ed25519): pass
  they said: mx.example.com; spf=pass smtp.mailfrom=a@example.com; dkim=none
set 1, sealed by example.com (rsa, cv=none)
  seal: pass
  message signature by example.com (rsa): pass
  they said: mx.example.com; spf=pass smtp.mailfrom=a@example.com; dkim=none
`
	if got := validate(t, published(), text).String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	evil := validate(t, published(), strings.Replace(text, "dkim=none", "\x1b[2J\u009b", 1)).String()
	if strings.ContainsAny(evil, "\x1b\u009b") {
		t.Errorf("%q", evil)
	}
}
