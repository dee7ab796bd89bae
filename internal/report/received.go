package report

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dmarc"
	"mxward/internal/mailauth/dmarcrpt"
	"mxward/internal/mailauth/tlsrpt"
)

// Kind is a kind of report that comes in.
type Kind string

// The kinds.
const (
	Aggregate Kind = "dmarc"   // RFC 9990
	Failure   Kind = "failure" // RFC 9991
	TLS       Kind = "tls"     // RFC 8460
)

// Received is a report that others sent, as it is stored.
type Received struct {
	Number    int64 // the store's, rising
	Key       string
	Kind      Kind
	At        time.Time // when it came
	End       time.Time // of its period
	Domain    string    // whom it is about
	Sender    string    // the author's domain of the message that brought it
	Authentic bool      // the message passed DMARC as that domain's (RFC 9990 §3.5.2)
	Reporter  string    // the organizational domain of Sender, whose room it takes; "" where not Authentic
	Data      []byte    // gzip
}

// Keeping bounds what is stored of reports: whoever knows the address may send them.
type Keeping struct {
	Reports int64 // of those that are authentic, and a tenth of it of the others
	Bytes   int64 // the same
}

// The limits of a gate, all ours.
const (
	maxReports  = 200_000
	maxBytes    = 1 << 30
	maxData     = 1 << 20              // octets of one report, compressed
	maxPlain    = 64 << 20             // uncompressed, when it is read back
	maxSources  = 10_000               // rows of one report; the rest is summed up without a source
	MaxAge      = 400 * 24 * time.Hour // how long a report is kept: a year, and to compare with
	forgedShare = 10                   // reports that are not authentic have one part in so many

	// One reporter has one part in so many: reports of 125 domains every day, for MaxAge. To
	// have a domain that passes DMARC costs little, and its owner shall not fill the room.
	reporterShare = 4
)

// KeepUsual are the limits of a gate.
func KeepUsual() Keeping { return Keeping{Reports: maxReports, Bytes: maxBytes} }

// For gives the limits of those reports that are authentic, or of those that are not: a
// forger cannot take the room of the others.
func (k Keeping) For(authentic bool) Keeping {
	if authentic {
		return k
	}
	return Keeping{k.Reports / forgedShare, k.Bytes / forgedShare}
}

// Have reports whether beside so many reports and octets there is room for one more of a size.
func (k Keeping) Have(reports, bytes, size int64) bool {
	return reports < k.Reports && bytes+size <= k.Bytes
}

// OfReporter gives the limits of the authentic reports of one reporter.
func (k Keeping) OfReporter() Keeping {
	return Keeping{k.Reports / reporterShare, k.Bytes / reporterShare}
}

// Reports keeps what others report.
type Reports interface {
	// KeepReport stores a report, unless one with its key is there, or ErrFull says that there
	// is no room, or ErrShare that its Reporter has no more of it.
	KeepReport(ctx context.Context, limits Keeping, r Received) (kept bool, err error)
	// ReceivedReports gives up to limit reports of a kind whose period ends at since or
	// later and whose number is greater than after, by number.
	ReceivedReports(ctx context.Context, kind Kind, since time.Time, after int64, limit int) ([]Received, error)
	// ForgetReports removes what came before a time, in small steps.
	ForgetReports(ctx context.Context, before time.Time) error
}

// What KeepReport says: the store has as many reports as it may, or as many of one reporter.
var (
	ErrFull  = errors.New("no room for more reports")
	ErrShare = errors.New("no room for more reports of this reporter")
)

// The stored forms. They are written to last: a field is added, never renamed.
type (
	aggregateForm struct {
		Org    string    `json:"org"`
		ID     string    `json:"id"`
		Begin  int64     `json:"begin"`
		End    int64     `json:"end"`
		Policy string    `json:"p"`
		Rows   []rowForm `json:"rows"`
	}
	// rowForm is what a report says of one source.
	rowForm struct {
		Source      netip.Addr `json:"ip"`
		Count       int64      `json:"n"`
		Disposition string     `json:"d"`
		DKIM        string     `json:"dkim"`
		SPF         string     `json:"spf"`
		HeaderFrom  string     `json:"from"`
		Overridden  bool       `json:"over,omitempty"`
	}
	failureForm struct {
		Type       string     `json:"type"`
		Failed     []string   `json:"failed,omitempty"`
		Source     netip.Addr `json:"ip"`
		Domain     string     `json:"domain"`
		Arrival    int64      `json:"arrival,omitempty"`
		Incidents  int64      `json:"n"`
		MailFrom   string     `json:"mailfrom,omitempty"`
		RcptTo     []string   `json:"rcptto,omitempty"`
		HeaderFrom string     `json:"from,omitempty"`
		Delivery   string     `json:"delivery,omitempty"`
		Results    []string   `json:"results,omitempty"`
	}
)

