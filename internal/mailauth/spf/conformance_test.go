package spf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"mxward/internal/dns"
)

// The suite lies beside the project, not in it.
const suite = "../../../../shared/conformance/spf/rfc7208-tests.yml"

// scenario is one document of the openspf suite.
type scenario struct {
	Description string
	Tests       map[string]struct {
		Helo, Host, MailFrom string
		Result               words
		Explanation          *string
	}
	ZoneData map[string][]any
}

// words is a list, or one word that stands for a list of one.
type words []string

func (w *words) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*w = words{n.Value}
		return nil
	}
	return n.Decode((*[]string)(w))
}

// TestSuite runs the openspf suite for RFC 7208.
func TestSuite(t *testing.T) {
	file, err := os.Open(suite)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("left out: the openspf suite for RFC 7208 is not in ../shared/conformance/spf")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	count := 0
	for documents := yaml.NewDecoder(file); ; {
		var s scenario
		if err := documents.Decode(&s); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		zone := suiteZone(t, s.ZoneData)
		for name, tt := range s.Tests {
			count++
			t.Run(s.Description+"/"+name, func(t *testing.T) {
				v := Check(t.Context(), zone, Session{
					Client: netip.MustParseAddr(tt.Host), Helo: tt.Helo, From: tt.MailFrom, Receiver: "mx.example.net",
				})
				if !slices.Contains(tt.Result, string(v.Result)) {
					t.Errorf("%s, want %s; %v\n%s", v.Result, tt.Result, v.Err, v)
				}
				// DEFAULT is what a receiver says where the domain's owner says nothing.
				if want := tt.Explanation; want != nil && v.Explanation != strings.TrimPrefix(*want, "DEFAULT") {
					t.Errorf("explanation %q, want %q", v.Explanation, *want)
				}
			})
		}
	}
	if count != 203 {
		t.Errorf("the suite has %d tests, and had 203", count)
	}
}

// records answers from a map; what is not in it does not exist, and silent names give the
// error of a server that does not answer.
type records struct {
	known  map[dns.Question][]dns.RR
	names  map[dns.Name]bool
	silent map[dns.Name]bool
}

func (r records) Resolve(_ context.Context, q dns.Question) (dns.Answer, error) {
	var a dns.Answer
	for name := q.Name; len(a.Answer) < 8; {
		found := r.known[dns.Question{Name: name, Type: q.Type}]
		a.Answer = append(a.Answer, found...)
		alias := r.known[dns.Question{Name: name, Type: dns.TypeCNAME}]
		switch {
		case len(found) > 0:
			return a, nil
		case len(alias) > 0:
			a.Answer = append(a.Answer, alias...)
			fields := strings.Fields(alias[0].String())
			name = dns.NameOf(fields[len(fields)-1])
			continue
		case r.silent[name]:
			return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.NoReply}
		case !r.names[name]:
			a.Rcode = dns.NXDomain
		}
		return a, nil
	}
	return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.WorkLimit, Detail: "a loop of aliases"}
}

// suiteZone: a record of type SPF stands for a TXT record too, unless the name has those.
func suiteZone(t *testing.T, data map[string][]any) records {
	t.Helper()
	z := records{map[dns.Question][]dns.RR{}, map[dns.Name]bool{}, map[dns.Name]bool{}}
	for owner, items := range data {
		name, ok := targetName(owner)
		if !ok {
			t.Fatalf("the suite has the name %q", owner)
		}
		z.names[name] = true
		hasTXT := slices.ContainsFunc(items, func(i any) bool {
			m, _ := i.(map[string]any)
			_, ok := m["TXT"]
			return ok
		})
		for _, item := range items {
			record, ok := item.(map[string]any)
			if !ok {
				z.silent[name] = item == "TIMEOUT"
				continue
			}
			for typ, value := range record {
				if typ == "SPF" && hasTXT || value == "NONE" {
					continue
				}
				rr, err := dns.ParseRecord(name, presentation(typ, value))
				if err != nil {
					t.Fatal(err)
				}
				of, _ := dns.ParseType(strings.Replace(typ, "SPF", "TXT", 1))
				q := dns.Question{Name: name, Type: of}
				z.known[q] = append(z.known[q], rr)
			}
		}
	}
	return z
}

// presentation writes a value of the suite as a zone file does.
func presentation(typ string, value any) string {
	switch typ {
	case "SPF", "TXT":
		list, ok := value.([]any)
		if !ok {
			list = []any{value}
		}
		text := "TXT"
		for _, s := range list {
			for _, part := range Split(fmt.Sprint(s)) {
				text += " " + quoted(part)
			}
		}
		if len(list) == 0 {
			text += ` ""`
		}
		return text
	case "MX":
		mx := value.([]any)
		host := mx[1].(string)
		if host == "" {
			host = "."
		}
		return fmt.Sprint("MX ", mx[0], " ", host)
	}
	return typ + " " + fmt.Sprint(value)
}

func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		fmt.Fprintf(&b, `\%03d`, s[i])
	}
	b.WriteByte('"')
	return b.String()
}
