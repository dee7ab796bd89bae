package tlsrpt

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/attach"
)

// MediaType is that of a report as Write writes it (RFC 8460 §6.5), for a POST too.
const MediaType = "application/tlsrpt+gzip"

// Session is one SMTP session that a sender had, or could not have, with a domain's MX.
type Session struct {
	Time    time.Time
	Domain  string   // the recipient domain, whose policy it is
	Type    string   // TypeSTS, TypeTLSA or TypeNoPolicy
	Strings []string // of the policy
	MXHosts []string // of the policy
	// Failure is what went wrong, with its Sessions ignored; the zero Failure for a session
	// that was as the policy wants it.
	Failure Failure
}

// Reporter is who reports.
type Reporter struct {
	Submitter dns.Name
	Org       string // a name for people; "" for the submitter
	Contact   string
}

// maxFailures is how many different failures of a policy are told apart; ours. The rest is
// in the policy's count.
const maxFailures = 1000

// Build makes one report for each domain and day (UTC), in this order. Sessions may come in any.
// The same sessions give the same reports, IDs too.
func Build(by Reporter, seen iter.Seq[Session]) []Report {
	reports := map[period]*Report{}
	for s := range seen {
		at := period{strings.ToLower(s.Domain), s.Time.UTC().Truncate(24 * time.Hour)}
		r := reports[at]
		if r == nil {
			r = &Report{
				Org: cmp.Or(by.Org, by.Submitter.String()), Contact: by.Contact, ID: reportID(by.Submitter, at),
				Begin: at.day, End: at.day.Add(24*time.Hour - time.Second),
			}
			reports[at] = r
		}
		r.add(at.domain, s)
	}
	order := slices.SortedFunc(maps.Keys(reports), func(a, b period) int {
		return cmp.Or(cmp.Compare(a.domain, b.domain), a.day.Compare(b.day))
	})
	var all []Report
	for _, at := range order {
		reports[at].sort()
		all = append(all, *reports[at])
	}
	return all
}

type period struct {
	domain string
	day    time.Time
}

func reportID(by dns.Name, at period) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", by, at.domain, at.day.Unix()))
	return hex.EncodeToString(sum[:16])
}

func (r *Report) add(domain string, s Session) {
	i := slices.IndexFunc(r.Policies, func(p Policy) bool {
		return p.Type == s.Type && slices.Equal(p.Strings, s.Strings) && slices.Equal(p.MXHosts, s.MXHosts)
	})
	if i < 0 {
		i = len(r.Policies)
		r.Policies = append(r.Policies, Policy{Type: s.Type, Strings: s.Strings, Domain: domain, MXHosts: s.MXHosts})
	}
	p := &r.Policies[i]
	if s.Failure == (Failure{}) {
		p.Successful++
		return
	}
	p.Failed++
	s.Failure.Sessions = 0
	for i := range p.Failures {
		f := p.Failures[i]
		f.Sessions = 0
		if f == s.Failure {
			p.Failures[i].Sessions++
			return
		}
	}
	if len(p.Failures) < maxFailures {
		s.Failure.Sessions = 1
		p.Failures = append(p.Failures, s.Failure)
	}
}

func (r *Report) sort() {
	key := func(p Policy) string { return p.Type + strings.Join(p.Strings, "\n") }
	slices.SortStableFunc(r.Policies, func(a, b Policy) int { return cmp.Compare(key(a), key(b)) })
	for _, p := range r.Policies {
		slices.SortStableFunc(p.Failures, func(a, b Failure) int {
			return cmp.Or(cmp.Compare(a.Result, b.Result), cmp.Compare(a.MXHost, b.MXHost), a.ReceivingIP.Compare(b.ReceivingIP),
				a.SendingIP.Compare(b.SendingIP), cmp.Compare(a.MXHelo+"\n"+a.Reason+"\n"+a.Information, b.MXHelo+"\n"+b.Reason+"\n"+b.Information))
		})
	}
}