// newAggregate makes the stored form of a report: what it says of each source. The single
// results of DKIM and SPF stay in the message.
func newAggregate(r dmarcrpt.Report) (Received, error) {
	form := aggregateForm{Org: r.Org, ID: r.ID, Begin: r.Begin.Unix(), End: r.End.Unix(), Policy: r.Policy.P}
	rows := map[rowForm]int64{}
	var order []rowForm
	for _, record := range r.Records {
		row := rowForm{
			Source: record.Source, Disposition: record.Disposition, DKIM: record.DKIM, SPF: record.SPF,
			HeaderFrom: record.HeaderFrom, Overridden: len(record.Reasons) > 0,
		}
		if !slices.Contains([]string{"pass", "quarantine", "reject"}, row.Disposition) {
			row.Disposition = "none" // whatever a stranger calls it
		}
		if _, known := rows[row]; !known && len(rows) >= maxSources {
			row.Source, row.HeaderFrom = netip.Addr{}, ""
		}
		if _, known := rows[row]; !known {
			order = append(order, row)
		}
		rows[row] += record.Count
	}
	for _, row := range order {
		count := rows[row]
		row.Count = min(count, dmarcrpt.MaxCount)
		form.Rows = append(form.Rows, row)
	}
	return stored(Aggregate, r.End, r.Policy.Domain, ofPeriod(cmp.Or(r.ID, digest(form)), r.End), r.Org, form)
}

// newTLS makes the stored form of a report, with what a careless sender left out.
func newTLS(r tlsrpt.Report) (Received, error) {
	r.Org, r.ID = cmp.Or(r.Org, "unknown"), cmp.Or(r.ID, digest(r))
	var text bytes.Buffer
	if err := r.WriteJSON(&text); err != nil {
		return Received{}, err
	}
	return stored(TLS, r.End, r.Domain(), ofPeriod(r.ID, r.End), r.Org, json.RawMessage(text.Bytes()))
}

// ofPeriod: there are reporters who give the same ID every day.
func ofPeriod(id string, end time.Time) string { return fmt.Sprintf("%s\x00%d", id, end.Unix()) }

// newFailure keeps the fields, and of the original message no more than its author.
func newFailure(f dmarcrpt.Failure, at time.Time) (Received, error) {
	form := failureForm{
		Type: f.Type, Failed: f.AuthFailure, Source: f.Source, Domain: f.Domain, Arrival: f.Arrival.Unix(), Incidents: f.Incidents,
		MailFrom: f.MailFrom, RcptTo: f.RcptTo, Delivery: f.Delivery, Results: f.Results,
	}
	for _, field := range f.Original.All("From") {
		form.HeaderFrom = field.Value()
		break
	}
	// Such a report has no ID: what it says is one.
	return stored(Failure, at, f.Domain, digest(form), f.UserAgent, form)
}

