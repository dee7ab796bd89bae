package dmarcrpt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	netmail "net/mail"
	"net/netip"
	"strings"
	"time"

	"mxward/internal/mail"
	"mxward/internal/mailauth/attach"
)

// Limits of a failure report, ours.
const (
	MaxOriginal = 1 << 20 // octets of the original message that are looked at
	maxFields   = 200     // of the report
)

// Failure is a report about one message that failed (RFC 6591, RFC 9991), or another kind of
// feedback in the same format (RFC 5965). What is absent is zero.
type Failure struct {
	Type         string   // Feedback-Type: "auth-failure", "abuse", …, lower case
	AuthFailure  []string // "dmarc", "dkim", "spf", "adsp", "bodyhash", "revoked", "signature", lower case
	UserAgent    string
	Domain       string // the first Reported-Domain
	Source       netip.Addr
	Arrival      time.Time
	Incidents    int64  // how many messages it stands for, 1 if it does not say
	MailFrom     string // Original-Mail-From, without brackets
	RcptTo       []string
	Delivery     string   // Delivery-Result: "delivered", "spam", "policy", "reject", "other"
	Alignment    []string // Identity-Alignment (RFC 9991 §4): "dkim", "spf", "none"
	EnvelopeID   string
	Results      []string // Authentication-Results, unread
	DKIMDomain   string
	DKIMIdentity string
	DKIMSelector string
	SPFDNS       []string
	// Original is the header of the message that the report is about; nil if it does not
	// come along or cannot be read.
	Original mail.Header
	Faults   []string // what was overlooked, for people
}

// ReadFailure finds the failure report in a message.
func ReadFailure(r io.Reader) (Failure, error) {
	var f Failure
	found := false
	err := attach.Find(r, func(i attach.Item) error {
		var err error
		switch {
		case i.Kind == attach.Feedback && !found:
			f, err = ParseFailure(i.Content)
			found = err == nil
		case i.Kind == attach.Original && f.Original == nil:
			err = f.ReadOriginal(i.Content)
		default:
			return fmt.Errorf("%w: %s", ErrNotReport, i.Kind)
		}
		return err
	})
	if err != nil {
		return Failure{}, err
	}
	return f, nil
}

// ParseFailure reads the fields of a message/feedback-report.
func ParseFailure(r io.Reader) (Failure, error) {
	br := bufio.NewReaderSize(r, 4096)
	for { // empty lines before the fields are a common mistake
		begin, err := br.Peek(1)
		if err != nil || begin[0] != '\r' && begin[0] != '\n' {
			break
		}
		br.Discard(1)
	}
	fields, err := mail.ReadHeader(br)
	switch {
	case errors.Is(err, mail.ErrHeaderMalformed):
		return Failure{}, fmt.Errorf("%w: feedback report: %w", ErrMalformed, err)
	case errors.Is(err, mail.ErrHeaderTooLarge):
		return Failure{}, fmt.Errorf("%w: feedback report: %w", ErrTooLarge, err)
	case err != nil:
		return Failure{}, err
	}
	if len(fields) > maxFields {
		return Failure{}, fmt.Errorf("%w: a feedback report of more than %d fields", ErrTooLarge, maxFields)
	}
	f := Failure{Incidents: 1}
	for _, field := range fields {
		f.set(strings.ToLower(field.Name), field.Value())
	}
	if f.Type == "" { // the one field without which nobody knows what it is (RFC 5965 §3.1)
		return Failure{}, fmt.Errorf("%w: a feedback report without Feedback-Type", ErrMalformed)
	}
	return f, nil
}

// ReadOriginal takes the header of the original message, which may end anywhere. One that
// cannot be read is no reason to drop the report.
func (f *Failure) ReadOriginal(r io.Reader) error {
	header, err := mail.ReadHeader(bufio.NewReaderSize(io.LimitReader(r, MaxOriginal), 4096))
	if errors.Is(err, mail.ErrHeaderMalformed) || errors.Is(err, mail.ErrHeaderTooLarge) {
		f.note("the original message: %s", err)
		return nil
	}
	f.Original = header
	return err
}

func (f *Failure) note(format string, args ...any) {
	if len(f.Faults) < MaxFaults {
		f.Faults = append(f.Faults, fmt.Sprintf(format, args...))
	}
}

func (f *Failure) set(name, value string) {
	value = cut(value)
	switch name {
	case "feedback-type":
		f.Type = strings.ToLower(value)
	case "auth-failure":
		f.AuthFailure = words(value)
	case "identity-alignment":
		f.Alignment = words(value)
	case "user-agent":
		f.UserAgent = value
	case "reported-domain":
		if f.Domain == "" {
			f.Domain = strings.ToLower(value)
		}
	case "source-ip":
		a, err := netip.ParseAddr(strings.Trim(value, "[]"))
		if err != nil {
			f.note("Source-IP: %q is no address", clip(value))
		}
		f.Source = a.Unmap().WithZone("")
	case "arrival-date", "received-date": // the second is that of the drafts of RFC 5965
		t, err := netmail.ParseDate(value)
		if err != nil {
			f.note("Arrival-Date: %q is no date", clip(value))
		}
		f.Arrival = t.UTC()
	case "incidents":
		if _, err := fmt.Sscan(value, &f.Incidents); err != nil || f.Incidents < 1 || f.Incidents > MaxCount {
			f.note("Incidents: %q is no count", clip(value))
			f.Incidents = 1
		}
	case "delivery-result":
		f.Delivery = strings.ToLower(value)
	default:
		f.setText(name, value)
	}
}

func (f *Failure) setText(name, value string) {
	switch name {
	case "original-mail-from":
		f.MailFrom = strings.Trim(value, "<>")
	case "original-rcpt-to":
		f.RcptTo = append(f.RcptTo, strings.Trim(value, "<>"))
	case "original-envelope-id":
		f.EnvelopeID = value
	case "authentication-results":
		f.Results = append(f.Results, value)
	case "dkim-domain":
		f.DKIMDomain = strings.ToLower(value)
	case "dkim-identity":
		f.DKIMIdentity = value
	case "dkim-selector":
		f.DKIMSelector = value
	case "spf-dns":
		f.SPFDNS = append(f.SPFDNS, value)
	}
}

// words reads a list such as "dkim, spf".
func words(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return strings.ContainsRune(", ;\t", r) })
}

func cut(s string) string {
	if len(s) > MaxText {
		return strings.ToValidUTF8(s[:MaxText], "")
	}
	return s
}
