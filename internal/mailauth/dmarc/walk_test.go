package dmarc

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
)

// world is the DNS of a test: one zone of everything, and names at which it fails or has
// only what has expired.
type world struct {
	dns.Resolver
	fails, stale []string

	mu    sync.Mutex
	asked []dns.Question
}

// newWorld reads a zone with names that are relative to the root. A line may also say
// "NAME FAILS", for everything at it, or "NAME STALE" beside its records.
func newWorld(t testing.TB, zone string) *world {
	t.Helper()
	w := &world{}
	text := "$TTL 300\n@ SOA ns.example. host.example. 1 2 3 4 5\n@ NS ns.example.\n"
	for line := range strings.Lines(zone) {
		name, what, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch what {
		case "FAILS":
			w.fails = append(w.fails, name)
		case "STALE":
			w.stale = append(w.stale, name)
		default:
			text += strings.TrimSpace(line) + "\n"
		}
	}
	w.Resolver = dnstest.Zone(t, ".", text)
	return w
}

func (w *world) Resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, q)
	if slices.Contains(w.fails, q.Name.String()) {
		return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
	}
	a, err := w.Resolver.Resolve(ctx, q)
	if slices.Contains(w.stale, q.Name.String()) {
		a.Extended = 3 // RFC 8914 §4.4: Stale Answer
	}
	return a, err
}

// names gives the domains whose records were asked for.
func (w *world) names() string {
	var names []string
	for _, q := range w.asked {
		if domain, ok := strings.CutPrefix(q.Name.String(), "_dmarc."); ok {
			names = append(names, domain)
		}
	}
	return strings.Join(names, " ")
}

// policyOf gives a discovery in a few words.
func policyOf(d Discovery) string {
	switch {
	case isTemporary(d.Err):
		return "temperror"
	case errors.Is(d.Err, ErrNotDMARC):
		return "none"
	case errors.Is(d.Err, ErrPermanent):
		return "permerror " + d.Domain.String()
	}
	return d.Domain.String() + " " + d.Tag + "=" + string(d.Policy)
}

const long = "a.b.c.d.e.f.g.h.i.j.mail.example.com"

