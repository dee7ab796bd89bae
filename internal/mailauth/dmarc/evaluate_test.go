package dmarc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
)

// identifiers reads "spf pass example.com, dkim fail example.net".
func identifiers(text string) Message {
	var m Message
	for part := range strings.SplitSeq(text, ", ") {
		words := strings.Fields(part)
		if len(words) != 3 {
			continue
		}
		id := Identifier{Method: words[0], Result: words[1], Domain: words[2]}
		if id.Method == MethodSPF {
			m.SPF = id
		} else {
			m.DKIM = append(m.DKIM, id)
		}
	}
	return m
}

const (
	rejects = `_dmarc.example.com TXT "v=DMARC1; p=reject"` + "\n"
	strict  = `_dmarc.example.com TXT "v=DMARC1; p=reject; adkim=s; aspf=s"` + "\n"
	bank    = `_dmarc.bank.example TXT "v=DMARC1; p=reject; psd=y"` + "\n" + `_dmarc.giant.bank.example TXT "v=DMARC1; p=quarantine"` + "\n"
)

func TestEvaluate(t *testing.T) {
	for _, tt := range []struct {
		why  string
		zone string
		from string // a domain or a whole From
		ids  string
		want string // result, disposition, and by which methods it passes
	}{
		// Alignment, RFC 9989 §4.4.
		{"nothing", rejects, "example.com", "", "fail reject"},
		{"SPF of the domain itself", rejects, "example.com", "spf pass example.com", "pass none spf"},
		{"a signature of the domain itself", rejects, "example.com", "dkim pass example.com", "pass none dkim"},
		{"both", rejects, "example.com", "spf pass example.com, dkim pass example.com", "pass none spf dkim"},
		{"both, one below", rejects, "example.com", "spf pass bounce.example.com, dkim pass example.com", "pass none spf dkim"},
		{"relaxed: below", rejects, "example.com", "dkim pass mail.example.com", "pass none dkim"},
		{"relaxed: above", rejects, "mail.example.com", "dkim pass example.com", "pass none dkim"},
		{"relaxed: beside", rejects, "a.example.com", "spf pass b.example.com", "pass none spf"},
		{"case and dots do not matter", rejects, "EXAMPLE.com", "spf pass Example.COM.", "pass none spf"},
		{"U-labels are A-labels", `_dmarc.xn--bcher-kva.example TXT "v=DMARC1; p=reject"`, "bücher.example", "dkim pass xn--bcher-kva.example", "pass none dkim"},
		{"strict: itself", strict, "example.com", "dkim pass example.com", "pass none dkim"},
		{"strict: below", strict, "example.com", "dkim pass mail.example.com", "fail reject"},
		{"strict: above", strict, "mail.example.com", "spf pass example.com", "fail reject"},
		{"strict for DKIM only", `_dmarc.example.com TXT "v=DMARC1; p=reject; adkim=s"`, "example.com", "spf pass mail.example.com, dkim pass mail.example.com", "pass none spf"},
		{"strict for SPF only", `_dmarc.example.com TXT "v=DMARC1; p=reject; aspf=s"`, "example.com", "spf pass mail.example.com, dkim pass mail.example.com", "pass none dkim"},
		{"another domain", rejects, "example.com", "spf pass example.net, dkim pass example.org", "fail reject"},
		{"another one with the same top", rejects, "example.com", "spf pass evil.com, dkim pass notexample.com", "fail reject"},
		{"the second signature", rejects, "example.com", "dkim pass example.net, dkim pass mail.example.com", "pass none dkim"},
		{"a domain that is none", rejects, "example.com", "spf pass -, dkim pass example..com", "fail reject"},
		{"the root", rejects, "example.com", "dkim pass .", "fail reject"},
		{"vector B.4.3: SPF is aligned, the signature is not", bank, "giant.bank.example", "spf pass mail.giant.bank.example, dkim pass mail.mega.bank.example", "pass none spf"},
		{"two registrants below one suffix", bank, "giant.bank.example", "dkim pass mega.bank.example", "fail quarantine"},
		{"the suffix for its registrant", bank, "giant.bank.example", "spf pass bank.example", "fail quarantine"},
		{"the registrant for the suffix", bank, "bank.example", "spf pass giant.bank.example", "fail reject"},
		{"psd=n parts a subdomain", rejects + `_dmarc.mail.example.com TXT "v=DMARC1; p=reject; psd=n"`, "mail.example.com", "dkim pass example.com", "fail reject"},
		{"and the other way", rejects + `_dmarc.mail.example.com TXT "v=DMARC1; p=reject; psd=n"`, "example.com", "dkim pass mail.example.com", "fail reject"},
		{"vector B.4.1", rejects + `_dmarc.signing.example.com TXT "v=DMARC1; p=none"`, "example.com", "spf pass example.com, dkim pass signing.example.com", "pass none spf dkim"},
		{"vector B.4.2", rejects + `_dmarc.signing.example.com TXT "v=DMARC1; p=none"`, "a.b.c.d.e.f.g.h.i.j.k.example.com", "spf pass example.com, dkim pass signing.example.com", "pass none spf dkim"},

		// Only pass makes an identifier.
		{"results that are no pass", rejects, "example.com", "spf softfail example.com, dkim fail example.com, dkim policy example.com, dkim permerror example.com, dkim neutral example.com", "fail reject"},
		{"a signature fails, another passes", rejects, "example.com", "dkim fail example.com, dkim pass example.com", "pass none dkim"},
		{"temperror of what would be aligned", rejects, "example.com", "spf temperror mail.example.com, dkim fail example.com", "temperror none"},
		{"temperror of a signature", rejects, "example.com", "dkim temperror example.com", "temperror none"},
		{"temperror of somebody else", rejects, "example.com", "spf temperror example.net, dkim temperror mail.example.org", "fail reject"},
		{"temperror of what would not be, as alignment is strict", strict, "example.com", "spf temperror mail.example.com", "fail reject"},
		{"temperror beside a pass", rejects, "example.com", "spf temperror example.com, dkim pass example.com", "pass none dkim"},

		// The policy.
		{"no record", "", "example.com", "spf pass example.com", "none none"},
		{"p=none", `_dmarc.example.com TXT "v=DMARC1; p=none"`, "example.com", "", "fail none"},
		{"p=quarantine", `_dmarc.example.com TXT "v=DMARC1; p=quarantine"`, "example.com", "", "fail quarantine"},
		{"t=y with reject", `_dmarc.example.com TXT "v=DMARC1; p=reject; t=y"`, "example.com", "", "fail quarantine"},
		{"t=y with quarantine", `_dmarc.example.com TXT "v=DMARC1; p=quarantine; t=y"`, "example.com", "", "fail none"},
		{"t=y with none", `_dmarc.example.com TXT "v=DMARC1; p=none; t=y"`, "example.com", "", "fail none"},
		{"t=y with sp", `_dmarc.example.com TXT "v=DMARC1; p=none; sp=reject; t=y"`, "a.example.com", "", "fail quarantine"},
		{"pct=0 is nothing", `_dmarc.example.com TXT "v=DMARC1; p=reject; pct=0"`, "example.com", "", "fail reject"},
		{"np", `_dmarc.example.com TXT "v=DMARC1; p=none; np=reject"`, "gone.example.com", "", "fail reject"},
		{"a useless record", `_dmarc.example.com TXT "v=DMARC1; p=x"`, "example.com", "spf pass example.com", "permerror none"},
		{"a useless record with somebody for reports", `_dmarc.example.com TXT "v=DMARC1; p=x; rua=mailto:a@example.com"`, "example.com", "dkim pass example.net", "fail none"},
		{"two records", rejects + `_dmarc.example.com TXT "v=DMARC1; p=none"`, "example.com", "", "none none"},

		// Trouble: nothing is lost by it, and nothing counts as absent.
		{"of the policy", "_dmarc.example.com FAILS", "example.com", "spf pass example.com", "temperror none"},
		{"on the walk", rejects + "_dmarc.a.example.com FAILS", "b.a.example.com", "spf pass b.a.example.com", "temperror none"},
		{"above the author, and nobody needs to know", rejects + "_dmarc.com FAILS", "example.com", "dkim pass example.com", "pass none dkim"},
		{"above the author, and nothing has passed", rejects + "_dmarc.com FAILS", "example.com", "dkim fail example.com", "fail reject"},
		{"above the author, and it matters", rejects + "_dmarc.com FAILS", "example.com", "dkim pass mail.example.com", "temperror none"},
		{"of an identifier, and it matters", rejects + "_dmarc.mail.example.com FAILS", "example.com", "dkim pass mail.example.com", "temperror none"},
		{"of an identifier, and another one passes", rejects + "_dmarc.mail.example.com FAILS", "example.com", "dkim pass mail.example.com, spf pass bounce.example.com", "pass none spf"},
		{"of an identifier of somebody else", rejects + "_dmarc.mail.example.net FAILS", "example.com", "dkim pass mail.example.net", "fail reject"},
		{"of the existence", `_dmarc.example.com TXT "v=DMARC1; p=none; np=reject"` + "\ngone.example.com FAILS", "gone.example.com", "", "temperror none"},
		{"an expired record rejects nothing", rejects + "_dmarc.example.com STALE", "example.com", "", "temperror none"},
		{"it lets pass", rejects + "_dmarc.example.com STALE", "example.com", "spf pass example.com", "pass none spf"},
		{"it quarantines", `_dmarc.example.com TXT "v=DMARC1; p=quarantine"` + "\n_dmarc.example.com STALE", "example.com", "", "fail quarantine"},
		{"expired, of an identifier", rejects + "_dmarc.mail.example.com STALE\n_dmarc.mail.example.com TXT \"v=DMARC1; p=none; psd=n\"", "example.com", "dkim pass mail.example.com", "temperror none"},
		{"expired, of the existence", `_dmarc.example.com TXT "v=DMARC1; p=none; np=none; sp=reject"` + "\na.example.com A 192.0.2.1\na.example.com STALE", "a.example.com", "", "temperror none"},

		// What the public-suffix list softens.
		{"RFC 7489 would see it aligned", `_dmarc.mail.example.com TXT "v=DMARC1; p=reject"`, "mail.example.com", "dkim pass example.com", "fail quarantine old"},
		{"beside it", `_dmarc.mail.example.com TXT "v=DMARC1; p=reject"`, "mail.example.com", "spf pass bounce.example.com", "fail quarantine old"},
		{"not below a registries' suffix", `_dmarc.a.co.uk TXT "v=DMARC1; p=reject"`, "a.co.uk", "dkim pass b.co.uk", "fail reject"},
		{"not where alignment is strict", `_dmarc.mail.example.com TXT "v=DMARC1; p=reject; adkim=s"`, "mail.example.com", "dkim pass example.com", "fail reject"},
		{"not where somebody knows of psd", `_dmarc.mail.example.com TXT "v=DMARC1; p=reject; psd=n"`, "mail.example.com", "dkim pass example.com", "fail reject"},
		{"not what has not passed", `_dmarc.mail.example.com TXT "v=DMARC1; p=reject"`, "mail.example.com", "dkim fail example.com", "fail reject"},

		// Several domains in From.
		{"one domain twice", rejects, "From: a@example.com, b@EXAMPLE.com", "spf pass example.com", "pass none spf"},
		{"two, and one fails", rejects, "From: a@example.net, b@example.com", "spf pass example.net", "fail reject"},
		{"two, and both pass", rejects + `_dmarc.example.net TXT "v=DMARC1; p=reject"`, "From: a@example.net, b@example.com", "spf pass example.net, dkim pass example.com", "pass none spf"},
		{"the worse of two", rejects + `_dmarc.example.net TXT "v=DMARC1; p=quarantine"`, "From: a@example.net, b@example.com", "", "fail reject"},
		{"what is sure goes before trouble", rejects + "_dmarc.example.net FAILS", "From: a@example.net, b@example.com", "", "fail reject"},
		{"trouble goes before a pass", rejects + "_dmarc.example.net FAILS", "From: a@example.com, b@example.net", "spf pass example.com", "temperror none"},
		{"too many", rejects, "From: a@example.com, a@b.example, a@c.example, a@d.example", "spf pass example.com", "permerror none"},
		{"no address", rejects, "From: undisclosed:;", "spf pass example.com", "permerror none"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			w := newWorld(t, tt.zone)
			m := identifiers(tt.ids)
			from, whole := strings.CutPrefix(tt.from, "From: ")
			if !whole {
				from = "Somebody <a@" + from + ">"
			}
			m.From = []string{from}
			v := Evaluate(t.Context(), w, m)
			got := fmt.Sprintf("%s %s", v.Result, v.Disposition)
			for _, method := range []string{MethodSPF, MethodDKIM} {
				if _, ok := v.Aligned(method); ok {
					got += " " + method
				}
			}
			if v.Old != nil {
				got += " old"
			}
			if got != tt.want {
				t.Errorf("%s, want %s\n%s", got, tt.want, v)
			}
			classes := map[Result]error{TempError: ErrTemporary, ResultNone: ErrNotDMARC}
			if class := classes[v.Result]; !errors.Is(v.Err, class) && class != nil || v.Reason == "" || !strings.Contains(v.String(), v.Reason) {
				t.Errorf("%v\n%s", v.Err, v)
			}
			if (v.Result == Pass || v.Result == Fail) && v.Err != nil {
				t.Error(v.Err)
			}
		})
	}
}

