package zone_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/zone"
)

// The zone of RFC 4592 §2.2.1, and one more for each rule that it does not need.
const example = `
$ORIGIN example.
$TTL 3600
@                 IN  SOA ns hostmaster 1 7200 3600 1209600 300
                      NS  ns
                      NS  ns.example.com.
ns                    A   192.0.2.1
*                     TXT "this is a wildcard"
*                     MX  10 Host1
sub.*                 TXT "this is not a wildcard"
Host1                 A   192.0.2.11
                      AAAA 2001:db8::11
_ssh._tcp.host1       SRV 0 0 22 host1
_ssh._tcp.host2       SRV 0 0 22 host1
subdel                NS  ns.example.com.
subdel                NS  ns.example.net.

alias                 CNAME host1
alias2                CNAME alias
away                  CNAME www.example.net.
lost                  CNAME no.such.host1
empty                 CNAME _tcp.host1
loop                  CNAME loop2
loop2                 CNAME loop
aliascut              CNAME www.cut
wildalias             CNAME x.y
*.w                   CNAME host1
closer.w              TXT "exists"
a.b.ent.w             TXT "two empty non-terminals"

cut                   NS  ns.cut
                      NS  ns.cut2
                      DS  1 13 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
ns.cut                A   192.0.2.21
cut2                  NS  ns.cut
ns.cut2               A   192.0.2.22
www.cut               A   192.0.2.23
*.cut                 A   192.0.2.24

dname                 300 DNAME target
a.target              A   192.0.2.31
two.target            CNAME a.dname
big                   DNAME abcdefghijklmnopqrstuvwxyz.abcdefghijklmnopqrstuvwxyz.abcdefghijklmnopqrstuvwxyz.abcdefghijklmnopqrstuvwxyz.abcdefghijklmnopqrstuvwxyz.abcdefghijklmnopqrstuvwxyz.abcdefghijklmnopqrstuvwxyz.
selfdname             DNAME selfdname

odd                   TYPE65280 \# 3 010203
odd                   TXT "beside it"
`

const soa = "example. 300 IN SOA ns.example. hostmaster.example. 1 7200 3600 1209600 300"

