package audit

import (
	"io"
	"strings"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/spf"
)

func TestReadMessage(t *testing.T) {
	const sig = "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com;\r\n\ts=2026a; h=from; bh=x;\r\n b=y\r\n"
	for _, tt := range []struct {
		why, text string
		want      string // author, Return-Path, selectors
		fault     string
	}{
		{"a message", "Return-Path: <b@news.example.com>\r\n" + sig + "From: Alice <alice@example.com>\r\n\r\nv=1; hello\r\n", "example.com news.example.com 2026a@example.com", ""},
		{"its header alone, without CR", strings.ReplaceAll(sig+"From: alice@EXAMPLE.com.\n", "\r", ""), "example.com - 2026a@example.com", ""},
		{"no line end at the end", "From: alice@example.com", "example.com -", ""},
		{"a signature alone", sig, " - 2026a@example.com", ""},
		{"and without its name", strings.TrimPrefix(sig, "DKIM-Signature: "), " - 2026a@example.com", ""},
		{"empty lines and an mbox line before", "\n\r\nFrom alice@example.com Fri Nov 27 2026\nFrom: alice@example.com\n", "example.com -", ""},
		{"the null sender", "Return-Path: <>\r\nFrom: alice@example.com\r\n", "example.com ", ""},
		{"two signatures, one broken", sig + "DKIM-Signature: v=1; d\r\n" + strings.Replace(sig, "example.com", "example.net", 1), " - 2026a@example.com 2026a@example.net", ""},
		{"a signature by a list server's author", sig + "From: a@example.com, b@example.net\r\nSender: a@example.com\r\n", "example.com - 2026a@example.com", ""},
		{"nothing", "", "", "it is empty"},
		{"nothing but lines", strings.Repeat("\n", 200), "", "more than 100 empty lines"},
		{"prose", "Dear all,\nhello\n", "", "malformed message header"},
		{"no From and no signature", "Subject: hello\r\n\r\n", "", "neither a From with one domain nor a DKIM-Signature"},
		{"a signature without a selector", "DKIM-Signature: v=1; d=example.com\r\n", "", "no DKIM-Signature in it can be read"},
		{"a signature of a top-level domain", "DKIM-Signature: v=1; d=com; s=x\r\n", "", "no DKIM-Signature in it can be read"},
		{"a header without end", "X: " + strings.Repeat("y", mail.MaxHeader), "", "too large"},
		{"a line without end before it", "From " + strings.Repeat("y", mail.MaxHeader), "", "its first line"},
	} {
		m, err := ReadMessage(strings.NewReader(tt.text))
		if tt.fault != "" {
			if err == nil || !strings.Contains(err.Error(), tt.fault) {
				t.Errorf("%s: got %v, want %q", tt.why, err, tt.fault)
			}
			continue
		}
		got := m.Author.String() + " " + m.Return
		if m.Author.IsZero() {
			got = " " + m.Return
		}
		if !m.Returned {
			got += "-"
		}
		for _, s := range m.Signatures {
			got += " " + s.Selector + "@" + s.Domain.String()
		}
		if err != nil || got != tt.want || m.Domain() != dns.MustName("example.com") {
			t.Errorf("%s: got %q, %s, %v, want %q", tt.why, got, m.Domain(), err, tt.want)
		}
	}
}

// TestReadMessageBody: a message of 10 MB is read no further than its header.
func TestReadMessageBody(t *testing.T) {
	body := &counted{r: strings.NewReader(strings.Repeat("hello\r\n", 10<<20/7))}
	m, err := ReadMessage(io.MultiReader(strings.NewReader("From: alice@example.com\r\n\r\n"), body))
	if err != nil || m.Author != dns.MustName("example.com") || body.n > 64<<10 {
		t.Errorf("%s, %v after %d octets", m.Author, err, body.n)
	}
	many, err := ReadMessage(strings.NewReader(strings.Repeat("DKIM-Signature: v=1; d=example.com; s=x\r\n", 1000)))
	if err != nil || len(many.Signatures) != dkim.MaxSignatures {
		t.Errorf("%d signatures, %v", len(many.Signatures), err)
	}
}

type counted struct {
	r io.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func FuzzReadMessage(f *testing.F) {
	f.Add("Return-Path: <>\r\nDKIM-Signature: v=1; d=example.com; s=x\r\nFrom: a@example.com\r\n\r\n")
	f.Add("v=1; d=example.com; s=x")
	f.Add("\nFrom x\nFrom: a@example.com")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ReadMessage(strings.NewReader(text))
		if err == nil && (m.Domain().IsZero() || len(m.Signatures) > dkim.MaxSignatures) {
			t.Errorf("%+v", m)
		}
	})
}

func TestGuesses(t *testing.T) {
	includes := func(domains ...string) *spf.Tree {
		tree := &spf.Tree{}
		for _, d := range domains {
			tree.Branches = append(tree.Branches, spf.Branch{Term: spf.Term{Name: "include", Domain: spf.Macro(d)}})
		}
		return tree
	}
	deep := includes("spf.example.net")
	deep.Branches[0].Tree = includes("sendgrid.net")
	for _, tt := range []struct {
		why  string
		tree *spf.Tree
		mx   string
		want string
	}{
		{"nothing is known", nil, "mx.example.net", ""},
		{"by SPF", includes("_SPF.google.com"), "", "google"},
		{"below the provider's name", includes("u1.wl.sendgrid.net"), "", "m1 s1 s2 smtpapi"},
		{"by an include of an include", deep, "", "m1 s1 s2 smtpapi"},
		{"by MX", includes("example.net"), "example-com.mail.protection.outlook.com", "selector1 selector2"},
		{"two, each selector once", includes("spf.messagingengine.com", "spf.protection.outlook.com"), "in1-smtp.messagingengine.com", "fm1 fm2 fm3 mesmtp selector1 selector2"},
		{"a name that only ends alike", includes("notsendgrid.net"), "fakegoogle.com", ""},
		{"whose selectors nobody can guess", includes("amazonses.com"), "", ""},
		{"a macro is no name", includes("%{i}.sendgrid.net"), "", "m1 s1 s2 smtpapi"},
	} {
		var hosts []Host
		if tt.mx != "" {
			hosts = []Host{{Name: dns.MustName(tt.mx)}}
		}
		if got := strings.Join(guesses(tt.tree, hosts), " "); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.why, got, tt.want)
		}
	}
	var all []string
	for _, s := range senders {
		all = append(all, s.includes...)
		if !hasProvider(s.provider) {
			t.Errorf("%s has no selectors", s.provider)
		}
	}
	if got := guesses(includes(all...), nil); len(got) != maxGuessed {
		t.Errorf("of all providers %d selectors are guessed", len(got))
	}
}

func hasProvider(name string) bool {
	for _, p := range dkim.Providers() {
		if p.Name == name {
			return true
		}
	}
	return false
}