// TestQuestions: an evaluation asks for no more than it needs.
func TestQuestions(t *testing.T) {
	for _, tt := range []struct{ why, zone, from, ids, want string }{
		{"its own record, and nothing has passed", rejects, "example.com", "dkim fail example.com", "example.com"},
		{"its own record, and the same domain", rejects, "example.com", "dkim pass example.com, spf pass example.com", "example.com"},
		{"its own record, strict", strict, "example.com", "dkim pass mail.example.com", "example.com"},
		{"nothing in common", rejects, "example.com", "dkim pass example.net, spf pass example.org", "example.com"},
		{"not below the organizational domain", rejects, "example.com", "dkim pass other.com", "example.com com"},
		{"each name once", rejects, "example.com", "spf pass a.example.com, dkim pass b.a.example.com", "example.com com a.example.com b.a.example.com"},
		{"no policy", "", "example.com", "spf pass mail.example.com", "example.com com"},
	} {
		w := newWorld(t, tt.zone)
		m := identifiers(tt.ids)
		m.From = []string{"a@" + tt.from}
		v := Evaluate(t.Context(), w, m)
		if got := w.names(); got != tt.want {
			t.Errorf("%s: asked %s, want %s\n%s", tt.why, got, tt.want, v)
		}
	}
}

// maxAsked is what an evaluation may ask: for each author's domain a walk and its
// existence, and a walk for each identifier.
const maxAsked = maxAuthors*(MaxQuestions+1) + 2*(1+maxIdentifiers)*MaxQuestions

