package dmarcrpt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

const head = `<feedback><report_metadata><org_name>A</org_name><email>a@example.net</email><report_id>1</report_id>` +
	`<date_range><begin>1700000000</begin><end>1700086399</end></date_range></report_metadata>` +
	`<policy_published><domain>example.com</domain><p>none</p></policy_published>`

const one = `<record><row><source_ip>192.0.2.1</source_ip><count>2</count><policy_evaluated><disposition>none</disposition>` +
	`<dkim>pass</dkim><spf>fail</spf></policy_evaluated></row><identifiers><header_from>example.com</header_from></identifiers>` +
	`<auth_results><spf><domain>example.com</domain><result>pass</result></spf></auth_results></record>`

// TestTolerance: what careless senders write, and what is made of it.
func TestTolerance(t *testing.T) {
	whole := head + one + `</feedback>`
	for _, tt := range []struct {
		why   string
		text  string
		fault string // "" for none
		is    func(Report) bool
	}{
		{"as it should be", whole, "", func(r Report) bool { return r.Records[0].Count == 2 }},
		{"a byte order mark and blank lines", "\xef\xbb\xbf\n\n" + whole, "", func(r Report) bool { return r.Org == "A" }},
		{"a declaration of version 1.1", `<?xml version="1.1" encoding="utf-8"?>` + whole, "", func(r Report) bool { return r.Org == "A" }},
		{"a declaration without its last question mark", `<?xml version="1.0">` + whole, "", func(r Report) bool { return r.Org == "A" }},
		{"within an xs:schema", `<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">` + whole + `</xs:schema>`, "", func(r Report) bool { return r.Org == "A" }},
		{"a prefix for everything", strings.NewReplacer("</", "</d:", "<", "<d:").Replace(whole), "", func(r Report) bool { return r.Records[0].HeaderFrom == "example.com" }},
		{"the namespace of RFC 7489", strings.Replace(whole, "<feedback>", `<feedback xmlns="http://dmarc.org/dmarc-xml/0.1">`, 1), "", func(r Report) bool { return r.Org == "A" }},
		{"a namespace of one's own", strings.Replace(whole, "<feedback>", `<feedback xmlns="urn:x">`, 1), `the namespace "urn:x"`, func(r Report) bool { return r.Org == "A" }},
		{"upper case", strings.ToUpper(whole), "", func(r Report) bool {
			return r.Policy.P == "none" && r.Records[0].HeaderFrom == "example.com" && r.Records[0].DKIM == "pass"
		}},
		{"white space", strings.ReplaceAll(strings.ReplaceAll(whole, "</", " \r\n</"), ">1", ">\n\t 1"), "", func(r Report) bool {
			return r.Records[0].Source.String() == "192.0.2.1" && r.Begin.Unix() == 1700000000
		}},
		{"the policy after the records", strings.Replace(head, "<policy_published><domain>example.com</domain><p>none</p></policy_published>", "", 1) + one +
			"<policy_published><domain>Example.COM.</domain></policy_published></feedback>", "it has no p", func(r Report) bool { return r.Policy.Domain == "example.com" }},
		{"an extension with names that are ours", strings.Replace(whole, "<auth_results>", `<x:row xmlns:x="urn:x"><x:count>9</x:count><count>7</count></x:row><auth_results>`, 1), "", func(r Report) bool { return r.Records[0].Count == 2 }},
		{"an ampersand that nobody escaped", strings.Replace(whole, ">A<", ">A & B &c; AT&T<", 1), "", func(r Report) bool { return r.Org == "A & B &c; AT&T" }},
		{"an angle bracket", strings.Replace(whole, "a@example.net", "<a@example.net>", 1), "", func(r Report) bool { return r.Email == "a@example.net" }},
		{"CDATA", strings.Replace(whole, ">A<", "><![CDATA[A <b>]]><", 1), "", func(r Report) bool { return r.Org == "A <b>" }},
		{"ISO-8859-1", `<?xml version="1.0" encoding="ISO-8859-1"?>` + strings.Replace(whole, ">A<", ">S\xf8n<", 1), "", func(r Report) bool { return r.Org == "Søn" }},
		{"Windows-1252", `<?xml version='1.0' encoding='windows-1252'?>` + strings.Replace(whole, ">A<", ">\x80<", 1), "", func(r Report) bool { return r.Org == "€" }},
		{"UTF-8 that is none", strings.Replace(whole, ">A<", ">S\xf8n \xc3\xb8\xff<", 1), "", func(r Report) bool { return r.Org == "S\uFFFDn ø\uFFFD" }},
		{"a control character", strings.Replace(whole, ">A<", ">A\x00\x1bB<", 1), "", func(r Report) bool { return r.Org == "A  B" }},
		{"identities instead of identifiers", strings.ReplaceAll(whole, "identifiers", "identities"), "", func(r Report) bool { return r.Records[0].HeaderFrom == "example.com" }},
		{"an address with its domain", strings.Replace(whole, "<header_from>", "<envelope_from>bounce@Example.ORG</envelope_from><header_from>", 1), "", func(r Report) bool { return r.Records[0].EnvelopeFrom == "example.org" }},
		{"times with decimals", strings.Replace(whole, "1700000000", "1700000000.5", 1), "", func(r Report) bool { return r.Begin.Unix() == 1700000000 }},
		{"times in milliseconds", strings.Replace(whole, "1700000000", "1700000000000", 1), "", func(r Report) bool { return r.Begin.Unix() == 1700000000 }},
		{"a date", strings.Replace(whole, "1700000000", "2023-11-14T22:13:20Z", 1), "", func(r Report) bool { return r.Begin.Unix() == 1700000000 }},
		{"no time at all", strings.Replace(whole, "1700000000", "yesterday", 1), `the time "yesterday" cannot be read`, func(r Report) bool { return r.Begin.IsZero() }},
		{"a period backwards", strings.Replace(whole, "1700086399", "1600000000", 1), "ends before it begins", func(r Report) bool { return len(r.Records) == 1 }},
		{"no address", strings.Replace(whole, "192.0.2.1", "unknown", 1), `the source address "unknown"`, func(r Report) bool { return !r.Records[0].Source.IsValid() && r.Records[0].Count == 2 }},
		{"a mapped address", strings.Replace(whole, "192.0.2.1", "::ffff:192.0.2.1", 1), "", func(r Report) bool { return r.Records[0].Source.Is4() }},
		{"a negative count", strings.Replace(whole, ">2<", ">-2<", 1), `the count "-2"`, func(r Report) bool { return r.Records[0].Count == 0 }},
		{"a count that would overflow", strings.Replace(whole, ">2<", ">9223372036854775807<", 1), "the count", func(r Report) bool { return r.Records[0].Count == 0 }},
		{"no count", strings.Replace(whole, "<count>2</count>", "", 1), "a record has no count", func(r Report) bool { return r.Records[0].Count == 1 }},
		{"no evaluation", strings.Replace(whole, "<disposition>none</disposition><dkim>pass</dkim><spf>fail</spf>", "", 1), "no disposition", func(r Report) bool { return r.Records[0].Disposition == "none" && !r.Records[0].Pass() }},
		{"an evaluated result that is none", strings.Replace(whole, "<dkim>pass<", "<dkim>neutral<", 1), `"neutral" is neither pass nor fail`, func(r Report) bool { return r.Records[0].DKIM == "fail" }},
		{"a report without records", head + "</feedback>", "it has no record", func(r Report) bool { return len(r.Records) == 0 }},
		{"an element that is not closed", strings.Replace(whole, "</spf></auth", "</auth", 1), "record/auth_results/spf is not closed", func(r Report) bool { return r.Records[0].SPFResults[0].Result == "pass" }},
		{"a very long text", strings.Replace(whole, ">A<", ">"+strings.Repeat("ø", 5000)+"<", 1), "report_metadata/org_name is cut", func(r Report) bool { return r.Org == strings.Repeat("ø", MaxText/2) }},
		{"helo beside mfrom", strings.Replace(whole, "<spf><domain>", "<spf><domain>mx.example.com</domain><scope>helo</scope><result>pass</result></spf><spf><domain>", 1), "", func(r Report) bool {
			return len(r.Records[0].SPFResults) == 2 && r.Records[0].SPFResults[0].Scope == "helo"
		}},
		{"anything behind it", whole + "<<<&&& \x00 <more", "", func(r Report) bool { return len(r.Records) == 1 }},
	} {
		t.Run(tt.why, func(t *testing.T) {
			r, err := Parse(strings.NewReader(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if !tt.is(r) {
				t.Errorf("became %+v", r)
			}
			if faults := strings.Join(r.Faults, "; "); (tt.fault == "") != (faults == "") || !strings.Contains(faults, tt.fault) {
				t.Errorf("faults %q, want %q", faults, tt.fault)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	var lol strings.Builder
	lol.WriteString(`<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">`)
	for i := range 10 {
		fmt.Fprintf(&lol, `<!ENTITY lol%d "%s">`, i+1, strings.Repeat(fmt.Sprintf("&lol%d;", i), 10))
	}
	lol.WriteString("]>" + strings.Replace(head, ">A<", ">&lol9;<", 1) + one + "</feedback>")
	for _, tt := range []struct {
		why  string
		text string
		want error
	}{
		{"nothing", "", ErrNotReport},
		{"no XML", "hello", ErrNotReport},
		{"another document", "<svg/>", ErrNotReport},
		{"a web page", "<html><body><p>feedback</p></body></html>", ErrNotReport},
		{"UTF-16", "\xff\xfe<\x00?\x00x\x00", ErrMalformed},
		{"a charset that is not read", `<?xml version="1.0" encoding="Shift_JIS"?>` + head, ErrMalformed},
		{"cut off", head + one[:100], ErrMalformed},
		{"cut off between records", head + one, ErrMalformed},
		{"a record that is not closed", head + strings.TrimSuffix(one, "</record>") + "</feedback>", ErrMalformed},
		{"nobody knows whose it is", strings.Replace(head, "<domain>example.com</domain>", "", 1) + one + "</feedback>", ErrMalformed},
		{"a document type", "<!DOCTYPE feedback>" + head + one + "</feedback>", ErrMalformed},
		{"a billion laughs", lol.String(), ErrMalformed},
		{"an external entity", `<!DOCTYPE f [<!ENTITY x SYSTEM "file:///etc/passwd">]><feedback>&x;</feedback>`, ErrMalformed},
		{"deep", "<feedback>" + strings.Repeat("<a>", MaxNesting+1), ErrTooLarge},
		{"a huge attribute", `<feedback x="` + strings.Repeat("a", MaxMarkup) + `">`, ErrTooLarge},
		{"very many attributes", `<feedback ` + strings.Repeat(`a="" `, MaxMarkup/5) + `>`, ErrTooLarge},
		{"a huge text", "<feedback>" + strings.Repeat("a", MaxMarkup+1), ErrTooLarge},
		{"a huge comment", "<feedback><!--" + strings.Repeat("a", MaxMarkup), ErrTooLarge},
		{"a huge instruction", "<feedback><?a " + strings.Repeat("a", MaxMarkup), ErrTooLarge},
	} {
		t.Run(tt.why, func(t *testing.T) {
			r, err := Parse(strings.NewReader(tt.text))
			if !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if r.Records != nil || r.Org != "" {
				t.Errorf("an error and a report: %+v", r)
			}
		})
	}
}

// TestReaderError: that a report could not be read says nothing about the report.
func TestReaderError(t *testing.T) {
	broken := errors.New("the disk")
	for _, n := range []int{0, 10, 300, 590} {
		_, err := Parse(io.MultiReader(strings.NewReader((head + one)[:n]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) || errors.Is(err, ErrMalformed) || errors.Is(err, ErrNotReport) {
			t.Errorf("after %d octets: %v", n, err)
		}
	}
}

// endless gives the same text again and again.
func endless(begin, again string) io.Reader {
	return io.MultiReader(strings.NewReader(begin), &repeat{text: again})
}

type repeat struct {
	text string
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

// TestEndless: reports without an end are refused, in memory that does not depend on them.
func TestEndless(t *testing.T) {
	const most = 400 << 20 // octets allocated in all, most of them free again at any time
	for _, tt := range []struct {
		why   string
		input io.Reader
	}{
		{"records", endless(head, "<record/>")},
		{"signatures of a record", endless(head+"<record><auth_results>", "<dkim/>")},
		{"reasons of a record", endless(head+"<record><row><policy_evaluated>", "<reason/>")},
	} {
		t.Run(tt.why, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Parse(tt.input)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrTooLarge) {
				t.Error(err)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > most {
				t.Errorf("%d octets were allocated", got)
			} else {
				t.Logf("%d MiB allocated", got>>20)
			}
		})
	}
}

func TestFailureFields(t *testing.T) {
	f, err := ParseFailure(strings.NewReader("\r\nFeedback-Type: Auth-Failure\r\nVersion: 1\r\nAuth-Failure: dkim, SPF\r\nIdentity-Alignment: none\r\n" +
		"Original-Mail-From: <a@example.com>\r\nIncidents: 12\r\nReceived-Date: Tue, 30 Apr 2019 02:09:00 +0000\r\nSource-IP: [2001:db8::1]\r\n" +
		"DKIM-Domain: Example.com\r\nDKIM-Selector: s\r\nDKIM-Identity: @example.com\r\nSPF-DNS: txt : example.com :\r\n \"v=spf1 -all\"\r\nOriginal-Envelope-Id: x1\r\nX: y\r\n"))
	if err != nil || f.Type != "auth-failure" || !slices.Equal(f.AuthFailure, []string{"dkim", "spf"}) || f.MailFrom != "a@example.com" || f.Incidents != 12 ||
		!f.Arrival.Equal(time.Date(2019, 4, 30, 2, 9, 0, 0, time.UTC)) || f.Source.String() != "2001:db8::1" || f.DKIMDomain != "example.com" || len(f.SPFDNS) != 1 || len(f.Faults) != 0 {
		t.Errorf("%+v, %v", f, err)
	}
	for _, tt := range []struct {
		why, text string
		want      error
	}{
		{"no type", "Version: 1\r\n", ErrMalformed},
		{"no fields", "hello there\r\n", ErrMalformed},
		{"nothing", "", ErrMalformed},
		{"very many fields", "Feedback-Type: abuse\r\n" + strings.Repeat("A: b\r\n", maxFields), ErrTooLarge},
		{"a huge field", "Feedback-Type: abuse\r\nA: " + strings.Repeat("b", 1<<20), ErrTooLarge},
	} {
		if f, err := ParseFailure(strings.NewReader(tt.text)); !errors.Is(err, tt.want) || f.Type != "" {
			t.Errorf("%s: %v, want %v", tt.why, err, tt.want)
		}
	}
	f, err = ParseFailure(strings.NewReader("Feedback-Type: abuse\r\nSource-IP: here\r\nArrival-Date: now\r\nIncidents: -1\r\n"))
	if err != nil || len(f.Faults) != 3 || f.Incidents != 1 {
		t.Errorf("%+v, %v", f, err)
	}
}

// FuzzParse: an error or a report, never both; what the schema would take is written and read
// again as the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte(head + one + "</feedback>"))
	f.Add([]byte("<?xml version='1.0' encoding='latin1'?>" + head + one + one + "</feedback>"))
	f.Add([]byte("<feedback><email><a@b></email><!-- x --><![CDATA[<]]></feedback>"))
	var b bytes.Buffer
	if err := built()[0].WriteXML(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(bytes.NewReader(data))
		if err != nil {
			if !errors.Is(err, ErrNotReport) && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrTooLarge) {
				t.Errorf("an error of no class: %v", err)
			}
			if r.Policy.Domain != "" || r.Records != nil {
				t.Errorf("an error and a report: %+v", r)
			}
			return
		}
		if r.Policy.Domain == "" || len(r.Records) > MaxRecords || len(r.Faults) > MaxFaults {
			t.Errorf("%+v", r)
		}
		var b bytes.Buffer
		if r.WriteXML(&b) != nil {
			return
		}
		again, err := Parse(&b)
		if err != nil || len(again.Records) != len(r.Records) || again.Policy.Domain != r.Policy.Domain {
			t.Errorf("written and read again: %+v, %v; was %+v", again, err, r)
		}
	})
}

func FuzzFailure(f *testing.F) {
	f.Add([]byte("Feedback-Type: auth-failure\r\nAuth-Failure: dmarc\r\nSource-IP: 192.0.2.1\r\nIncidents: 2\r\n"))
	f.Add([]byte("\nFeedback-Type: abuse\nArrival-Date: Tue, 30 Apr 2019 02:09:00 +0000\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseFailure(bytes.NewReader(data))
		if (err == nil) != (got.Type != "") || got.Incidents < 0 {
			t.Errorf("%+v, %v", got, err)
		}
	})
}
