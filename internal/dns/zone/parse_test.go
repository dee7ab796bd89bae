package zone_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/zone"
)

const head = "@ 60 SOA ns host 1 2 3 4 5\n@ 60 NS ns.example.net.\n"

// TestParseRecords: one entry each, and the record that it means.
func TestParseRecords(t *testing.T) {
	tests := []struct{ text, name, typ, want string }{
		// The fields before the type in either order, or missing.
		{"a 60 IN A 192.0.2.1", "a.example", "A", "a.example. 60 IN A 192.0.2.1"},
		{"a IN 60 A 192.0.2.1", "a.example", "A", "a.example. 60 IN A 192.0.2.1"},
		{"a in 1h30m a 192.0.2.1", "a.example", "A", "a.example. 5400 IN A 192.0.2.1"},
		{"a CLASS1 1W TYPE1 192.0.2.1", "a.example", "A", "a.example. 604800 IN A 192.0.2.1"},
		// Without a TTL: $TTL, or else the last one stated.
		{"$TTL 2h\na A 192.0.2.1", "a.example", "A", "a.example. 7200 IN A 192.0.2.1"},
		{"b 77 A 192.0.2.2\na A 192.0.2.1", "a.example", "A", "a.example. 77 IN A 192.0.2.1"},
		{"$TTL 5\nb 77 A 192.0.2.2\na A 192.0.2.1", "a.example", "A", "a.example. 5 IN A 192.0.2.1"},
		// Owners: repeated, @, absolute, under another origin.
		{"a A 192.0.2.1\n  TXT x", "a.example", "TXT", `a.example. 60 IN TXT "x"`},
		{"a A 192.0.2.1\n\n; a comment\n\t; another\n\tTXT x", "a.example", "TXT", `a.example. 60 IN TXT "x"`},
		{"@ A 192.0.2.1", "example", "A", "example. 60 IN A 192.0.2.1"},
		{"a.example. A 192.0.2.1", "a.example", "A", "a.example. 60 IN A 192.0.2.1"},
		{"$ORIGIN b\na A 192.0.2.1", "a.b.example", "A", "a.b.example. 60 IN A 192.0.2.1"},
		{"$ORIGIN b.example.\n@ MX 10 @", "b.example", "MX", "b.example. 60 IN MX 10 b.example."},
		// Case stays, and does not matter for finding.
		{"MiXed MX 10 Mail.Example.NET.", "mixed.EXAMPLE", "MX", "MiXed.example. 60 IN MX 10 Mail.Example.NET."},
		// Parentheses, quotes, comments, line ends of other systems.
		{"a TXT ( one\n ; not two\n \"; two\" ) ; three", "a.example", "TXT", `a.example. 60 IN TXT "one" "; two"`},
		{"a TXT \"(\" \";\" \"\\\"\" \"\"\r\n", "a.example", "TXT", `a.example. 60 IN TXT "(" ";" "\"" ""`},
		{"a TXT one\"two\"three", "a.example", "TXT", `a.example. 60 IN TXT "one" "two" "three"`},
		{`a TXT \; \" \( \\`, "a.example", "TXT", `a.example. 60 IN TXT ";" "\"" "(" "\\"`},
		{"a TXT \"\xc3\xbc\"", "a.example", "TXT", `a.example. 60 IN TXT "\195\188"`},
		// Escapes in names have one spelling.
		{`\097\.b A 192.0.2.1`, `A\.b.example`, "A", `a\.b.example. 60 IN A 192.0.2.1`},
		{"it's A 192.0.2.1", `it\'s.example`, "A", `it\'s.example. 60 IN A 192.0.2.1`},
		{`a MX 1 it's`, "a.example", "MX", `a.example. 60 IN MX 1 it\'s.example.`},
		// Unknown types, and known ones as octets (RFC 3597).
		{`a TYPE65280 \# 2 ab cd`, "a.example", "TYPE65280", `a.example. 60 CLASS1 TYPE65280 \# 2 abcd`},
		{`a TYPE65280 \# 0`, "a.example", "TYPE65280", `a.example. 60 CLASS1 TYPE65280 \# 0 `},
		{`a A \# 4 C0000201`, "a.example", "A", "a.example. 60 IN A 192.0.2.1"},
		// The last line needs no end.
		{"a A 192.0.2.1 ; end", "a.example", "A", "a.example. 60 IN A 192.0.2.1"},
		// Twice the same is once (RFC 2181 §5).
		{"a A 192.0.2.1\nA A 192.0.2.1", "a.example", "A", "a.example. 60 IN A 192.0.2.1"},
		// The greatest TTL.
		{"a 2147483647 A 192.0.2.1", "a.example", "A", "a.example. 2147483647 IN A 192.0.2.1"},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			z, err := zone.Parse(strings.NewReader(head+tt.text), dns.MustName("example"), "a.zone")
			if err != nil {
				t.Fatal(err)
			}
			typ, _ := dns.ParseType(tt.typ)
			rrs, _ := z.Lookup(dns.MustName(tt.name), typ)
			if len(rrs) != 1 {
				t.Fatalf("%d records: %v", len(rrs), rrs)
			}
			if got := strings.ReplaceAll(rrs[0].String(), "\t", " "); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestParseFaults: each file in testdata/bad holds the faults that it expects as comments
// "; fault LINE: text" and must be refused with exactly these, all at once.
func TestParseFaults(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.zone")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(text)) {
				if _, fault, ok := strings.Cut(line, "; fault "); ok {
					want = append(want, "bad.zone:"+strings.TrimSpace(fault))
				}
			}
			z, err := zone.Parse(strings.NewReader(string(text)), dns.MustName("example.com"), "bad.zone")
			if err == nil || z != nil {
				t.Fatalf("accepted: %v", z)
			}
			if got := err.Error(); got != strings.Join(want, "\n") {
				t.Errorf("got:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
			}
		})
	}
}

func TestParseTrouble(t *testing.T) {
	broken := errors.New("the disk is gone")
	if _, err := zone.Parse(iotest.ErrReader(broken), dns.MustName("example"), "a.zone"); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, err := zone.Parse(strings.NewReader(head), dns.Name{}, "a.zone"); err == nil {
		t.Error("a zone without a name was accepted")
	}
	if _, err := zone.Parse(strings.NewReader(""), dns.MustName("example"), "a.zone"); err == nil {
		t.Error("an empty zone was accepted")
	}
}

// TestLongString: a string that is longer than the wire allows becomes several (RFC 1035
// §3.3), as people expect who paste a DKIM key.
func TestLongString(t *testing.T) {
	z := parse(t, "example", head+"a TXT \""+strings.Repeat("x", 300)+"\"\n")
	set, err := dns.LookupTXT(t.Context(), z, dns.MustName("a.example"))
	if err != nil || len(set.Records) != 1 || set.Records[0] != strings.Repeat("x", 300) {
		t.Errorf("%v, %v", set, err)
	}
}

// TestRecordsAreWire: NameOf of every owner and target gives the name that was meant.
func TestRecordsAreWire(t *testing.T) {
	z := parse(t, "example", head+`a MX 10 \105t's.\@.example.net.`)
	rrs, _ := z.Lookup(dns.MustName("a.example"), dns.TypeMX)
	if got, want := dns.NameOf(rrs[0].(*wire.MX).Mx), dns.MustName(`It\'s.\064.example.net`); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
