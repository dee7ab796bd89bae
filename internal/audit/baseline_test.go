package audit

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"mxward/internal/dns"
)

func TestReadBaseline(t *testing.T) {
	const good = "[[ignore]]\nid = \"mx.no-ipv6\"\ntarget = \"example.com\"\nuntil = 2027-01-31\nreason = \"the provider has none yet\"\n"
	with := func(old, now string) string { return strings.Replace(good, old, now, 1) }
	for _, tt := range []struct{ why, text, want string }{
		{"a good one", good, ""},
		{"none", "", ""},
		{"comments alone", "# nothing\n", ""},
		{"the day in quotation marks", with("2027-01-31", `"2027-01-31"`), ""},
		{"every target", with("example.com", "*"), ""},
		{"a list", `ignore = [{id = "spf.ptr", target = "*", until = 2027-01-31, reason = "x"}]`, ""},
		{"an id that nobody knows", "\n\n" + with("mx.no-ipv6", "mx.no-ipv7"), `known.toml:3: there is no check "mx.no-ipv7"; did you mean mx.no-ipv6?`},
		{"an area is no id", with("mx.no-ipv6", "mx"), `there is no check "mx"`},
		{"the second is wrong", good + "\n" + with("mx.no-ipv6", "x"), `known.toml:7: there is no check "x"`},
		{"in a list", "ignore = [\n{id = \"x\", target = \"*\", until = 2027-01-31, reason = \"x\"}]", `known.toml:1: there is no check`},
		{"both are wrong", with("mx.no-ipv6", "y") + with("mx.no-ipv6", "x"), "known.toml:1: there is no check \"y\"\nknown.toml:6: there is no check \"x\""},
		{"all of one entry", "[[ignore]]\nid = \"x\"\ntarget = 7\nuntil = \"never\"\n", "known.toml:1: there is no check \"x\"\nknown.toml:1: target: expected a text, got \"7\"\nknown.toml:1: expected a reason, for whoever reads it next\nknown.toml:1: until: expected a day"},
		{"keys and entries", with("reason =", "reasons =") + with("mx.no-ipv6", "x"), "known.toml:1: expected a reason, for whoever reads it next\nknown.toml:5: expected [[ignore]] with id, target, until and reason, got \"ignore.reasons\"\nknown.toml:6: there is no check \"x\""},
		{"no id", with("id = \"mx.no-ipv6\"\n", ""), "known.toml:1: expected id"},
		{"no target", with("target = \"example.com\"\n", ""), "known.toml:1: expected a target"},
		{"no end", with("until = 2027-01-31\n", ""), "known.toml:1: expected until = 2027-01-31"},
		{"no reason", with("the provider has none yet", " "), "known.toml:1: expected a reason"},
		{"a day that is none", with("2027-01-31", "2027-02-30"), "known.toml:4: "},
		{"a word", with("2027-01-31", `"never"`), `until: expected a day such as 2027-01-31, got "never"`},
		{"a time", with("2027-01-31", "2027-01-31T00:00:00Z"), "until: expected a day"},
		{"a number", with("2027-01-31", "2027"), `until: expected a day such as 2027-01-31, got "2027"`},
		{"a key that nobody knows", good + "untill = 2027-01-31\n", `known.toml:6: expected [[ignore]] with id, target, until and reason, got "ignore.untill"`},
		{"a table that nobody knows", "[[ignored]]\nid = \"spf.ptr\"\n", `known.toml:1: expected [[ignore]]`},
		{"no TOML", "ignore spf.ptr\n", "known.toml:1: "},
		{"an id that is no text", with(`"mx.no-ipv6"`, "7"), `known.toml:1: id: expected a text, got "7"`},
		{"too large", strings.Repeat("# known\n", maxBaseline/8+1), "at most 4194304 octets"},
		{"too many", strings.Repeat("[[ignore]]\n", maxBaselineEntries+1), "at most 10000 entries"},
	} {
		b, err := ReadBaseline(strings.NewReader(tt.text), "known.toml")
		switch {
		case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: got %v, want %q", tt.why, err, tt.want)
		case tt.want == "" && strings.Contains(tt.text, "id =") && len(b.Entries) != 1:
			t.Errorf("%s: %+v", tt.why, b)
		}
	}
}