// Domain is whom the report is about.
func (r Report) Domain() string {
	for _, p := range r.Policies {
		if p.Domain != "" {
			return p.Domain
		}
	}
	return ""
}

// WriteJSON writes the report as RFC 8460 §4.4 has it.
func (r Report) WriteJSON(w io.Writer) error {
	if r.Org == "" || r.ID == "" || r.Domain() == "" || r.End.Before(r.Begin) {
		return fmt.Errorf("write a TLS report: organization, ID, policy domain or period is missing")
	}
	out := reportJSON{Org: r.Org, Contact: r.Contact, ID: r.ID, Policies: []policyJSON{}}
	out.DateRange = &struct {
		Begin string `json:"start-datetime"`
		End   string `json:"end-datetime"`
	}{r.Begin.UTC().Format(time.RFC3339), r.End.UTC().Format(time.RFC3339)}
	for _, p := range r.Policies {
		var j policyJSON
		j.Policy.Type, j.Policy.Strings, j.Policy.Domain, j.Policy.MXHosts = p.Type, p.Strings, p.Domain, p.MXHosts
		j.Summary.Successful, j.Summary.Failed = number(p.Successful), number(p.Failed)
		for _, f := range p.Failures {
			j.Failures = append(j.Failures, failureJSON{f.Result, addrText(f.SendingIP), f.MXHost, f.MXHelo, addrText(f.ReceivingIP), number(f.Sessions), f.Information, f.Reason})
		}
		out.Policies = append(out.Policies, j)
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(out)
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// Write writes the report compressed with gzip.
func (r Report) Write(w io.Writer) error {
	z := gzip.NewWriter(w)
	if err := r.WriteJSON(z); err != nil {
		return err
	}
	return z.Close()
}

// FileName is the attachment's name (RFC 8460 §5.1).
func (r Report) FileName(submitter dns.Name) string {
	return fmt.Sprintf("%s!%s!%d!%d!%s.json.gz", submitter, r.Domain(), r.Begin.Unix(), r.End.Unix(), r.ID)
}

// Envelope says how a report travels by mail.
type Envelope struct {
	Submitter dns.Name // the reporter's domain, which DKIM must sign for
	From      mail.Address
	To        []mail.Address
	Date      time.Time
	Limit     int // octets of the message; 0 for attach.MaxMessage
}

// WriteMessage writes the message that carries the report (RFC 8460 §5.3), not yet signed.
func (r Report) WriteMessage(w io.Writer, e Envelope) error {
	domain, err := dns.ParseName(r.Domain())
	if err != nil {
		return fmt.Errorf("write a TLS report: the policy domain: %w", err)
	}
	for _, c := range []byte(r.ID) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return fmt.Errorf("write a TLS report: expected an ID of letters and digits, got %q", clip(r.ID))
		}
	}
	var content bytes.Buffer
	if err := r.Write(&content); err != nil {
		return err
	}
	_, err = attach.Message{
		From: e.From, To: e.To, Date: e.Date, Limit: e.Limit, ReportType: "tlsrpt",
		Subject: fmt.Sprintf("Report Domain: %s Submitter: %s Report-ID: <%s@%s>", domain, e.Submitter, r.ID, e.Submitter),
		ID:      r.ID + "@" + e.Submitter.String(),
		Fields:  [][2]string{{"TLS-Report-Domain", domain.String()}, {"TLS-Report-Submitter", e.Submitter.String()}},
		Text: fmt.Sprintf("This is a TLS report for %s,\nby %s,\nfrom %s to %s (UTC).\n", domain, e.Submitter,
			r.Begin.UTC().Format(time.DateTime), r.End.UTC().Format(time.DateTime)),
		Name: r.FileName(e.Submitter), MediaType: MediaType, Content: content.Bytes(),
	}.WriteTo(w)
	return err
}