func digest(form any) string {
	text, _ := json.Marshal(form) // the forms have nothing that JSON lacks
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

func stored(kind Kind, end time.Time, domain, id, org string, form any) (Received, error) {
	r := Received{Kind: kind, End: end, Domain: strings.ToLower(domain), Key: strings.Join([]string{org, id}, "\x00")}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := errors.Join(json.NewEncoder(z).Encode(form), z.Close()); err != nil {
		return Received{}, fmt.Errorf("store a report: %w", err)
	}
	if b.Len() > maxData {
		return Received{}, fmt.Errorf("%w: it would take %d octets of the store, of %d", dmarcrpt.ErrTooLarge, b.Len(), maxData)
	}
	r.Data = b.Bytes()
	return r, nil
}

// by says who brought the report, which makes its key one of theirs: whoever forges a report
// in another's name does not take the place of the true one.
func (r Received) by(sender string, authentic bool) Received {
	r.Sender, r.Authentic = sender, authentic
	if authentic {
		r.Reporter = Owner(sender)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%t\x00%s\x00%s", r.Kind, sender, authentic, r.Domain, r.Key))
	r.Key = hex.EncodeToString(sum[:])
	return r
}

// Owner makes one of all the domains below one that somebody registered: they cost nothing.
func Owner(domain string) string {
	name, err := dns.ParseName(domain)
	if err != nil {
		return domain
	}
	return dmarc.ListOrg(name).String()
}

func (r Received) open(into any) error {
	z, err := gzip.NewReader(bytes.NewReader(r.Data))
	if err == nil {
		err = json.NewDecoder(io.LimitReader(z, maxPlain)).Decode(into)
	}
	if err != nil {
		return fmt.Errorf("read the stored report %d of %s: %w", r.Number, r.Domain, err)
	}
	return nil
}

// Aggregate gives back an aggregate report, as far as it is summed up. Its Org is the domain
// that is known to have sent it, for a report may say whatever it likes of its origin.
func (r Received) Aggregate() (dmarcrpt.Report, error) {
	var form aggregateForm
	if err := r.open(&form); err != nil {
		return dmarcrpt.Report{}, err
	}
	out := dmarcrpt.Report{Org: cmp.Or(r.Sender, form.Org), ID: r.Key, Policy: dmarcrpt.Policy{Domain: r.Domain, P: form.Policy}, Begin: stamp(form.Begin), End: stamp(form.End)}
	for _, row := range form.Rows {
		record := dmarcrpt.Record{Source: row.Source, Count: row.Count, Disposition: row.Disposition, DKIM: row.DKIM, SPF: row.SPF, HeaderFrom: row.HeaderFrom}
		if row.Overridden {
			record.Reasons = []dmarcrpt.Reason{{Type: "other"}}
		}
		out.Records = append(out.Records, record)
	}
	return out, nil
}

// TLS gives back a TLS report, its Org as Aggregate does.
func (r Received) TLS() (tlsrpt.Report, error) {
	var text json.RawMessage
	if err := r.open(&text); err != nil {
		return tlsrpt.Report{}, err
	}
	out, err := tlsrpt.ParseReport(bytes.NewReader(text))
	if err != nil {
		return tlsrpt.Report{}, fmt.Errorf("read the stored report %d of %s: %w", r.Number, r.Domain, err)
	}
	out.Org, out.ID = cmp.Or(r.Sender, out.Org), r.Key
	return out, nil
}

// FailureReport gives back a failure report, and the From of the message that it is about.
func (r Received) FailureReport() (f dmarcrpt.Failure, from string, err error) {
	var form failureForm
	if err := r.open(&form); err != nil {
		return dmarcrpt.Failure{}, "", err
	}
	return dmarcrpt.Failure{
		Type: form.Type, AuthFailure: form.Failed, Domain: form.Domain, Source: form.Source, Arrival: stamp(form.Arrival), Incidents: form.Incidents,
		MailFrom: form.MailFrom, RcptTo: form.RcptTo, Delivery: form.Delivery, Results: form.Results,
	}, form.HeaderFrom, nil
}

// stamp gives the zero Time back as it was.
func stamp(seconds int64) time.Time {
	if seconds == (time.Time{}).Unix() {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// page is how many stored reports are read at once.
const page = 16

// All gives the stored reports of a kind, by number, a page at a time. The error comes last.
func All(ctx context.Context, reports Reports, kind Kind, since time.Time) iter.Seq2[Received, error] {
	return func(yield func(Received, error) bool) {
		after := int64(0)
		for {
			got, err := reports.ReceivedReports(ctx, kind, since, after, page)
			if err != nil {
				yield(Received{}, fmt.Errorf("read the stored reports: %w", err))
				return
			}
			for _, r := range got {
				if !yield(r, nil) {
					return
				}
				after = r.Number
			}
			if len(got) < page {
				return
			}
		}
	}
}

// Below reports whether the report is about a domain or one below it.
func (r Received) Below(domain string) bool {
	return domain == "" || r.Domain == domain || strings.HasSuffix(r.Domain, "."+domain)
}