// TestBounded: as many names as a message can make us ask.
func TestBounded(t *testing.T) {
	w := newWorld(t, `_dmarc.com TXT "v=DMARC1; p=reject; sp=reject; np=reject"`)
	deep := strings.Repeat("x.", 100) + "com"
	m := Message{From: []string{"a@1." + deep + ", a@2." + deep + ", a@3." + deep}, SPF: Identifier{Result: "pass", Domain: "spf." + deep}}
	for i := range 1000 {
		m.DKIM = append(m.DKIM, Identifier{Result: []string{"pass", "temperror"}[i%2], Domain: fmt.Sprintf("d%d.%d.f.g.h.i.j.com", i, i)})
	}
	v := Evaluate(t.Context(), w, m)
	if len(w.asked) > maxAsked || len(w.asked) < 10 {
		t.Errorf("%d questions, at most %d were wanted", len(w.asked), maxAsked)
	}
	if v.Authors != 3 || len(v.Checks) > 2*(1+maxIdentifiers) {
		t.Errorf("%d authors, %d checks", v.Authors, len(v.Checks))
	}
}

// TestTime: a DNS that says nothing keeps nobody for longer than the limit.
func TestTime(t *testing.T) {
	silent := dns.ResolverFunc(func(ctx context.Context, _ dns.Question) (dns.Answer, error) {
		<-ctx.Done()
		return dns.Answer{}, ctx.Err()
	})
	name := dns.MustName("example.com")
	for what, f := range map[string]func(context.Context) error{
		"evaluate": func(ctx context.Context) error {
			return Evaluate(ctx, silent, Message{From: []string{"a@example.com"}}).Err
		},
		"discover":   func(ctx context.Context) error { return Discover(ctx, silent, name).Err },
		"authorised": func(ctx context.Context) error { return Authorised(ctx, silent, name, "mailto:a@example.net").Err },
		"survey":     func(ctx context.Context) error { return Survey(ctx, silent, name).Undetermined() },
	} {
		synctest.Test(t, func(t *testing.T) {
			begin := time.Now()
			err := f(t.Context())
			if took := time.Since(begin); !isTemporary(err) || took > maxSurveyTime {
				t.Errorf("%s: %v after %s", what, err, took)
			}
		})
	}
}

