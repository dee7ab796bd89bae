package dmarcrpt

import (
	"bytes"
	"compress/gzip"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/attach"
)

// The elements in the order of RFC 9990 §3.1.1. Those of RFC 7489 that it dropped are not written.
type (
	metadataXML struct {
		Org     string `xml:"org_name"`
		Email   string `xml:"email"`
		Contact string `xml:"extra_contact_info,omitempty"`
		ID      string `xml:"report_id"`
		Begin   int64  `xml:"date_range>begin"`
		End     int64  `xml:"date_range>end"`
		Error   string `xml:"error,omitempty"`
		Maker   string `xml:"generator,omitempty"`
	}
	policyXML struct {
		Domain    string `xml:"domain"`
		Discovery string `xml:"discovery_method,omitempty"`
		P         string `xml:"p"`
		SP        string `xml:"sp,omitempty"`
		NP        string `xml:"np,omitempty"`
		FO        string `xml:"fo,omitempty"`
		ADKIM     string `xml:"adkim,omitempty"`
		ASPF      string `xml:"aspf,omitempty"`
		Testing   string `xml:"testing,omitempty"`
	}
	recordXML struct {
		Source       netip.Addr  `xml:"row>source_ip"`
		Count        int64       `xml:"row>count"`
		Disposition  string      `xml:"row>policy_evaluated>disposition"`
		DKIM         string      `xml:"row>policy_evaluated>dkim"`
		SPF          string      `xml:"row>policy_evaluated>spf"`
		Reasons      []reasonXML `xml:"row>policy_evaluated>reason"`
		HeaderFrom   string      `xml:"identifiers>header_from"`
		EnvelopeFrom string      `xml:"identifiers>envelope_from,omitempty"`
		EnvelopeTo   string      `xml:"identifiers>envelope_to,omitempty"`
		Results      resultsXML  `xml:"auth_results"` // there, even if empty
	}
	reasonXML struct {
		Type    string `xml:"type"`
		Comment string `xml:"comment,omitempty"`
	}
	resultsXML struct {
		DKIM []dkimXML `xml:"dkim"`
		SPF  []spfXML  `xml:"spf"` // at most one
	}
	dkimXML struct {
		Domain   string `xml:"domain"`
		Selector string `xml:"selector"`
		Result   string `xml:"result"`
		Human    string `xml:"human_result,omitempty"`
	}
	spfXML struct {
		Domain string `xml:"domain"`
		Scope  string `xml:"scope,omitempty"`
		Result string `xml:"result"`
		Human  string `xml:"human_result,omitempty"`
	}
)

// The words of RFC 9990 appendix A.
var (
	policies     = []string{"none", "quarantine", "reject"}
	dispositions = []string{"none", "pass", "quarantine", "reject"}
	reasonTypes  = []string{"local_policy", "mailing_list", "other", "policy_test_mode", "trusted_forwarder"}
	dkimResults  = []string{"none", "pass", "fail", "policy", "neutral", "temperror", "permerror"}
	spfResults   = []string{"none", "pass", "fail", "softfail", "policy", "neutral", "temperror", "permerror"}
)

// Check tells what keeps a report from being written: the schema of RFC 9990 appendix A
// would refuse it. It is nil for what Build makes of words that DMARC knows.
func (r Report) Check() error {
	var faults []error
	wrong := func(name, value string, words ...string) {
		if len(faults) < MaxFaults && !slices.Contains(words, value) {
			faults = append(faults, fmt.Errorf("%s: expected one of %q, got %q", name, words, clip(value)))
		}
	}
	for name, value := range map[string]string{"org_name": r.Org, "email": r.Email, "report_id": r.ID, "policy domain": r.Policy.Domain} {
		if value == "" {
			faults = append(faults, fmt.Errorf("there is no %s", name))
		}
	}
	if !r.Begin.Before(r.End) || r.Begin.Unix() < 0 {
		faults = append(faults, fmt.Errorf("the period from %s to %s is none", r.Begin.Format(time.DateTime), r.End.Format(time.DateTime)))
	}
	if n := len(r.Records); n == 0 || n > MaxRecords {
		faults = append(faults, fmt.Errorf("it has %d records, of 1 to %d", n, MaxRecords))
	}
	wrong("p", r.Policy.P, policies...)
	wrong("sp", r.Policy.SP, append(policies, "")...)
	wrong("np", r.Policy.NP, append(policies, "")...)
	wrong("adkim", r.Policy.ADKIM, "", "r", "s")
	wrong("aspf", r.Policy.ASPF, "", "r", "s")
	wrong("testing", r.Policy.Testing, "", "n", "y")
	wrong("discovery_method", r.Policy.Discovery, "", "psl", "treewalk")
	for _, record := range r.Records {
		if !record.Source.IsValid() || record.HeaderFrom == "" || record.Count < 1 {
			wrong("a record", "one without source, header_from or count")
		}
		wrong("disposition", record.Disposition, dispositions...)
		wrong("evaluated dkim", record.DKIM, "pass", "fail")
		wrong("evaluated spf", record.SPF, "pass", "fail")
		for _, reason := range record.Reasons {
			wrong("reason", reason.Type, reasonTypes...)
		}
		for _, d := range record.DKIMResults {
			wrong("dkim result", d.Result, dkimResults...)
		}
		for _, s := range record.SPFResults {
			wrong("spf result", s.Result, spfResults...)
		}
	}
	if faults != nil {
		return fmt.Errorf("write a DMARC report: %w", errors.Join(faults...))
	}
	return nil
}

