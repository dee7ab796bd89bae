package site

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mxward/internal/dns"
)

const wantsPlan = `
site = { name = "mx1.example.com", store = "sqlite:x.db" }
[[host]]
name = "mx1.example.com"
addresses = ["192.0.2.25", "2001:db8::25"]
[[host]]
name = "mx2.example.net"
addresses = ["198.51.100.25"]
[[domain]]
name = "example.com"
deliver = "maildir:x"
[[domain.mx]]
preference = 10
host = "mx1.example.com"
role = "gate"
[[domain.mx]]
preference = 20
host = "mx2.example.net"
role = "backup"
`

// show writes a list of wants in lines.
func show(list []Want) (lines []string) {
	for _, w := range list {
		line := w.Name.String() + " " + w.Type.String() + " " + strings.Join(w.Values, ", ")
		if !w.Closed {
			line += " and others"
		}
		lines = append(lines, line)
	}
	return lines
}

func TestWants(t *testing.T) {
	const zone = `$TTL 3600
@ SOA ns1 hostmaster 1 14400 3600 604800 3600
@ NS ns1.example.net.
@ MX 10 mx1
@ MX 20 mx2.example.net.
mx1 A 192.0.2.25
mx1 AAAA 2001:db8::25
@ TXT "v=spf1 " "mx -all"
_dmarc TXT "v=DMARC1; p=reject"
_mta-sts CNAME _mta-sts.example.net.
s1._domainkey TXT "v=DKIM1; p="
_25._tcp.mx1 TLSA 3 1 1 ` + "abababababababababababababababababababababababababababababababab" + `
_acme-challenge TXT "left alone"
www A 192.0.2.80
`
	backup := strings.Replace(strings.Replace(wantsPlan, `"gate"`, `"backup"`, 1), `deliver = "maildir:x"`, "", 1)
	for _, tt := range []struct {
		why, plan, zone string
		want            []string
	}{
		{"from the ladder alone", wantsPlan, "", []string{
			"example.com MX 10 mx1.example.com., 20 mx2.example.net.",
			"mx1.example.com A 192.0.2.25", "mx1.example.com AAAA 2001:db8::25",
			"mx2.example.net A 198.51.100.25", "mx2.example.net AAAA ",
		}},
		{"the better hosts are somebody else's", backup, "", []string{
			"example.com MX 10 mx1.example.com., 20 mx2.example.net. and others",
			"mx1.example.com A 192.0.2.25", "mx1.example.com AAAA 2001:db8::25",
			"mx2.example.net A 198.51.100.25", "mx2.example.net AAAA ",
		}},
		{"with its zone", wantsPlan, zone, []string{
			"example.com MX 10 mx1.example.com., 20 mx2.example.net.",
			"mx1.example.com A 192.0.2.25", "mx1.example.com AAAA 2001:db8::25",
			"mx2.example.net A 198.51.100.25", "mx2.example.net AAAA ",
			"example.com TXT v=spf1 mx -all", "example.com CAA ",
			"_dmarc.example.com TXT v=DMARC1; p=reject",
			"_mta-sts.example.com CNAME _mta-sts.example.net.",
			"_smtp._tls.example.com TXT ", "default._bimi.example.com TXT ",
			"_25._tcp.mx1.example.com TLSA 3 1 1 " + strings.Repeat("ab", 32), "s1._domainkey.example.com TXT v=DKIM1; p=",
		}},
	} {
		dir := t.TempDir()
		text := tt.plan
		if tt.zone != "" {
			text += "[[dns.zone]]\nname = \"example.com\"\nfile = \"example.com.zone\"\n[dns]\nlisten = [\"192.0.2.53:53\"]\n"
			if err := os.WriteFile(filepath.Join(dir, "example.com.zone"), []byte(tt.zone), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		file := filepath.Join(dir, "mxward.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		plan, err := Load(file)
		if err != nil {
			t.Fatalf("%s: %v", tt.why, err)
		}
		list, err := plan.Wants(dns.MustName("example.com"))
		got, want := show(list), slices.Clone(tt.want)
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v\n%s\nwant\n%s", tt.why, err, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if _, err := plan.Wants(dns.MustName("example.org")); err == nil {
			t.Errorf("%s: example.org is a domain of the plan", tt.why)
		}
	}
}

// TestWantsPolicy: the record of the policy that mxward serves, unless the plan has its zone.
func TestWantsPolicy(t *testing.T) {
	text := strings.Replace(wantsPlan, "deliver =", "mta-sts = \"testing\"\ndeliver =", 1) + "[mta-sts]\nlisten = [\"192.0.2.80:443\"]\ncert = \"x\"\nkey = \"x\"\n"
	plan, err := Parse([]byte(text), "mxward.toml")
	if err != nil {
		t.Fatal(err)
	}
	list, err := plan.Wants(dns.MustName("example.com"))
	d, _ := plan.Domain(dns.MustName("example.com"))
	policy, _ := d.Policy()
	if want := "_mta-sts.example.com TXT v=STSv1; id=" + policy.ID() + ";"; err != nil || !slices.Contains(show(list), want) {
		t.Errorf("%v\n%s\nwant %s", err, strings.Join(show(list), "\n"), want)
	}
}