func TestAuthors(t *testing.T) {
	for _, tt := range []struct {
		why  string
		from []string
		want string // domains, or part of the error
	}{
		{"an address", []string{"a@example.com"}, "example.com"},
		{"with a name", []string{`"Doe, John" <a@example.com>`}, "example.com"},
		{"with another address as its name", []string{`"a@example.net" <a@example.com>`}, "example.com"},
		{"the same without quotation marks", []string{`a@example.net <a@example.com>`}, "example.com"},
		{"a comma without quotation marks", []string{`Doe, John <a@example.com>`}, "example.com"},
		{"a name in another character set", []string{`=?koi8-r?B?8NLJ18XU?= <a@example.com>`}, "example.com"},
		{"a name in bare Latin-1", []string{"J\xf6rg <a@example.com>"}, "example.com"},
		{"a name in UTF-8", []string{"Jörg <jörg@bücher.example>"}, "xn--bcher-kva.example"},
		{"a comment", []string{`a@example.com (a@example.net)`}, "example.com"},
		{"a quoted local part with an @", []string{`"a@example.net"@example.com`}, "example.com"},
		{"two of one domain", []string{"a@example.com, b@Example.COM"}, "example.com"},
		{"two domains", []string{"a@example.com, b@example.net"}, "example.com example.net"},
		{"a group", []string{"us: a@example.com, b@example.net;"}, "example.com example.net"},
		{"an empty group", []string{"undisclosed:;"}, "no address in From"},
		{"none", nil, "there is no From field"},
		{"an empty one", []string{""}, "From cannot be read"},
		{"two fields", []string{"a@example.com", "a@example.com"}, "there are 2 From fields"},
		{"four domains", []string{"a@a.example, a@b.example, a@c.example, a@d.example"}, "addresses of 4 domains"},
		{"no domain", []string{"postmaster"}, "cannot be read"},
		{"an address literal", []string{"a@[192.0.2.1]"}, "is no domain"},
		{"the null address", []string{"<>"}, "cannot be read"},
		{"a dot at the end", []string{"a@example.com."}, "example.com"},
		{"and in brackets", []string{"John <a@example.com.>"}, "example.com"},
		{"two pairs of angle brackets", []string{"<a@example.com> <a@example.net>"}, "cannot be read"},
		{"an address behind the brackets", []string{"x, y <a@example.com> a@example.net"}, "cannot be read"},
		{"a domain with an empty label", []string{"<a@example..com>"}, "cannot be read"},
		{"a domain too long", []string{"a@" + strings.Repeat("a", 64) + ".example"}, "is no domain"},
		{"longer than any", []string{strings.Repeat("a", maxFrom) + "@example.com"}, "octets"},
	} {
		names, err := Authors(tt.from)
		got := []string{}
		for _, n := range names {
			got = append(got, n.String())
		}
		switch {
		case err == nil && strings.Join(got, " ") != tt.want:
			t.Errorf("%s: %v, want %s", tt.why, got, tt.want)
		case err != nil && (!errors.Is(err, ErrAuthor) || !strings.Contains(err.Error(), tt.want) || names != nil):
			t.Errorf("%s: %v, %v, want %s", tt.why, names, err, tt.want)
		}
	}
}