// TestWalk: which names are asked, what the organizational domain is, and which policy applies.
func TestWalk(t *testing.T) {
	for _, tt := range []struct {
		why    string
		zone   string
		domain string
		asked  string // "" where it is not looked at
		org    string // "" where there is none
		policy string
	}{
		// The tree walk, RFC 9989 §4.10.
		{"the vector of the standard: eight names of a long one", "",
			long, long + " g.h.i.j.mail.example.com h.i.j.mail.example.com i.j.mail.example.com j.mail.example.com mail.example.com example.com com", long, "none"},
		{"seven labels: each name, down to the top", "", "a.b.c.d.e.example.com",
			"a.b.c.d.e.example.com b.c.d.e.example.com c.d.e.example.com d.e.example.com e.example.com example.com com", "a.b.c.d.e.example.com", "none"},
		{"eight labels: the parent has seven", "", "a.b.c.d.e.f.example.com",
			"a.b.c.d.e.f.example.com b.c.d.e.f.example.com c.d.e.f.example.com d.e.f.example.com e.f.example.com f.example.com example.com com", "a.b.c.d.e.f.example.com", "none"},
		{"nine labels: one name is left out", "", "x.a.b.c.d.e.f.example.com",
			"x.a.b.c.d.e.f.example.com b.c.d.e.f.example.com c.d.e.f.example.com d.e.f.example.com e.f.example.com f.example.com example.com com", "x.a.b.c.d.e.f.example.com", "none"},
		{"one label", "", "com", "com", "com", "none"},
		{"two labels", "", "example.com", "example.com com", "example.com", "none"},
		{"a record does not end the walk", `_dmarc.example.com TXT "v=DMARC1; p=reject"`, "example.com", "example.com com", "example.com", "example.com p=reject"},
		{"psd=n ends it", `_dmarc.mail.example.com TXT "v=DMARC1; p=reject; psd=n"`, "mail.example.com", "mail.example.com", "mail.example.com", "mail.example.com p=reject"},
		{"psd=y ends it", `_dmarc.mail.example.com TXT "v=DMARC1; p=reject; psd=y"`, "a.mail.example.com", "a.mail.example.com mail.example.com", "a.mail.example.com", "mail.example.com p=reject"},
		{"psd=u does not", `_dmarc.mail.example.com TXT "v=DMARC1; p=reject; psd=u"`, "mail.example.com", "mail.example.com example.com com", "mail.example.com", "mail.example.com p=reject"},
		{"a wrong psd is u", `_dmarc.mail.example.com TXT "v=DMARC1; p=reject; psd=x"`, "mail.example.com", "mail.example.com example.com com", "mail.example.com", "mail.example.com p=reject"},
		{"psd counts in any case", `_dmarc.mail.example.com TXT "v=DMARC1; p=reject; PSD=N"`, "mail.example.com", "mail.example.com", "mail.example.com", "mail.example.com p=reject"},
		{"psd=n of one of two records counts for nothing", "_dmarc.mail.example.com TXT \"v=DMARC1; p=reject; psd=n\"\n_dmarc.mail.example.com TXT \"v=DMARC1; p=none\"",
			"mail.example.com", "mail.example.com example.com com", "mail.example.com", "none"},

		// The organizational domain, RFC 9989 §4.10.2.
		{"vector: records at two levels: the fewest labels", "_dmarc.mail.example.com TXT \"v=DMARC1; p=none\"\n_dmarc.example.com TXT \"v=DMARC1; p=reject\"",
			"a.mail.example.com", "", "example.com", "example.com p=reject"},
		{"vector: psd=n at the middle one", "_dmarc.mail.example.com TXT \"v=DMARC1; p=none; psd=n\"\n_dmarc.example.com TXT \"v=DMARC1; p=reject\"",
			"a.mail.example.com", "a.mail.example.com mail.example.com", "mail.example.com", "mail.example.com p=none"},
		{"vector: only a top-level domain with psd=y", `_dmarc.com TXT "v=DMARC1; p=reject; psd=y"`, "a.mail.example.com", "", "example.com", "com p=reject"},
		{"vector B.4.3: below a public suffix, with its own record", "_dmarc.bank.example TXT \"v=DMARC1; p=reject; psd=y\"\n_dmarc.giant.bank.example TXT \"v=DMARC1; p=quarantine\"",
			"giant.bank.example", "giant.bank.example bank.example", "giant.bank.example", "giant.bank.example p=quarantine"},
		{"vector B.4.3: the same from below", "_dmarc.bank.example TXT \"v=DMARC1; p=reject; psd=y\"\n_dmarc.giant.bank.example TXT \"v=DMARC1; p=quarantine\"",
			"mail.giant.bank.example", "mail.giant.bank.example giant.bank.example bank.example", "giant.bank.example", "giant.bank.example p=quarantine"},
		{"vector B.4.3: another one below it, without a record", `_dmarc.bank.example TXT "v=DMARC1; p=reject; psd=y"`,
			"mail.mega.bank.example", "mail.mega.bank.example mega.bank.example bank.example", "mega.bank.example", "bank.example p=reject"},
		{"vector B.4.1: three records, the fewest labels", "_dmarc.signing.example.com TXT \"v=DMARC1; p=none\"\n_dmarc.example.com TXT \"v=DMARC1; p=reject\"",
			"signing.example.com", "signing.example.com example.com com", "example.com", "signing.example.com p=none"},
		{"vector B.4.2: a deep name", `_dmarc.example.com TXT "v=DMARC1; p=reject"`, "a.b.c.d.e.f.g.h.i.j.k.example.com", "", "example.com", "example.com p=reject"},
		{"a public suffix that sends as itself", `_dmarc.bank.example TXT "v=DMARC1; p=reject; psd=y; sp=none"`, "bank.example", "bank.example", "bank.example", "bank.example p=reject"},
		{"psd=y right below the top", `_dmarc.co.example TXT "v=DMARC1; p=none; psd=y"`, "a.b.c.co.example", "", "c.co.example", "co.example p=none"},
		{"psd=y stops before what is above it", "_dmarc.co.example TXT \"v=DMARC1; p=none; psd=y\"\n_dmarc.example TXT \"v=DMARC1; p=reject\"",
			"a.co.example", "a.co.example co.example", "a.co.example", "co.example p=none"},
		{"psd=y and records on the way", "_dmarc.co.example TXT \"v=DMARC1; p=none; psd=y\"\n_dmarc.b.c.co.example TXT \"v=DMARC1; p=reject\"",
			"a.b.c.co.example", "", "c.co.example", "co.example p=none"},
		{"a top-level record without psd has the fewest labels", "_dmarc.example TXT \"v=DMARC1; p=none\"\n_dmarc.a.example TXT \"v=DMARC1; p=reject\"",
			"b.a.example", "", "example", "example p=none"},
		{"only the start has a record", `_dmarc.mail.example.com TXT "v=DMARC1; p=reject"`, "mail.example.com", "", "mail.example.com", "mail.example.com p=reject"},
		{"a record below the start is nothing to it", `_dmarc.mail.example.com TXT "v=DMARC1; p=reject"`, "example.com", "", "example.com", "none"},
		{"a record at a sister is nothing either", `_dmarc.a.example.com TXT "v=DMARC1; p=reject"`, "b.example.com", "", "b.example.com", "none"},
		{"a record at a name that a long walk leaves out", `_dmarc.b.c.d.e.f.g.h.i.j.mail.example.com TXT "v=DMARC1; p=reject"`, long, "", long, "none"},
		{"a record at the seven labels of a long walk", `_dmarc.g.h.i.j.mail.example.com TXT "v=DMARC1; p=reject"`, long, "", "g.h.i.j.mail.example.com", "g.h.i.j.mail.example.com p=reject"},
		{"psd=y at the seven labels: one below was not asked", `_dmarc.g.h.i.j.mail.example.com TXT "v=DMARC1; p=reject; psd=y"`,
			long, long + " g.h.i.j.mail.example.com", "f.g.h.i.j.mail.example.com", "g.h.i.j.mail.example.com p=reject"},
		{"the start of a long walk has its own", "_dmarc." + long + ` TXT "v=DMARC1; p=quarantine"`, long, "", long, long + " p=quarantine"},

		// What is a record, RFC 9989 §4.7 and §4.8.
		{"strings are joined without a space", `_dmarc.example.com TXT "v=DMARC1; p=re" "ject"`, "example.com", "", "example.com", "example.com p=reject"},
		{"an alias leads to it", "_dmarc.example.com CNAME policy.example.net.\npolicy.example.net TXT \"v=DMARC1; p=reject\"", "example.com", "", "example.com", "example.com p=reject"},
		{"an alias that leads nowhere", `_dmarc.example.com CNAME policy.example.net.`, "example.com", "", "example.com", "none"},
		{"other texts beside it", "_dmarc.example.com TXT \"hello\"\n_dmarc.example.com TXT \"v=DMARC1; p=reject\"\n_dmarc.example.com TXT \"v=spf1 -all\"",
			"example.com", "", "example.com", "example.com p=reject"},
		{"other texts only", "_dmarc.mail.example.com TXT \"hello\"\n_dmarc.example.com TXT \"v=DMARC1; p=reject\"", "mail.example.com", "", "example.com", "example.com p=reject"},
		{"v in lower case is none", `_dmarc.example.com TXT "v=dmarc1; p=reject"`, "example.com", "", "example.com", "none"},
		{"a space before v is none", `_dmarc.example.com TXT " v=DMARC1; p=reject"`, "example.com", "", "example.com", "none"},
		{"a quotation mark before v is none", `_dmarc.example.com TXT "\"v=DMARC1; p=reject\""`, "example.com", "", "example.com", "none"},
		{"v=DMARC10 is none", `_dmarc.example.com TXT "v=DMARC10; p=reject"`, "example.com", "", "example.com", "none"},
		{"no semicolon is none", `_dmarc.example.com TXT "v=DMARC1 p=reject"`, "example.com", "", "example.com", "none"},
		{"v not first is none", `_dmarc.example.com TXT "p=reject; v=DMARC1"`, "example.com", "", "example.com", "none"},
		{"spaces around the equals sign", `_dmarc.example.com TXT "v = DMARC1 ; p = reject"`, "example.com", "", "example.com", "example.com p=reject"},
		{"a wildcard covers what is not there", `*.example.com TXT "v=DMARC1; p=reject"`, "a.example.com", "", "example.com", "a.example.com p=reject"},
		{"a record at the apex is none", `example.com TXT "v=DMARC1; p=reject"`, "example.com", "", "example.com", "none"},
		{"a record at the wrong name is none", `dmarc.example.com TXT "v=DMARC1; p=reject"`, "example.com", "", "example.com", "none"},

		// Several records: all discarded, and the walk goes on.
		{"two at the only place", "_dmarc.example.com TXT \"v=DMARC1; p=reject\"\n_dmarc.example.com TXT \"v=DMARC1; p=none\"", "example.com", "", "example.com", "none"},
		{"two at the domain, one above", "_dmarc.mail.example.com TXT \"v=DMARC1; p=none\"\n_dmarc.mail.example.com TXT \"v=DMARC1; p=reject\"\n_dmarc.example.com TXT \"v=DMARC1; p=none; sp=quarantine\"",
			"mail.example.com", "", "example.com", "example.com sp=quarantine"},
		{"two in the middle, one above", "_dmarc.b.example.com TXT \"v=DMARC1; p=none; psd=n\"\n_dmarc.b.example.com TXT \"v=DMARC1; p=reject\"\n_dmarc.example.com TXT \"v=DMARC1; p=quarantine\"",
			"a.b.example.com", "", "example.com", "example.com p=quarantine"},
		{"two above, one in the middle", "_dmarc.example.com TXT \"v=DMARC1; p=none\"\n_dmarc.example.com TXT \"v=DMARC1; p=reject\"\n_dmarc.b.example.com TXT \"v=DMARC1; p=quarantine\"",
			"a.b.example.com", "", "b.example.com", "b.example.com p=quarantine"},

		// Records that nobody can use, RFC 9989 §4.10.1.
		{"no p and nobody for reports", `_dmarc.example.com TXT "v=DMARC1; adkim=s"`, "example.com", "", "example.com", "permerror example.com"},
		{"no p, and somebody for reports", `_dmarc.example.com TXT "v=DMARC1; rua=mailto:d@example.com"`, "example.com", "", "example.com", "example.com p=none"},
		{"a wrong p, and somebody for reports", `_dmarc.example.com TXT "v=DMARC1; p=block; rua=mailto:d@example.com"`, "example.com", "", "example.com", "example.com p=none"},
		{"a wrong sp, and somebody for reports", `_dmarc.example.com TXT "v=DMARC1; p=reject; sp=block; rua=mailto:d@example.com"`, "example.com", "", "example.com", "example.com p=none"},
		{"a wrong np, and nobody", `_dmarc.example.com TXT "v=DMARC1; p=reject; np="`, "example.com", "", "example.com", "permerror example.com"},
		{"a useless record is not passed over", "_dmarc.mail.example.com TXT \"v=DMARC1; p=block\"\n_dmarc.example.com TXT \"v=DMARC1; p=reject\"", "mail.example.com", "", "example.com", "permerror mail.example.com"},
		{"a useless one above", `_dmarc.example.com TXT "v=DMARC1; p=block; rua=d@example.com"`, "mail.example.com", "", "example.com", "permerror example.com"},

		// p, sp and np, RFC 9989 §4.10.1.
		{"its own record: p, whatever sp and np say", `_dmarc.example.com TXT "v=DMARC1; p=none; sp=reject; np=reject"`, "example.com", "", "example.com", "example.com p=none"},
		{"its own record below: p too", "_dmarc.example.com TXT \"v=DMARC1; p=none\"\n_dmarc.mail.example.com TXT \"v=DMARC1; p=quarantine; sp=reject\"", "mail.example.com", "", "example.com", "mail.example.com p=quarantine"},
		{"below: sp", "_dmarc.example.com TXT \"v=DMARC1; p=none; sp=quarantine\"\nmail.example.com A 192.0.2.1", "mail.example.com", "", "example.com", "example.com sp=quarantine"},
		{"below without sp: p", "_dmarc.example.com TXT \"v=DMARC1; p=reject\"\nmail.example.com A 192.0.2.1", "mail.example.com", "", "example.com", "example.com p=reject"},
		{"not there: np", `_dmarc.example.com TXT "v=DMARC1; p=none; sp=quarantine; np=reject"`, "gone.example.com", "", "example.com", "example.com np=reject"},
		{"not there without np: sp", `_dmarc.example.com TXT "v=DMARC1; p=none; sp=quarantine"`, "gone.example.com", "", "example.com", "example.com sp=quarantine"},
		{"not there without np and sp: p", `_dmarc.example.com TXT "v=DMARC1; p=quarantine"`, "gone.example.com", "", "example.com", "example.com p=quarantine"},
		{"another type is there (NODATA): it exists", "_dmarc.example.com TXT \"v=DMARC1; p=none; sp=quarantine; np=reject\"\nmail.example.com MX 10 mx.example.com.",
			"mail.example.com", "", "example.com", "example.com sp=quarantine"},
		{"nothing but something below: it exists", "_dmarc.example.com TXT \"v=DMARC1; p=none; sp=quarantine; np=reject\"\nx.mail.example.com A 192.0.2.1",
			"mail.example.com", "", "example.com", "example.com sp=quarantine"},
		{"an alias that leads nowhere: it exists", "_dmarc.example.com TXT \"v=DMARC1; p=none; sp=quarantine; np=reject\"\nmail.example.com CNAME gone.example.net.",
			"mail.example.com", "", "example.com", "example.com sp=quarantine"},
		{"a text at _dmarc below it: it exists", "_dmarc.example.com TXT \"v=DMARC1; p=none; sp=quarantine; np=reject\"\n_dmarc.mail.example.com TXT \"hello\"",
			"mail.example.com", "", "example.com", "example.com sp=quarantine"},
		{"np of a public suffix, for a name that nobody has registered", `_dmarc.gov.example TXT "v=DMARC1; p=none; sp=none; np=reject; psd=y"`, "fake.gov.example", "", "fake.gov.example", "gov.example np=reject"},
		{"the suffix has nothing to say where the organization has a record", "_dmarc.example TXT \"v=DMARC1; p=reject; psd=y\"\n_dmarc.foo.example TXT \"v=DMARC1; p=none\"",
			"mail.foo.example", "", "foo.example", "foo.example p=none"},
		{"sp of a public suffix", "_dmarc.bank.example TXT \"v=DMARC1; p=reject; sp=quarantine; psd=y\"", "mail.giant.bank.example", "", "giant.bank.example", "bank.example sp=quarantine"},

		// Trouble is never absence.
		{"at the domain", "_dmarc.example.com FAILS", "example.com", "example.com", "", "temperror"},
		{"at the domain, with a record above", "_dmarc.mail.example.com FAILS\n_dmarc.example.com TXT \"v=DMARC1; p=reject\"", "mail.example.com", "", "", "temperror"},
		{"in the middle", "_dmarc.b.example.com FAILS\n_dmarc.example.com TXT \"v=DMARC1; p=reject\"", "a.b.example.com", "a.b.example.com b.example.com", "", "temperror"},
		{"at the top", "_dmarc.com FAILS\n_dmarc.example.com TXT \"v=DMARC1; p=reject\"", "mail.example.com", "", "", "temperror"},
		{"above psd=n nobody asks", "_dmarc.com FAILS\n_dmarc.example.com TXT \"v=DMARC1; p=reject; psd=n\"", "mail.example.com", "", "example.com", "example.com p=reject"},
		{"of the existence, which np needs", "gone.example.com FAILS\n_dmarc.example.com TXT \"v=DMARC1; p=none; np=reject\"", "gone.example.com", "", "example.com", "temperror"},
		{"of the existence, which nobody needs", "gone.example.com FAILS\n_dmarc.example.com TXT \"v=DMARC1; p=none; sp=reject\"", "gone.example.com", "", "example.com", "example.com sp=reject"},
		{"an expired denial is trouble", "_dmarc.example.com STALE", "example.com", "", "", "temperror"},
		{"an expired record serves", "_dmarc.example.com STALE\n_dmarc.example.com TXT \"v=DMARC1; p=reject\"", "example.com", "", "example.com", "example.com p=reject"},

		// Names.
		{"a name too long for _dmarc below it", "_dmarc.example.com TXT \"v=DMARC1; p=reject\"", strings.Repeat("abcdefghi.", 23) + "abcdefg.example.com", "", "example.com", "example.com p=reject"},
		{"upper case", `_dmarc.example.com TXT "v=DMARC1; p=reject"`, "EXAMPLE.com.", "", "example.com", "example.com p=reject"},
		{"U-labels", `_dmarc.xn--bcher-kva.example TXT "v=DMARC1; p=reject"`, "bücher.example", "", "xn--bcher-kva.example", "xn--bcher-kva.example p=reject"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			w := newWorld(t, tt.zone)
			d := Discover(t.Context(), w, dns.MustName(tt.domain))
			if got := policyOf(d); got != tt.policy || d.Org.String() != tt.org {
				t.Errorf("organizational domain %q and %q, want %q and %q\n%s", d.Org, got, tt.org, tt.policy, d)
			}
			if names := w.names(); tt.asked != "" && names != tt.asked {
				t.Errorf("asked %s\nwant  %s", names, tt.asked)
			}
			if len(d.Steps) > MaxQuestions || len(w.asked) > MaxQuestions+1 {
				t.Errorf("%d steps, %d questions", len(d.Steps), len(w.asked))
			}
			if isTemporary(d.Err) != (dns.TroubleOf(d.Err) != 0) {
				t.Errorf("%v", d.Err)
			}
		})
	}
}

// TestListOrg: what receivers see that go by the public-suffix list.
func TestListOrg(t *testing.T) {
	for domain, want := range map[string]string{
		"a.b.example.com": "example.com", "example.com": "example.com", "com": "com", "a.b.co.uk": "b.co.uk", "co.uk": "co.uk", "a.example": "a.example", "x.a.example": "a.example",
	} {
		if got := ListOrg(dns.MustName(domain)); got.String() != want {
			t.Errorf("%s: %s, want %s", domain, got, want)
		}
	}
}