func parse(t testing.TB, origin, text string) *zone.Zone {
	t.Helper()
	z, err := zone.Parse(strings.NewReader(text), dns.MustName(origin), "test.zone")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// say writes an answer as text: the Rcode, AA, and the sections, each on a line.
func say(a dns.Answer) string {
	var b strings.Builder
	b.WriteString(a.Rcode.String())
	if a.Authoritative {
		b.WriteString(" aa")
	}
	for _, section := range []struct {
		name string
		rrs  []dns.RR
	}{{"answer", a.Answer}, {"authority", a.Authority}, {"additional", a.Additional}} {
		for _, rr := range section.rrs {
			b.WriteString("\n" + section.name + ": " + strings.ReplaceAll(rr.String(), "\t", " "))
		}
	}
	return b.String()
}

func TestResolve(t *testing.T) {
	z := parse(t, "example", example)
	tests := []struct {
		question string // name and type
		want     []string
	}{
		// A positive answer; the owner in the file's case.
		{"host1.example A", []string{"NOERROR aa", "answer: Host1.example. 3600 IN A 192.0.2.11"}},
		// Additional addresses, each host once.
		{"example NS", []string{"NOERROR aa", "answer: example. 3600 IN NS ns.example.", "answer: example. 3600 IN NS ns.example.com.",
			"additional: ns.example. 3600 IN A 192.0.2.1"}},
		// NODATA: the SOA with the lesser of its TTL and its minimum (RFC 2308 §3).
		{"host1.example TXT", []string{"NOERROR aa", "authority: " + soa}},
		// The SOA itself has its own TTL.
		{"example SOA", []string{"NOERROR aa", "answer: " + strings.Replace(soa, " 300 ", " 3600 ", 1)}},
		// Not our zone, and a name that only looks like it.
		{"example.com A", []string{"REFUSED"}},
		{"badexample A", []string{"REFUSED"}},
		{". NS", []string{"REFUSED"}},
		// Unknown types (RFC 3597).
		{"odd.example TYPE65280", []string{"NOERROR aa", `answer: odd.example. 3600 CLASS1 TYPE65280 \# 3 010203`}},
		// ANY: one RRset, and of an alias the CNAME alone (RFC 8482 §4.1).
		{"host1.example ANY", []string{"NOERROR aa", "answer: Host1.example. 3600 IN A 192.0.2.11"}},
		{"alias.example ANY", []string{"NOERROR aa", "answer: alias.example. 3600 IN CNAME host1.example."}},
		{"_tcp.host1.example ANY", []string{"NOERROR aa", "authority: " + soa}},

		// The questions of RFC 4592 §2.2.1.
		{"host3.example MX", []string{"NOERROR aa", "answer: host3.example. 3600 IN MX 10 Host1.example.",
			"additional: Host1.example. 3600 IN A 192.0.2.11", "additional: Host1.example. 3600 IN AAAA 2001:db8::11"}},
		{"host3.example A", []string{"NOERROR aa", "authority: " + soa}},
		{"foo.bar.example TXT", []string{"NOERROR aa", `answer: foo.bar.example. 3600 IN TXT "this is a wildcard"`}},
		{"host1.example MX", []string{"NOERROR aa", "authority: " + soa}},
		{"sub.*.example MX", []string{"NOERROR aa", "authority: " + soa}},
		{"_telnet._tcp.host1.example SRV", []string{"NXDOMAIN aa", "authority: " + soa}},
		{"host.subdel.example A", []string{"NOERROR", "authority: subdel.example. 3600 IN NS ns.example.com.",
			"authority: subdel.example. 3600 IN NS ns.example.net."}},
		{"ghost.*.example MX", []string{"NXDOMAIN aa", "authority: " + soa}},
		// The wildcard asked for by its own name.
		{"*.example TXT", []string{"NOERROR aa", `answer: *.example. 3600 IN TXT "this is a wildcard"`}},
		// An alias from a wildcard; the wildcard does not reach below a name that exists,
		// nor across an empty non-terminal.
		{"x.w.example A", []string{"NOERROR aa", "answer: x.w.example. 3600 IN CNAME host1.example.", "answer: Host1.example. 3600 IN A 192.0.2.11"}},
		{"closer.w.example A", []string{"NOERROR aa", "authority: " + soa}},
		{"x.closer.w.example A", []string{"NXDOMAIN aa", "authority: " + soa}},
		{"ent.w.example A", []string{"NOERROR aa", "authority: " + soa}},
		{"x.ent.w.example A", []string{"NXDOMAIN aa", "authority: " + soa}},
		{"x.b.ent.w.example A", []string{"NXDOMAIN aa", "authority: " + soa}},

		// Chains: to data, out of the zone, to NODATA, to NXDOMAIN, in a circle, to a cut.
		{"alias2.example AAAA", []string{"NOERROR aa", "answer: alias2.example. 3600 IN CNAME alias.example.",
			"answer: alias.example. 3600 IN CNAME host1.example.", "answer: Host1.example. 3600 IN AAAA 2001:db8::11"}},
		{"alias2.example CNAME", []string{"NOERROR aa", "answer: alias2.example. 3600 IN CNAME alias.example."}},
		{"away.example A", []string{"NOERROR aa", "answer: away.example. 3600 IN CNAME www.example.net."}},
		{"empty.example A", []string{"NOERROR aa", "answer: empty.example. 3600 IN CNAME _tcp.host1.example.", "authority: " + soa}},
		{"lost.example A", []string{"NXDOMAIN aa", "answer: lost.example. 3600 IN CNAME no.such.host1.example.", "authority: " + soa}},
		{"loop.example A", []string{"NOERROR aa", "answer: loop.example. 3600 IN CNAME loop2.example.", "answer: loop2.example. 3600 IN CNAME loop.example."}},
		{"aliascut.example A", []string{"NOERROR aa", "answer: aliascut.example. 3600 IN CNAME www.cut.example.",
			"authority: cut.example. 3600 IN NS ns.cut.example.", "authority: cut.example. 3600 IN NS ns.cut2.example.",
			"additional: ns.cut.example. 3600 IN A 192.0.2.21", "additional: ns.cut2.example. 3600 IN A 192.0.2.22"}},
		{"wildalias.example TXT", []string{"NOERROR aa", "answer: wildalias.example. 3600 IN CNAME x.y.example.",
			`answer: x.y.example. 3600 IN TXT "this is a wildcard"`}},

		// Delegations: at the cut, below it, for glue, for occluded data and wildcards; the
		// glue of a sibling is there too. DS belongs to the parent.
		{"cut.example NS", cutReferral},
		{"www.cut.example A", cutReferral},
		{"ns.cut.example A", cutReferral},
		{"x.y.cut.example A", cutReferral},
		{"x.cut.example DS", cutReferral},
		{"cut.example ANY", cutReferral},
		{"cut.example DS", []string{"NOERROR aa", "answer: cut.example. 3600 IN DS 1 13 2 0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF"}},
		{"subdel.example DS", []string{"NOERROR aa", "authority: " + soa}},
		{"example DS", []string{"NOERROR aa", "authority: " + soa}},

		// DNAME (RFC 6672): the CNAME has its TTL, and the name itself is no alias.
		{"a.dname.example A", []string{"NOERROR aa", "answer: dname.example. 300 IN DNAME target.example.",
			"answer: a.dname.example. 300 IN CNAME a.target.example.", "answer: a.target.example. 3600 IN A 192.0.2.31"}},
		{"x.dname.example A", []string{"NXDOMAIN aa", "answer: dname.example. 300 IN DNAME target.example.",
			"answer: x.dname.example. 300 IN CNAME x.target.example.", "authority: " + soa}},
		{"two.dname.example A", []string{"NOERROR aa", "answer: dname.example. 300 IN DNAME target.example.",
			"answer: two.dname.example. 300 IN CNAME two.target.example.", "answer: two.target.example. 3600 IN CNAME a.dname.example.",
			"answer: a.dname.example. 300 IN CNAME a.target.example.", "answer: a.target.example. 3600 IN A 192.0.2.31"}},
		{"a.dname.example CNAME", []string{"NOERROR aa", "answer: dname.example. 300 IN DNAME target.example.",
			"answer: a.dname.example. 300 IN CNAME a.target.example."}},
		{"dname.example DNAME", []string{"NOERROR aa", "answer: dname.example. 300 IN DNAME target.example."}},
		{"dname.example A", []string{"NOERROR aa", "authority: " + soa}},
		{"x.selfdname.example A", []string{"NOERROR aa", "answer: selfdname.example. 3600 IN DNAME selfdname.example.",
			"answer: x.selfdname.example. 3600 IN CNAME x.selfdname.example."}},
		// The new name would be too long: YXDOMAIN (RFC 6672 §2.2).
		{strings.Repeat("abcdefghi.", 7) + "big.example A", []string{"YXDOMAIN aa",
			"answer: big.example. 3600 IN DNAME " + strings.Repeat("abcdefghijklmnopqrstuvwxyz.", 7)}},
	}
	for _, tt := range tests {
		t.Run(tt.question, func(t *testing.T) {
			name, typ, _ := strings.Cut(tt.question, " ")
			qtype, ok := dns.ParseType(typ)
			if !ok {
				t.Fatal("no such type")
			}
			a, err := z.Resolve(t.Context(), dns.Question{Name: dns.MustName(name), Type: qtype})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := say(a), strings.Join(tt.want, "\n"); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

var cutReferral = []string{"NOERROR",
	"authority: cut.example. 3600 IN NS ns.cut.example.", "authority: cut.example. 3600 IN NS ns.cut2.example.",
	"additional: ns.cut.example. 3600 IN A 192.0.2.21", "additional: ns.cut2.example. 3600 IN A 192.0.2.22"}

// TestLongChain: a chain that is longer than maxAliases is cut, not followed to the end.
func TestLongChain(t *testing.T) {
	var b strings.Builder
	b.WriteString("$TTL 60\n@ SOA . . 1 1 1 1 1\n@ NS ns.example.net.\nc40 A 192.0.2.1\n")
	for i := range 40 {
		b.WriteString("c" + string(rune('0'+i/10)) + string(rune('0'+i%10)) + " CNAME c")
		b.WriteString(string(rune('0'+(i+1)/10)) + string(rune('0'+(i+1)%10)) + "\n")
	}
	z := parse(t, "example.org", b.String())
	a, err := z.Resolve(t.Context(), dns.Question{Name: dns.MustName("c00.example.org"), Type: dns.TypeA})
	if err != nil || len(a.Answer) != 17 || a.Rcode != dns.NoError {
		t.Errorf("%d records, %v, %v", len(a.Answer), a.Rcode, err)
	}
}

// TestRootZone: the root is a zone like any other.
func TestRootZone(t *testing.T) {
	z := parse(t, ".", "$TTL 60\n. SOA a.root. host. 1 1 1 1 1\n. NS a.root.\na.root. A 192.0.2.1\ncom NS ns.com.\nns.com. A 192.0.2.2\n*. TXT x\nold. DNAME root.\n")
	for question, want := range map[string]string{
		". NS":          "NOERROR aa\nanswer: . 60 IN NS a.root.\nadditional: a.root. 60 IN A 192.0.2.1",
		"example.com A": "NOERROR\nauthority: com. 60 IN NS ns.com.\nadditional: ns.com. 60 IN A 192.0.2.2",
		"any.thing TXT": "NOERROR aa\nanswer: any.thing. 60 IN TXT \"x\"",
		"root A":        "NOERROR aa\nauthority: . 1 IN SOA a.root. host. 1 1 1 1 1",
		"a.old A":       "NOERROR aa\nanswer: old. 60 IN DNAME root.\nanswer: a.old. 60 IN CNAME a.root.\nanswer: a.root. 60 IN A 192.0.2.1",
	} {
		name, typ, _ := strings.Cut(question, " ")
		qtype, _ := dns.ParseType(typ)
		a, _ := z.Resolve(t.Context(), dns.Question{Name: dns.MustName(name), Type: qtype})
		if got := say(a); got != want {
			t.Errorf("%s: got:\n%s\nwant:\n%s", question, got, want)
		}
	}
	whole := parse(t, ".", "$TTL 60\n. SOA . . 1 1 1 1 1\n. NS ns.example.\n. DNAME x.\n")
	a, _ := whole.Resolve(t.Context(), dns.Question{Name: dns.MustName("a.b"), Type: dns.TypeCNAME})
	if got := say(a); got != "NOERROR aa\nanswer: . 60 IN DNAME x.\nanswer: a.b. 60 IN CNAME a.b.x." {
		t.Errorf("a DNAME at the root: %s", got)
	}
}

// TestZeroZone: a Zone that nobody parsed serves nothing.
func TestZeroZone(t *testing.T) {
	var z zone.Zone
	a, err := z.Resolve(t.Context(), dns.Question{Name: dns.MustName("example.com"), Type: dns.TypeA})
	if err != nil || a.Rcode != dns.Refused {
		t.Errorf("%v, %v", a.Rcode, err)
	}
	if _, ok := z.Lookup(dns.MustName("example.com"), dns.TypeA); ok {
		t.Error("Lookup found something")
	}
}

func TestLookup(t *testing.T) {
	z := parse(t, "example", example)
	tests := []struct {
		name   string
		t      dns.Type
		n      int
		exists bool
	}{
		{"HOST1.example", dns.TypeA, 1, true},
		{"host1.example", dns.TypeTXT, 0, true},
		{"_tcp.host1.example", dns.TypeA, 0, true}, // an empty non-terminal
		{"ns.cut.example", dns.TypeA, 1, true},     // glue
		{"alias.example", dns.TypeA, 0, true},      // aliases are not followed
		{"any.example", dns.TypeTXT, 0, false},     // nor wildcards
		{"example.com", dns.TypeA, 0, false},
	}
	for _, tt := range tests {
		rrs, exists := z.Lookup(dns.MustName(tt.name), tt.t)
		if len(rrs) != tt.n || exists != tt.exists {
			t.Errorf("%s %s: %d records, exists %v; want %d, %v", tt.name, tt.t, len(rrs), exists, tt.n, tt.exists)
		}
	}
}

// TestConcurrent asks from many goroutines; the race detector watches.
func TestConcurrent(t *testing.T) {
	z := parse(t, "example", example)
	names := []string{"host1.example", "x.w.example", "lost.example", "www.cut.example", "a.dname.example", "no.such.host1.example"}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for _, name := range slices.Repeat(names, 20) {
				a, err := z.Resolve(context.Background(), dns.Question{Name: dns.MustName(name), Type: dns.TypeA})
				if err != nil {
					t.Error(err)
				}
				m := wire.Msg{Compress: true, Answer: a.Answer, Ns: a.Authority, Extra: a.Additional}
				if _, err := m.Pack(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// FuzzParse: no text makes Parse panic; a zone comes with no error and an error with no
// zone; and what has been parsed answers for its own names with records that can be sent.
func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add("$TTL 60\n@ SOA . . 1 1 1 1 1\n@ NS .\n")
	f.Add("@ 60 SOA a b ( 1\n 1 ; comment\n 1 1 ) 1\n NS \"x\"\n\\000.\\.x 1h A \\# 4 01020304\n")
	seeds, err := filepath.Glob("testdata/bad/*.zone")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range seeds {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		z, err := zone.Parse(strings.NewReader(text), dns.MustName("example"), "fuzz")
		if (z == nil) == (err == nil) {
			t.Fatalf("zone %v, error %v", z != nil, err)
		}
		if err != nil {
			return
		}
		zp := wire.NewZoneParser(strings.NewReader(text), "example.", "")
		for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
			name, err := dns.ParseName(rr.Header().Name)
			if err != nil {
				continue
			}
			a, err := z.Resolve(t.Context(), dns.Question{Name: name, Type: dns.Type(rr.Header().Rrtype)})
			if err != nil {
				t.Fatal(err)
			}
			m := wire.Msg{Answer: a.Answer, Ns: a.Authority, Extra: a.Additional}
			if _, err := m.Pack(); err != nil && m.Len() < wire.MaxMsgSize {
				t.Fatalf("%v %s: %v", name, wire.Type(rr.Header().Rrtype), err)
			}
		}
	})
}