func TestBaselineMarks(t *testing.T) {
	b, err := ReadBaseline(strings.NewReader(`
[[ignore]]
id = "ptr.missing"
target = "192.0.2.25"
until = 2027-01-31
reason = "ordered"
[[ignore]]
id = "spf.ptr"
target = "*"
until = 2027-01-31
reason = "old"
[[ignore]]
id = "dkim.no-selector-known"
target = "EXAMPLE.com."
until = 2027-01-31
reason = "none"
`), "known.toml")
	if err != nil {
		t.Fatal(err)
	}
	day := time.Date(2027, 1, 31, 23, 59, 59, 0, time.UTC)
	for _, tt := range []struct {
		why, finding, want string
		now                time.Time
	}{
		{"it is the one", "ptr.missing 192.0.2.25 fail error", "ordered", day},
		{"its day is over", "ptr.missing 192.0.2.25 fail error", "", day.Add(time.Second)},
		{"another target", "ptr.missing 192.0.2.26 fail error", "", day},
		{"any target", "spf.ptr example.org fail error", "old", day},
		{"another id", "spf.plus-all example.org fail error", "", day},
		{"unknown counts as well", "dkim.no-selector-known example.com unknown", "none", day},
		{"a pass has nothing to ignore", "spf.ptr example.org pass", "", day},
	} {
		findings := looksOf(t, tt.finding)
		b.Mark(findings, tt.now)
		if findings[0].Ignored != tt.want {
			t.Errorf("%s: got %q", tt.why, findings[0].Ignored)
		}
		if tt.want != "" && (Failed(findings, Info) || Inconclusive(findings, Checks(), Info)) {
			t.Errorf("%s: it counts", tt.why)
		}
	}
	if len(b.Expired(day)) != 0 || len(b.Expired(day.Add(time.Second))) != 3 {
		t.Error("Expired")
	}
}

// TestBaselineUnmatched: an entry that has nothing to ignore is told, and not where nobody could
// know.
func TestBaselineUnmatched(t *testing.T) {
	day := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		why, target string
		findings    []string
		want        bool
	}{
		{"it is there", "EXAMPLE.com", []string{"spf.ptr example.com fail error"}, false},
		{"it is mended", "example.com", []string{"spf.ptr example.com pass"}, true},
		{"it does not apply any more", "example.com", []string{"spf.ptr example.com not_applicable"}, true},
		{"a name below", "mx.example.com", []string{"spf.ptr example.com pass"}, true},
		{"a server of the domain's", "mx.example.com:993", []string{"spf.ptr example.com pass"}, true},
		{"another domain's address, which was not looked at", "198.51.100.25", []string{"spf.ptr example.com pass"}, false},
		{"an address", "192.0.2.25", []string{"spf.ptr example.com pass"}, true},
		{"another domain's, which was not looked at", "example.edu", []string{"spf.ptr example.com pass"}, false},
		{"another domain's server", "mx.example.edu:993", []string{"spf.ptr example.com pass"}, false},
		{"another target has it", "example.com", []string{"spf.ptr example.org fail error"}, true},
		{"every target, and one has it", "*", []string{"spf.ptr example.org pass", "spf.ptr example.net fail error"}, false},
		{"every target, and none has it", "*", []string{"spf.ptr example.org pass"}, true},
		{"unknown is ignored as well", "example.com", []string{"spf.ptr example.com unknown"}, false},
		{"somewhere else it could not be asked", "192.0.2.25", []string{"spf.ptr example.com pass", "spf.ptr example.org unknown", "spf.ptr example.net pass"}, false},
		{"it was left out for something else", "example.com", []string{"spf.ptr example.com skipped"}, false},
		{"the check was not wanted", "example.com", []string{"mx.cname example.com pass"}, false},
	} {
		b := Baseline{Entries: []Ignore{{ID: "spf.ptr", Target: tt.target, Until: day}}}
		findings := looksOf(t, tt.findings...)
		domains := []dns.Name{dns.MustName("example.com"), dns.MustName("example.org")}
		addrs := map[netip.Addr]bool{netip.MustParseAddr("192.0.2.25"): true}
		if got := b.Unmatched(findings, domains, addrs, day.Add(-time.Hour)); (len(got) == 1) != tt.want {
			t.Errorf("%s: %+v", tt.why, got)
		}
		if got := b.Unmatched(findings, domains, addrs, day); len(got) > 0 {
			t.Errorf("%s: its day is over, which is told elsewhere: %+v", tt.why, got)
		}
	}
}

func FuzzReadBaseline(f *testing.F) {
	f.Add("[[ignore]]\nid = \"spf.ptr\"\ntarget = \"*\"\nuntil = 2027-01-31\nreason = \"old\"\n")
	f.Add("ignore = [{}]")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := ReadBaseline(strings.NewReader(text), "known.toml")
		for _, e := range b.Entries {
			if err == nil && (e.Until.IsZero() || e.Reason == "" || e.Line < 1) {
				t.Errorf("%+v", e)
			}
		}
	})
}
