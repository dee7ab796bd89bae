package main

import (
	"strings"
	"testing"
)

func TestParseDomain(t *testing.T) {
	for _, c := range []struct{ typed, want, complaint string }{
		{"example.com", "example.com", ""},
		{"example.com.", "example.com", ""},             // fully qualified
		{"EXAMPLE.Com", "example.com", ""},              // letters are alike
		{"bücher.example", "xn--bcher-kva.example", ""}, // internationalised
		{"example。com", "example.com", ""},              // with a dot of another script
		{"_spf.example.com", "_spf.example.com", ""},    // names of SPF policies are looked at too
		{"https://example.com/mail?a=b", "", "such as example.com,"},
		{"https://alice:x@example.com:443/", "", "such as example.com,"},
		{"example.com:25", "", "such as example.com,"},
		{"example.com?x", "", "such as example.com,"},
		{"mailto:alice@example.com", "", "such as example.com,"},
		{"<alice@example.com>", "", "such as example.com,"},
		{" example.com ", "", "such as example.com,"},
		{"example.com\r", "", "such as example.com,"}, // a list from another system
		{"example.com,", "", "such as example.com,"},  // a list with commas
		{"*.example.com", "", "such as example.com,"},
		{".example.com", "", "such as example.com,"},
		{"“example.com”", "", "such as example.com,"},
		{"_dmarc.example.com", "", "the domain itself, example.com,"},
		{"s1._domainkey.example.com", "", "the domain itself, example.com,"},
		{"_smtp._tls.example.com", "", "the domain itself, example.com,"},
		{"", "", `got "": it is empty`},
		{" ", "", "it is empty"},
		{".", "", "it is empty"},
		{"com", "", "it has one label"},
		{"192.0.2.1", "", "it is an address"},
		{"[192.0.2.1]", "", "it is an address"},
		{"2001:db8::1", "", "it is an address"},
		{"alice@[192.0.2.1]", "", "expected a domain, got"},
		{"example.com,example.org", "", "each argument is one domain"},
		{"example .com", "", "each argument is one domain"},
		{"example..com", "", "a label is empty"},
		{strings.Repeat("a", 64) + ".com", "", "a label has more than 63 octets"},
		{strings.Repeat("a.", 130) + "com", "", "it is longer than a name can be"},
		{"exam\x1bple.com", "", `"exam\x1bple.com": it has characters`}, // nothing steers the terminal
		{"\xff.com", "", "it has characters"},
		{strings.Repeat("x", 10<<20), "", "(10485760 octets)"},
	} {
		domain, err := parseDomain(c.typed)
		switch {
		case err == nil && c.complaint != "":
			t.Errorf("%.50q: got %s, want a complaint", c.typed, domain)
		case err == nil && domain.String() != c.want:
			t.Errorf("%.50q: got %s, want %s", c.typed, domain, c.want)
		case err != nil && (c.complaint == "" || !strings.Contains(err.Error(), c.complaint)):
			t.Errorf("%.50q: %.200v, want %s", c.typed, err, c.complaint)
		case err != nil && len(err.Error()) > 300:
			t.Errorf("%.50q: the complaint has %d octets", c.typed, len(err.Error()))
		}
	}
}

// TestParseLine: what is said of a line of a file does not speak of arguments.
func TestParseLine(t *testing.T) {
	const one = ": a line is one domain and nothing else, and there are no comments"
	for _, c := range []struct{ text, want, complaint string }{
		{"example.com", "example.com", ""},
		{"# our domains", "", `got "# our domains"` + one},
		{"#example.com", "", `got "#example.com"` + one},
		{"#", "", `got "#"` + one},
		{"example.com # ours", "", "such as example.com,"},
		{"1,example.com", "", `got "1,example.com"` + one}, // a list of ranks
		{"example.com example.org", "", one},
		{"com", "", "it has one label"},
	} {
		domain, err := parseLine(c.text)
		if c.complaint == "" {
			if err != nil || domain.String() != c.want {
				t.Errorf("%q: %s, %v", c.text, domain, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.complaint) || strings.Contains(err.Error(), "argument") {
			t.Errorf("%q: got %v, want %s", c.text, err, c.complaint)
		}
	}
}