func TestAuthorised(t *testing.T) {
	for _, tt := range []struct {
		why, zone, domain, uri string
		want                   string // of String, behind the URI
		asked                  string // the name of the consent; "" for none
	}{
		{"the domain itself", "", "example.com", "mailto:d@example.com", "needs no authorisation: it is the domain itself", ""},
		{"one organization", rejects, "example.com", "mailto:d@reports.example.com", "needs no authorisation: both have the organizational domain example.com", ""},
		{"one organization, from below", rejects, "mail.example.com", "mailto:d@reports.example.com", "needs no authorisation: both have", ""},
		{"two names without records are two organizations", "", "mail.example.com", "mailto:d@example.com", "not authorised: example.com has not consented", "mail.example.com._report._dmarc.example.com"},
		{"the example of the standard", `blue.example.com._report._dmarc.red.example.net TXT "v=DMARC1"`, "blue.example.com", "mailto:reports@red.example.net", "authorised: red.example.net has consented", "blue.example.com._report._dmarc.red.example.net"},
		{"without it", "", "blue.example.com", "mailto:reports@red.example.net", "not authorised: red.example.net has not consented", "blue.example.com._report._dmarc.red.example.net"},
		{"a wildcard", `*._report._dmarc.example.net TXT "v=DMARC1;"`, "example.com", "mailto:d@example.net", "authorised: ", "example.com._report._dmarc.example.net"},
		{"https", `example.com._report._dmarc.example.net TXT "v=DMARC1"`, "example.com", "https://example.net/x", "authorised: ", "example.com._report._dmarc.example.net"},
		{"other texts do not consent", `*._report._dmarc.example.net TXT "v=spf1 -all"`, "example.com", "mailto:d@example.net", "not authorised: ", "example.com._report._dmarc.example.net"},
		{"nor does lower case", `*._report._dmarc.example.net TXT "v=dmarc1"`, "example.com", "mailto:d@example.net", "not authorised: ", "example.com._report._dmarc.example.net"},
		{"one record among several suffices", "*._report._dmarc.example.net TXT \"v=DMARC1\"\n*._report._dmarc.example.net TXT \"v=DMARC1; p=none\"", "example.com", "mailto:d@example.net", "authorised: ", "example.com._report._dmarc.example.net"},
		{"another destination on the host", `*._report._dmarc.example.net TXT "v=DMARC1; rua=mailto:x@example.net"`, "example.com", "mailto:d@example.net", "authorised: example.net has consented at example.com._report._dmarc.example.net; it wants them at mailto:x@example.net", "example.com._report._dmarc.example.net"},
		{"another destination elsewhere", `*._report._dmarc.example.net TXT "v=DMARC1; rua=mailto:x@example.org"`, "example.com", "mailto:d@example.net", "not authorised: the consent", "example.com._report._dmarc.example.net"},
		{"trouble", "example.com._report._dmarc.example.net FAILS", "example.com", "mailto:d@example.net", "could not be determined: ", "example.com._report._dmarc.example.net"},
		{"trouble on a walk", rejects + "_dmarc.reports.example.com FAILS", "example.com", "mailto:d@reports.example.com", "could not be determined: ", ""},
		{"a name too long", "", strings.Repeat("abcdefghi.", 22) + "example.com", "mailto:d@reports.example.net", "not authorised: reports.example.net cannot consent", ""},
		{"no host", "", "example.com", "urn:x", "not authorised: the URI names no host", ""},
	} {
		w := newWorld(t, tt.zone)
		a := Authorised(t.Context(), w, dns.MustName(tt.domain), URI(tt.uri))
		if got := strings.TrimPrefix(a.String(), tt.uri+": "); !strings.HasPrefix(got, tt.want) || a.Asked.String() != tt.asked {
			t.Errorf("%s: %q at %q, want %q at %q", tt.why, got, a.Asked, tt.want, tt.asked)
		}
		if (a.Err != nil) != isTemporary(a.Err) || a.Allowed && a.Err != nil || len(w.asked) > 2*MaxQuestions+1 {
			t.Errorf("%s: %+v", tt.why, a)
		}
	}
}
