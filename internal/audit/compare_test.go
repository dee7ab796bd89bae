package audit

import (
	"fmt"
	"strings"
	"testing"

	"mxward/internal/dns"
)

// looks writes findings as "id target status [severity [detail]]".
func looksOf(t *testing.T, lines ...string) []Finding {
	t.Helper()
	var all []Finding
	for _, line := range lines {
		w := append(strings.Fields(line), "", "")
		all = append(all, Finding{ID: w[0], Target: w[1], Status: Status(w[2]), Severity: Severity(w[3]), Detail: w[4]})
	}
	return all
}

func TestCompare(t *testing.T) {
	const d = "example.com"
	for _, tt := range []struct {
		why           string
		before, after []string
		want          string
	}{
		{"nothing", nil, nil, ""},
		{"what was fine fails", []string{"mx.cname d pass"}, []string{"mx.cname d fail error"}, "new mx.cname d"},
		{"it still does", []string{"mx.cname d fail error"}, []string{"mx.cname d fail error"}, "same mx.cname d"},
		{"it is worse", []string{"mx.cname d fail notice"}, []string{"mx.cname d fail error"}, "changed mx.cname d"},
		{"it says something else", []string{"mx.cname d fail error a"}, []string{"mx.cname d fail error b"}, "changed mx.cname d"},
		{"it is mended", []string{"mx.cname d fail error"}, []string{"mx.cname d pass"}, "gone mx.cname d"},
		{"it does not apply any more", []string{"mx.cname d fail error"}, []string{"mx.cname d not_applicable"}, "gone mx.cname d"},
		{"it could not be asked", []string{"mx.cname d fail error"}, []string{"mx.cname d unknown"}, "unsure mx.cname d"},
		{"it could not be asked before, and fails", []string{"mx.cname d unknown"}, []string{"mx.cname d fail error"}, "new mx.cname d"},
		{"it could not be asked before, and is fine", []string{"mx.cname d unknown"}, []string{"mx.cname d pass"}, ""},
		{"what was fine could not be asked", []string{"mx.cname d pass"}, []string{"mx.cname d unknown"}, ""},
		{"another target fails", []string{"ptr.missing 192.0.2.1 fail error"}, []string{"ptr.missing 192.0.2.2 fail error"}, "new ptr.missing 192.0.2.2, gone ptr.missing 192.0.2.1"},
		{"another target could not be asked", []string{"ptr.missing 192.0.2.1 fail error"}, []string{"ptr.missing 192.0.2.2 unknown"}, "unsure ptr.missing 192.0.2.1"},
		{"not looked at now", []string{"mx.cname d fail error"}, []string{"spf.ptr d pass"}, ""},
		{"switched off now", []string{"dkim.missing d fail error"}, []string{"dkim.missing d skipped"}, ""},
		{"not looked at before", []string{"spf.ptr d pass"}, []string{"mx.cname d fail error"}, "new mx.cname d"},
		{"two of one id and target", []string{"spf.syntax d fail error a", "spf.syntax d fail error b"}, []string{"spf.syntax d fail error b"}, "same spf.syntax d, gone spf.syntax d"},
		{"the domain has gone", []string{"mx.cname d fail error", "deleg.nxdomain d pass"}, []string{"mx.cname d not_applicable", "deleg.nxdomain d fail critical"}, "new deleg.nxdomain d, gone mx.cname d"},
	} {
		var got []string
		for _, m := range Compare(looksOf(t, tt.before...), looksOf(t, tt.after...)) {
			f := m.After
			if f == nil {
				f = m.Before
			}
			got = append(got, fmt.Sprintf("%s %s %s", m.Turn, f.ID, f.Target))
		}
		if text := strings.Join(got, ", "); text != tt.want {
			t.Errorf("%s: got %q, want %q", tt.why, text, tt.want)
		}
	}
	outside := []Finding{{ID: "mx.cname", Target: d, Status: NotApplicable, Detail: outsideProfile}}
	if moves := Compare(looksOf(t, "mx.cname d fail error"), outside); len(moves) > 0 {
		t.Errorf("a profile that does not look mends nothing: %+v", moves)
	}
}

// TestCarry: what comes back after a day without answers has not been away.
func TestCarry(t *testing.T) {
	one, two := looksOf(t, "mx.cname d fail error"), looksOf(t, "mx.cname d unknown")
	moves := Compare(Carry(one, two), one)
	if len(moves) != 1 || moves[0].Turn != Same {
		t.Errorf("%+v", moves)
	}
}

