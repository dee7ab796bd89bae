package dns

import (
	"bytes"
	"context"
	"strings"
	"testing"

	wire "github.com/miekg/dns"
)

// TestAppendWire: the bytes of a name are those that the wire library makes.
func TestAppendWire(t *testing.T) {
	for _, text := range []string{
		".", "com", "example.com", "_dmarc.example.com", `a\.b.example.com`, `\000\255.example.com`,
		`\\\@\;.example.com`, strings.Repeat("x", 63) + ".example.com", "1.2.0.192.in-addr.arpa",
		strings.TrimSuffix(strings.Repeat("a.", 127), "."),
	} {
		n := MustName(text)
		want := make([]byte, 256)
		end, err := wire.PackDomainName(n.FQDN(), want, 0, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := n.AppendWire([]byte("x")); !bytes.Equal(got[1:], want[:end]) || got[0] != 'x' {
			t.Errorf("%s: got %q, want %q", text, got[1:], want[:end])
		}
	}
	if got := (Name{}).AppendWire(nil); got != nil {
		t.Errorf("the zero name: %q", got)
	}
}

// teller is a WireResolver that says who it is.
type teller string

func (s teller) Resolve(context.Context, Question) (Answer, error) { return Answer{}, nil }

func (s teller) AppendAnswer(reply []byte, _ WireQuestion) ([]byte, WireAnswer, bool) {
	return append(reply, s...), WireAnswer{}, true
}

// TestMuxAppendAnswer: the same resolver is found for a packet as for a Question.
func TestMuxAppendAnswer(t *testing.T) {
	m := &Mux{Default: teller("default"), Zones: map[Name]Resolver{
		MustName("example.com"):     teller("example.com"),
		MustName("sub.example.com"): teller("sub.example.com"),
		MustName("slow.example"):    ResolverFunc(teller("").Resolve),
	}}
	for _, tt := range []struct {
		name, want string
		typ        Type
	}{
		{"example.com", "example.com", TypeA},
		{"www.example.com", "example.com", TypeA},
		{"a.sub.example.com", "sub.example.com", TypeA},
		{"myexample.com", "default", TypeA}, // label by label
		{"com", "default", TypeA},
		{".", "default", TypeA},
		{"www.slow.example", "", TypeA},       // no WireResolver
		{"sub.example.com", "", TypeDS},       // the parent's matter
		{`a\.b.sub.example.com`, "", TypeA},   // more than one spelling
		{`a\032b.sub.example.com`, "", TypeA}, // the same
	} {
		packed := MustName(tt.name).AppendWire(nil)
		for i, c := range packed { // in upper case
			if 'a' <= c && c <= 'z' {
				packed[i] = c - 'a' + 'A'
			}
		}
		out, _, ok := m.AppendAnswer(nil, WireQuestion{Name: packed, Type: tt.typ})
		if string(out) != tt.want || ok != (tt.want != "") {
			t.Errorf("%s: got %q, %t, want %q", tt.name, out, ok, tt.want)
		}
	}
	q := WireQuestion{Name: MustName("www.sub.example.com").AppendWire(nil), Type: TypeA}
	buf := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() { m.AppendAnswer(buf, q) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	for _, broken := range []string{"", "\x05abc", "\x03abc", "\xc0\x0c", "\x03abc\x00\x00"} {
		if _, _, ok := m.AppendAnswer(nil, WireQuestion{Name: []byte(broken), Type: TypeA}); ok {
			t.Errorf("%q was answered", broken)
		}
	}
	if _, _, ok := (&Mux{}).AppendAnswer(nil, q); ok {
		t.Error("an empty Mux answers")
	}
}
