package dmarcrpt

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"mxward/internal/mailauth/attach"
)

// The namespaces of reports. Most have none.
const (
	namespace     = "urn:ietf:params:xml:ns:dmarc-2.0" // RFC 9990 §6.1
	namespace7489 = "http://dmarc.org/dmarc-xml/0.1"   // RFC 7489 appendix C
)

// Read finds the aggregate reports in a message or a file, compressed or not. It gives at
// least one, or an error.
func Read(r io.Reader) ([]Report, error) {
	var reports []Report
	err := attach.Find(r, func(i attach.Item) error {
		if i.Kind != attach.XML {
			return fmt.Errorf("%w: %s", ErrNotReport, i.Kind)
		}
		report, err := Parse(i.Content)
		if err == nil {
			reports = append(reports, report)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return reports, nil
}

// Parse reads the XML of one report.
func Parse(r io.Reader) (Report, error) {
	in, err := newText(r)
	if err != nil {
		return Report{}, err
	}
	p := &parser{in: in, dec: xml.NewDecoder(in), words: map[string]string{}}
	p.dec.Strict = false // unknown entities stay as they are, and none is ever defined
	if err := p.parse(); err != nil {
		return Report{}, err
	}
	if err := p.finish(); err != nil {
		return Report{}, err
	}
	return p.report, nil
}

// parser keeps its place as the path below the root, "record/row/count".
type parser struct {
	in      *text
	dec     *xml.Decoder
	report  Report
	record  Record
	space   string // of the root
	path    []byte
	entries int    // of all lists of records
	ends    []int  // lengths of path, one for each open element below the root
	value   []byte // of the open element
	within  bool   // the root
	done    bool
	// words holds each value once: records have few different ones.
	words map[string]string
}

const (
	maxWords = 1 << 14
	maxWord  = 128 // octets of one that is worth keeping
)

func (p *parser) parse() error {
	for outside := 0; !p.done; {
		p.in.left = MaxMarkup
		token, err := p.dec.RawToken()
		if err != nil {
			return p.fault(err)
		}
		if d, ok := token.(xml.Directive); ok {
			return fmt.Errorf("%w: it has a document type (<!%s>), and no report needs one", ErrMalformed, clip(string(d)))
		}
		if p.within {
			if err := p.inside(token); err != nil {
				return err
			}
			continue
		}
		start, ok := token.(xml.StartElement)
		switch {
		case !ok:
		case strings.EqualFold(start.Name.Local, "feedback"):
			p.within = true
			p.space = start.Name.Space
			p.checkSpace(start)
		case strings.EqualFold(start.Name.Local, "schema") && outside == 0:
			outside++ // some wrap it so
		default:
			return fmt.Errorf("%w: it begins with the element %q, not with feedback", ErrNotReport, clip(start.Name.Local))
		}
	}
	return nil
}

// fault classes an error of the decoder.
func (p *parser) fault(err error) error {
	var syntax *xml.SyntaxError
	switch {
	case p.in.err != nil: // the reader's own, or classed by attach
		return p.in.err
	case !p.within && (err == io.EOF || errors.As(err, &syntax)):
		return fmt.Errorf("%w: no element feedback in it", ErrNotReport)
	case err == io.EOF:
		return fmt.Errorf("%w: it ends within %s", ErrMalformed, p.place())
	}
	return fmt.Errorf("%w: within %s: %w", ErrMalformed, p.place(), err)
}

func (p *parser) place() string {
	if len(p.path) == 0 {
		return "feedback"
	}
	return clip(string(p.path))
}

func (p *parser) checkSpace(root xml.StartElement) {
	for _, a := range root.Attr {
		if a.Name.Local == "xmlns" && a.Value != namespace && a.Value != namespace7489 && a.Value != "" {
			p.note("the namespace %q is not one of DMARC", clip(a.Value))
		}
	}
}

func (p *parser) inside(token xml.Token) error {
	switch token := token.(type) {
	case xml.StartElement:
		return p.start(token.Name)
	case xml.EndElement:
		return p.end(elementName(token.Name.Local))
	case xml.CharData:
		if room := MaxText + 1 - len(p.value); room > 0 {
			p.value = append(p.value, token[:min(len(token), room)]...)
		}
	}
	return nil
}

// elementName: some write them in upper case, and none that is known is long.
func elementName(s string) string { return strings.ToLower(s[:min(len(s), 64)]) }

func (p *parser) start(name xml.Name) error {
	if len(p.ends) >= MaxNesting {
		return fmt.Errorf("%w: elements more than %d deep within each other", ErrTooLarge, MaxNesting)
	}
	p.ends = append(p.ends, len(p.path))
	if len(p.path) > 0 {
		p.path = append(p.path, '/')
	}
	if name.Space != p.space {
		p.path = append(p.path, "*extension"...) // no path that is known
	} else {
		p.path = append(p.path, elementName(name.Local)...)
	}
	p.value = p.value[:0]
	switch r := &p.record; string(p.path) {
	case "record":
		if len(p.report.Records) >= MaxRecords {
			return fmt.Errorf("%w: more than %d records", ErrTooLarge, MaxRecords)
		}
		p.record = Record{Count: -1}
	case "record/row/policy_evaluated/reason":
		p.entries++
		r.Reasons = append(r.Reasons, Reason{})
	case "record/auth_results/dkim":
		p.entries++
		r.DKIMResults = append(r.DKIMResults, DKIMResult{})
	case "record/auth_results/spf":
		p.entries++
		r.SPFResults = append(r.SPFResults, SPFResult{})
	}
	if p.entries > MaxEntries {
		return fmt.Errorf("%w: more than %d results and reasons", ErrTooLarge, MaxEntries)
	}
	return nil
}

// end closes an element, and those within it that were not closed. An end tag without its
// start is read over.
func (p *parser) end(name string) error {
	for i := len(p.ends) - 1; i >= 0; i-- {
		path := p.path
		if i+1 < len(p.ends) {
			path = path[:p.ends[i+1]]
		}
		if string(path[p.ends[i]:]) != name && string(path[p.ends[i]:]) != "/"+name && !strings.HasSuffix(string(path), "*extension") {
			continue
		}
		if i+1 < len(p.ends) {
			p.note("%s is not closed", p.place())
			p.value = p.value[:0]
		}
		p.path = path
		p.set(p.text())
		p.value = p.value[:0]
		p.path = p.path[:p.ends[i]]
		p.ends = p.ends[:i]
		return nil
	}
	switch {
	case name != "feedback":
		p.note("an end tag %s without its start", clip(name))
	case len(p.ends) > 0:
		return fmt.Errorf("%w: %s is not closed", ErrMalformed, p.place())
	default:
		p.done = true
	}
	return nil
}

// text gives the value of the open element, without white space around it, each text once.
func (p *parser) text() string {
	value := p.value
	if len(value) > MaxText {
		for value = value[:MaxText]; len(value) > 0; value = value[:len(value)-1] {
			if r, size := utf8.DecodeLastRune(value); r != utf8.RuneError || size != 1 {
				break
			}
		}
		p.note("%s is cut to %d octets", p.place(), MaxText)
	}
	if s, ok := p.words[string(value)]; ok {
		return s
	}
	s := strings.TrimSpace(string(value))
	if len(p.words) < maxWords && len(value) <= maxWord {
		p.words[string(value)] = s
	}
	return s
}

func (p *parser) note(format string, args ...any) {
	fault := fmt.Sprintf(format, args...)
	if len(p.report.Faults) < MaxFaults && !slices.Contains(p.report.Faults, fault) {
		p.report.Faults = append(p.report.Faults, fault)
	}
}

// set takes the value of an element that ends.
func (p *parser) set(value string) {
	r := &p.report
	if field := p.published(); field != nil {
		*field = strings.ToLower(value)
		return
	}
	switch string(p.path) {
	case "version":
		r.Version = value
	case "report_metadata/org_name":
		r.Org = value
	case "report_metadata/email":
		r.Email = strings.Trim(value, "<>")
	case "report_metadata/extra_contact_info":
		r.Contact = value
	case "report_metadata/report_id":
		r.ID = strings.Trim(value, "<>")
	case "report_metadata/generator":
		r.Software = value
	case "report_metadata/error":
		if len(r.Errors) < MaxFaults && value != "" {
			r.Errors = append(r.Errors, value)
		}
	case "report_metadata/date_range/begin":
		r.Begin = p.time(value)
	case "report_metadata/date_range/end":
		r.End = p.time(value)
	case "record":
		p.endRecord()
	default:
		p.setRecord(value)
	}
}

// published gives the field of the policy at the path, or nil.
func (p *parser) published() *string {
	policy := &p.report.Policy
	switch string(p.path) {
	case "policy_published/domain":
		return &policy.Domain
	case "policy_published/p":
		return &policy.P
	case "policy_published/sp":
		return &policy.SP
	case "policy_published/np":
		return &policy.NP
	case "policy_published/adkim":
		return &policy.ADKIM
	case "policy_published/aspf":
		return &policy.ASPF
	case "policy_published/fo":
		return &policy.FO
	case "policy_published/testing":
		return &policy.Testing
	case "policy_published/discovery_method":
		return &policy.Discovery
	case "policy_published/pct":
		return &policy.Pct
	}
	return nil
}

func (p *parser) setRecord(value string) {
	r := &p.record
	switch string(p.path) {
	case "record/row/source_ip":
		r.Source = p.addr(value)
	case "record/row/count":
		r.Count = p.count(value)
	case "record/row/policy_evaluated/disposition":
		r.Disposition = strings.ToLower(value)
	case "record/row/policy_evaluated/dkim":
		r.DKIM = strings.ToLower(value)
	case "record/row/policy_evaluated/spf":
		r.SPF = strings.ToLower(value)
	case "record/identifiers/header_from", "record/identities/header_from":
		r.HeaderFrom = p.domain(value)
	case "record/identifiers/envelope_from", "record/identities/envelope_from":
		r.EnvelopeFrom = p.domain(value)
	case "record/identifiers/envelope_to", "record/identities/envelope_to":
		r.EnvelopeTo = p.domain(value)
	default:
		p.setLists(value)
	}
}

func (p *parser) setLists(value string) {
	path := string(p.path)
	name := path[strings.LastIndexByte(path, '/')+1:]
	r := &p.record
	switch path[:len(path)-len(name)] {
	case "record/row/policy_evaluated/reason/":
		reason := &r.Reasons[len(r.Reasons)-1]
		switch name {
		case "type":
			reason.Type = strings.ToLower(value)
		case "comment":
			reason.Comment = value
		}
	case "record/auth_results/dkim/":
		result := &r.DKIMResults[len(r.DKIMResults)-1]
		switch name {
		case "domain":
			result.Domain = p.domain(value)
		case "selector":
			result.Selector = value
		case "result":
			result.Result = strings.ToLower(value)
		case "human_result":
			result.Human = value
		}
	case "record/auth_results/spf/":
		result := &r.SPFResults[len(r.SPFResults)-1]
		switch name {
		case "domain":
			result.Domain = p.domain(value)
		case "scope":
			result.Scope = strings.ToLower(value)
		case "result":
			result.Result = strings.ToLower(value)
		case "human_result":
			result.Human = value
		}
	}
}

// domain reads a domain; some write the address with it, some a dot at its end.
func (p *parser) domain(s string) string {
	s = strings.Trim(s, "<>")
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		s = s[i+1:]
	}
	return strings.ToLower(strings.TrimSuffix(s, "."))
}

func (p *parser) addr(s string) netip.Addr {
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		p.note("the source address %q cannot be read", clip(s))
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

func (p *parser) count(s string) int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(s, ".0"), 10, 64)
	if err != nil || n < 0 || n > MaxCount {
		p.note("the count %q cannot be read and is taken for 0", clip(s))
		return 0
	}
	return n
}

// time reads seconds since 1970 (RFC 9990 §3.1.1.3), with the decimals and the milliseconds
// that some add, or a date as other formats have it. The zero Time stands for what cannot be read.
func (p *parser) time(s string) time.Time {
	whole, _, _ := strings.Cut(s, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err == nil && seconds > 1e11 && seconds < 1e14 {
		seconds /= 1000
	}
	if err == nil && seconds > 0 && seconds < 1e11 {
		return time.Unix(seconds, 0).UTC()
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil && t.Year() >= 1970 {
			return t.UTC()
		}
	}
	p.note("the time %q cannot be read", clip(s))
	return time.Time{}
}

// endRecord takes a record, with what it does not say filled in.
func (p *parser) endRecord() {
	r := p.record
	if r.Count < 0 {
		p.note("a record has no count, and is taken for one message")
		r.Count = 1
	}
	if r.Disposition == "" {
		p.note("a record has no disposition, which is taken for none")
		r.Disposition = "none"
	}
	for _, aligned := range []*string{&r.DKIM, &r.SPF} {
		if *aligned != "pass" && *aligned != "fail" {
			if *aligned != "" {
				p.note("an evaluated result %q is neither pass nor fail, and is taken for fail", clip(*aligned))
			}
			*aligned = "fail"
		}
	}
	if r.HeaderFrom == "" {
		p.note("a record has no header_from")
	}
	// A space or a bracket in it cannot be a domain, but may tell a person something.
	if strings.ContainsAny(r.HeaderFrom, " <>,;") {
		p.note("header_from %q is not a domain", clip(r.HeaderFrom))
	}
	if r.SPFResults != nil && r.SPFResults[0] == (SPFResult{}) {
		r.SPFResults = r.SPFResults[1:]
	}
	p.report.Records = append(p.report.Records, r)
}

// finish looks at the whole: without a domain nobody knows what it is about.
func (p *parser) finish() error {
	r := &p.report
	if r.Policy.Domain = p.domain(r.Policy.Domain); r.Policy.Domain == "" {
		return fmt.Errorf("%w: it names no policy domain (policy_published/domain)", ErrMalformed)
	}
	for _, missing := range []struct {
		name string
		is   bool
	}{
		{"org_name", r.Org == ""}, {"report_id", r.ID == ""}, {"date_range", r.Begin.IsZero() || r.End.IsZero()},
		{"p", r.Policy.P == ""}, {"record", len(r.Records) == 0},
	} {
		if missing.is {
			p.note("it has no %s", missing.name)
		}
	}
	if r.End.Before(r.Begin) {
		p.note("its period ends before it begins")
	}
	return nil
}