// WriteXML writes the report as RFC 9990 has it. Of the SPF results only the MAIL FROM's
// has a place there.
func (r Report) WriteXML(w io.Writer) error {
	if err := r.Check(); err != nil {
		return err
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	out := xml.NewEncoder(w)
	out.Indent("", " ")
	feedback := xml.StartElement{Name: xml.Name{Local: "feedback"}, Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: namespace}}}
	if err := out.EncodeToken(feedback); err != nil {
		return err
	}
	put := func(name string, v any) error {
		return out.EncodeElement(v, xml.StartElement{Name: xml.Name{Local: name}})
	}
	m := metadataXML{r.Org, r.Email, r.Contact, r.ID, r.Begin.Unix(), r.End.Unix(), joinLines(r.Errors), r.Software}
	p := r.Policy
	err := errors.Join(
		put("version", "1.0"),
		put("report_metadata", m),
		put("policy_published", policyXML{p.Domain, p.Discovery, p.P, p.SP, p.NP, p.FO, p.ADKIM, p.ASPF, p.Testing}),
	)
	if err != nil {
		return err
	}
	for _, record := range r.Records {
		if err := put("record", record.xml()); err != nil {
			return err
		}
	}
	if err := out.EncodeToken(feedback.End()); err != nil {
		return err
	}
	return out.Close()
}

// joinLines: the schema has room for one error.
func joinLines(lines []string) string {
	var b bytes.Buffer
	for i, s := range lines {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(s)
	}
	return b.String()
}

func (r Record) xml() recordXML {
	out := recordXML{
		Source: r.Source, Count: r.Count, Disposition: r.Disposition, DKIM: r.DKIM, SPF: r.SPF,
		HeaderFrom: r.HeaderFrom, EnvelopeFrom: r.EnvelopeFrom, EnvelopeTo: r.EnvelopeTo,
	}
	for _, reason := range r.Reasons {
		out.Reasons = append(out.Reasons, reasonXML(reason))
	}
	for _, d := range r.DKIMResults[:min(len(r.DKIMResults), MaxSignatures)] {
		out.Results.DKIM = append(out.Results.DKIM, dkimXML(d))
	}
	for _, s := range r.SPFResults {
		if s.Scope == "" || s.Scope == "mfrom" {
			out.Results.SPF = []spfXML{spfXML(s)}
			break
		}
	}
	return out
}

// Write writes the report compressed with gzip. The octets depend on nothing but the report.
func (r Report) Write(w io.Writer) error {
	z := gzip.NewWriter(w)
	if err := r.WriteXML(z); err != nil {
		return err
	}
	return z.Close()
}

// FileName is the attachment's name (RFC 9990 §3.5.2). Receiver is the reporter's domain. The ID
// is in it where it is of letters and digits, as those of Build are.
func (r Report) FileName(receiver dns.Name) string {
	id := ""
	if isAlphanumeric(r.ID) {
		id = "!" + r.ID
	}
	return fmt.Sprintf("%s!%s!%d!%d%s.xml.gz", receiver, r.Policy.Domain, r.Begin.Unix(), r.End.Unix(), id)
}

func isAlphanumeric(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return s != ""
}

// Envelope says how a report travels.
type Envelope struct {
	Receiver dns.Name // the reporter's domain, which DMARC must align with From
	From     mail.Address
	To       []mail.Address
	Date     time.Time
	Limit    int // octets of the message; 0 for attach.MaxMessage
}

// WriteMessage writes the message that carries the report (RFC 9990 §3.5.2), not yet signed. One
// over the limit is ErrTooLarge, and nothing is written: see Split.
func (r Report) WriteMessage(w io.Writer, e Envelope) error {
	domain, err := dns.ParseName(r.Policy.Domain)
	if err != nil {
		return fmt.Errorf("write a DMARC report: the policy domain: %w", err)
	}
	if !isAlphanumeric(r.ID) {
		return fmt.Errorf("write a DMARC report: expected a report ID of letters and digits, got %q", clip(r.ID))
	}
	r.Policy.Domain = domain.String()
	var content bytes.Buffer
	if err := r.Write(&content); err != nil {
		return err
	}
	_, err = attach.Message{
		From: e.From, To: e.To, Date: e.Date, Limit: e.Limit,
		Subject: fmt.Sprintf("Report Domain: %s Submitter: %s Report-ID: <%s>", domain, e.Receiver, r.ID),
		ID:      r.ID + "@" + e.Receiver.String(),
		Text: fmt.Sprintf("This is a DMARC aggregate report for %s,\nby %s,\nfrom %s to %s (UTC).\n", domain, e.Receiver,
			r.Begin.UTC().Format(time.DateTime), r.End.UTC().Format(time.DateTime)),
		Name: r.FileName(e.Receiver), MediaType: "application/gzip", Content: content.Bytes(),
	}.WriteTo(w)
	return err
}

// Split gives two reports with half of the records each, for one that is too large to send.
// It is false for a report of one record.
func (r Report) Split() (first, second Report, ok bool) {
	half := len(r.Records) / 2
	if half == 0 {
		return Report{}, Report{}, false
	}
	first, second = r, r
	first.Records, second.Records = r.Records[:half:half], r.Records[half:]
	first.ID, second.ID = reportID(r.ID, "1"), reportID(r.ID, "2")
	return first, second, true
}