// TestWorsened: what counts is a problem at least this bad that was not known, or was milder.
func TestWorsened(t *testing.T) {
	at := func(s Severity) *Finding { return &Finding{Status: Fail, Severity: s} }
	for _, tt := range []struct {
		why  string
		move Move
		want bool
	}{
		{"new and as bad", Move{New, nil, at(Error)}, true},
		{"new and milder", Move{New, nil, at(Warning)}, false},
		{"the same", Move{Same, at(Error), at(Error)}, false},
		{"worse than it was", Move{Changed, at(Warning), at(Error)}, true},
		{"worse, and bad enough before", Move{Changed, at(Error), at(Critical)}, false},
		{"gone", Move{Gone, at(Error), nil}, false},
		{"our own side", Move{New, nil, &Finding{Status: Fail, Severity: Error, Blame: LocalNetwork}}, false},
		{"ignored", Move{New, nil, &Finding{Status: Fail, Severity: Error, Ignored: "known"}}, false},
	} {
		if got := tt.move.Worsened(Error); got != tt.want {
			t.Errorf("%s: got %t", tt.why, got)
		}
	}
}

func TestReadLooks(t *testing.T) {
	const finding = `{"id":"mx.cname","target":"m.example.com","status":"fail","severity":"error","blame":"zone","title":"","detail":"","evidence":[{"name":"x"}]}`
	doc := func(domain, findings string) string {
		return `{"schema":"mxward.check/1","domain":"` + domain + `","findings":[` + findings + `]}`
	}
	for _, tt := range []struct{ why, text, want string }{ // want is "" or part of the error
		{"one document", doc("example.com", finding), ""},
		{"lines, one domain twice, keys that are not known", doc("example.com", "") + "\n" + doc("example.org", "") + "\n" + strings.Replace(doc("example.com", finding), `"findings"`, `"later":1,"findings"`, 1) + "\n", ""},
		{"nothing", "", "it is empty"},
		{"white space", " \n", "it is empty"},
		{"not JSON", "example.com: 1 found", "line 1: expected what mxward check --json prints, and here is no JSON"},
		{"not JSON, in the third line", doc("example.com", "") + "\n{\"schema\":\"mxward.check/1\",\n; hello", "line 3: expected what mxward check --json prints, and here is no JSON"},
		{"a text that goes over its line", "{\"schema\":\"mx\n", "line 1: expected"},
		{"cut off", doc("example.com", finding)[:90], "line 1: it ends in the middle of a document: expected what mxward check --json prints"},
		{"cut off in the second line", doc("example.com", finding) + "\n" + doc("example.com", finding)[:90], "line 2: it ends in the middle of a document"},
		{"the second is none", doc("example.com", "") + "\n[]", "line 2: expected what mxward check --json prints, an object, and got a JSON array"},
		{"another kind of value", doc("example.com", "") + "\n{\"schema\":\n\n17}", "line 4: expected what mxward check --json prints, where schema is no JSON number"},
		{"another schema", `{"schema":"mxward.check/2","domain":"example.com"}`, `expected the schema mxward.check/1, got "mxward.check/2"`},
		{"another program's", `{"domain":"example.com"}`, "got none"},
		{"no domain", `{"schema":"mxward.check/1"}`, "it names no domain"},
		{"a domain that is none", doc("example.net", "") + "\n" + doc("exa mple..com", ""), "document 2: not a domain name"},
		{"no id", doc("example.com", strings.Replace(finding, "mx.cname", "", 1)), "finding 1: it has no id"},
		{"a status that nobody knows", doc("example.com", strings.Replace(finding, "fail", "failed", 1)), `expected a status, got "failed"`},
		{"a severity that nobody knows", doc("example.com", strings.Replace(finding, `"error"`, `"bad"`, 1)), `expected a severity, got "bad"`},
	} {
		looks, err := ReadLooks(strings.NewReader(tt.text))
		switch {
		case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: got %v, want %q", tt.why, err, tt.want)
		case tt.want == "" && (len(looks[dns.MustName("example.com")].Findings) != 1 || looks[dns.MustName("example.com")].Profile != Mail):
			t.Errorf("%s: %+v", tt.why, looks)
		}
	}
	_, err := ReadLooks(strings.NewReader(doc("example.com", strings.Repeat(" ", maxLook))))
	if err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a huge document: %v", err)
	}
	if _, err := readLooks(strings.NewReader(strings.Repeat(doc("example.com", ""), 20)), 1000); err == nil || !strings.Contains(err.Error(), "larger than 1000 octets") {
		t.Errorf("very many documents: %v", err)
	}
}

func FuzzReadLooks(f *testing.F) {
	f.Add([]byte(`{"schema":"mxward.check/1","domain":"example.com","findings":[{"id":"mx.cname","target":"x","status":"pass"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		looks, err := ReadLooks(strings.NewReader(string(text)))
		if err == nil && len(looks) == 0 {
			t.Error("neither looks nor an error")
		}
	})
}
