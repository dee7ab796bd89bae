package dmarcrpt

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"mxward/internal/dns"
)

// Observation is one message as a receiver saw it, or several of which all but the time was
// the same. Domains are A-labels.
type Observation struct {
	Time         time.Time // of the last one
	Messages     int64     `json:",omitempty"` // how many; 0 is one
	Source       netip.Addr
	HeaderFrom   string
	EnvelopeFrom string // "" for the null sender
	EnvelopeTo   string // a recipient's domain; "" to keep it to oneself
	Policy       Policy // the record that was found; Policy.Domain is whom the report is for
	PolicyError  string // what was wrong with it; may be ""
	SPF          SPFResult
	DKIM         []DKIMResult
	SPFAligned   bool // SPF passed for an aligned domain
	DKIMAligned  bool // a signature of an aligned domain passed
	// Disposition is what became of the message; "" where DMARC changed nothing.
	Disposition string
	Reasons     []Reason // why that is not what the policy asks for
}

// Reporter is who reports.
type Reporter struct {
	Receiver dns.Name // the domain
	Org      string   // a name for people; "" for the domain
	Email    string
	Contact  string
	Software string
}

// Build makes one report for each policy domain and day (UTC), in this order. Messages that
// differ in nothing but their time become one record with their number. Of several policies
// in a day the last one is told (RFC 9990 §3.1). Observations may come in any order. Those of a
// domain and day beyond MaxRecords different records are counted in the report's Errors.
//
// The same observations give the same reports, IDs too: who sends a report again sends the
// same one.
func Build(by Reporter, seen iter.Seq[Observation]) []Report {
	drafts := map[period]*draft{}
	for o := range seen {
		at := period{strings.ToLower(o.Policy.Domain), o.Time.UTC().Truncate(24 * time.Hour)}
		d := drafts[at]
		if d == nil {
			d = &draft{index: map[string]int{}}
			drafts[at] = d
		}
		d.add(o)
	}
	order := slices.SortedFunc(maps.Keys(drafts), func(a, b period) int {
		return cmp.Or(cmp.Compare(a.domain, b.domain), a.day.Compare(b.day))
	})
	reports := make([]Report, len(order))
	for i, at := range order {
		reports[i] = drafts[at].report(by, at)
	}
	return reports
}

// period is what one report is about.
type period struct {
	domain string
	day    time.Time // its begin
}

// draft is a report that grows.
type draft struct {
	last    time.Time // of policy
	policy  Policy
	errors  []string
	lines   []line
	index   map[string]int // a line's place by its key
	dropped int64
}

// line is a record and all of it but its count, as text.
type line struct {
	key string
	Record
}

func (d *draft) add(o Observation) {
	if d.last.IsZero() || o.Time.After(d.last) {
		d.last, d.policy = o.Time, o.Policy
	}
	if e := o.PolicyError; e != "" && len(d.errors) < MaxFaults && !slices.Contains(d.errors, e) {
		d.errors = append(d.errors, e)
	}
	r := o.record()
	key := r.key()
	if i, ok := d.index[key]; ok {
		d.lines[i].Count += r.Count
		return
	}
	if len(d.lines) == MaxRecords {
		d.dropped += r.Count
		return
	}
	d.index[key] = len(d.lines)
	d.lines = append(d.lines, line{key, r})
}

func (d *draft) report(by Reporter, at period) Report {
	r := Report{
		Version: "1.0", Org: cmp.Or(by.Org, by.Receiver.String()), Email: by.Email, Contact: by.Contact, Software: by.Software,
		Begin: at.day, End: at.day.Add(24*time.Hour - time.Second),
		Errors: d.errors, Policy: d.policy,
		ID: reportID(by.Receiver.String(), at.domain, strconv.FormatInt(at.day.Unix(), 10)),
	}
	r.Policy.Domain = at.domain
	if d.dropped > 0 {
		r.Errors = append(r.Errors, fmt.Sprintf("%d messages more are not in this report, which has room for %d records", d.dropped, MaxRecords))
	}
	slices.SortFunc(d.lines, func(a, b line) int {
		if c := a.Source.Compare(b.Source); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(a.HeaderFrom, b.HeaderFrom), cmp.Compare(a.key, b.key))
	})
	for _, l := range d.lines {
		r.Records = append(r.Records, l.Record)
	}
	return r
}

// reportID is of letters and digits, since it stands in a file's name too (RFC 9990 §3.1.4, §3.5.2).
func reportID(of ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(of, "\x00")))
	return hex.EncodeToString(sum[:16])
}

// record says of one message what a report says.
func (o Observation) record() Record {
	r := Record{
		Source: o.Source.Unmap().WithZone(""), Count: max(o.Messages, 1), Disposition: o.Disposition,
		DKIM: passOrFail(o.DKIMAligned), SPF: passOrFail(o.SPFAligned),
		HeaderFrom: strings.ToLower(o.HeaderFrom), EnvelopeFrom: strings.ToLower(o.EnvelopeFrom), EnvelopeTo: strings.ToLower(o.EnvelopeTo),
	}
	if r.Disposition == "" {
		// RFC 9990 appendix A: pass is for a policy that asks for something.
		r.Disposition = "none"
		if r.Pass() && o.Policy.P != "none" {
			r.Disposition = "pass"
		}
	}
	for _, reason := range o.Reasons {
		r.Reasons = append(r.Reasons, reason.known())
	}
	for _, d := range o.DKIM {
		d.Domain = strings.ToLower(d.Domain)
		d.Result = word(d.Result, dkimResults)
		r.DKIMResults = append(r.DKIMResults, d)
	}
	slices.SortStableFunc(r.DKIMResults, func(a, b DKIMResult) int { return a.rank(r.HeaderFrom) - b.rank(r.HeaderFrom) })
	r.DKIMResults = r.DKIMResults[:min(len(r.DKIMResults), MaxSignatures)]
	if o.SPF != (SPFResult{}) {
		o.SPF.Domain = strings.ToLower(o.SPF.Domain)
		o.SPF.Result = word(o.SPF.Result, spfResults)
		r.SPFResults = []SPFResult{o.SPF}
	}
	return r
}

func passOrFail(pass bool) string {
	if pass {
		return "pass"
	}
	return "fail"
}

// word gives a result as the schema knows it; what it does not know was an error.
func word(s string, known []string) string {
	if s = strings.ToLower(s); slices.Contains(known, s) {
		return s
	}
	return "permerror"
}

// known makes a reason one that RFC 9990 §3.1.6 knows.
func (r Reason) known() Reason {
	if slices.Contains(reasonTypes, r.Type) {
		return r
	}
	if r.Comment == "" {
		r.Comment = r.Type
	}
	r.Type = "other"
	return r
}

// rank orders signatures as RFC 9990 §3.1.3 wants them to be kept. Which domains are aligned
// in the relaxed way is the DMARC room's matter; one above or below the author's counts here.
func (d DKIMResult) rank(from string) int {
	switch {
	case d.Result != "pass":
		return 3
	case d.Domain == from:
		return 0
	case strings.HasSuffix(from, "."+d.Domain) || strings.HasSuffix(d.Domain, "."+from):
		return 1
	}
	return 2
}

// key is all of a record but its count.
func (r Record) key() string {
	return fmt.Sprintf("%s %q", r.Source, []any{r.Disposition, r.DKIM, r.SPF, r.Reasons, r.HeaderFrom, r.EnvelopeFrom, r.EnvelopeTo, r.DKIMResults, r.SPFResults})
}
