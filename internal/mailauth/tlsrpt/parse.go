package tlsrpt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"mxward/internal/mailauth/attach"
)

// Read finds the TLS reports in a message or a file, compressed or not. It gives at least
// one, or an error.
func Read(r io.Reader) ([]Report, error) {
	var reports []Report
	err := attach.Find(r, func(i attach.Item) error {
		if i.Kind != attach.JSON {
			return fmt.Errorf("%w: %s", ErrNotReport, i.Kind)
		}
		report, err := ParseReport(i.Content)
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

// The JSON of RFC 8460 §4.4, as careless senders write it: numbers in quotation marks, one text
// where a list belongs, and null.
type (
	reportJSON struct {
		Org       string `json:"organization-name"`
		DateRange *struct {
			Begin string `json:"start-datetime"`
			End   string `json:"end-datetime"`
		} `json:"date-range"`
		Contact  string       `json:"contact-info"`
		ID       string       `json:"report-id"`
		Policies []policyJSON `json:"policies"`
	}
	policyJSON struct {
		Policy struct {
			Type    string `json:"policy-type"`
			Strings list   `json:"policy-string,omitempty"`
			Domain  string `json:"policy-domain"`
			MXHosts list   `json:"mx-host,omitempty"`
		} `json:"policy"`
		Summary struct {
			Successful number `json:"total-successful-session-count"`
			Failed     number `json:"total-failure-session-count"`
		} `json:"summary"`
		Failures []failureJSON `json:"failure-details,omitempty"`
	}
	failureJSON struct {
		Result      string `json:"result-type"`
		SendingIP   string `json:"sending-mta-ip,omitempty"`
		MXHost      string `json:"receiving-mx-hostname,omitempty"`
		MXHelo      string `json:"receiving-mx-helo,omitempty"`
		ReceivingIP string `json:"receiving-ip,omitempty"`
		Sessions    number `json:"failed-session-count"`
		Information string `json:"additional-information,omitempty"`
		Reason      string `json:"failure-reason-code,omitempty"`
	}
	list   []string
	number int64
)

func (l *list) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(data, []byte(`"`)) {
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
		*l = list{s}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(l))
}

func (n *number) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	i, err := strconv.ParseInt(strings.Trim(string(data), `"`), 10, 64)
	if err != nil || i < 0 || i > MaxCount {
		return fmt.Errorf("expected a number of sessions, got %s", clip(string(data)))
	}
	*n = number(i)
	return nil
}

// ParseReport reads the JSON of one report.
func ParseReport(r io.Reader) (Report, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxReport+1))
	if err != nil {
		return Report{}, err
	}
	switch {
	case len(data) > MaxReport:
		return Report{}, fmt.Errorf("%w: more than %d octets", ErrTooLarge, MaxReport)
	case bytes.Count(data, []byte("{")) > maxObjects:
		return Report{}, fmt.Errorf("%w: more than %d objects", ErrTooLarge, maxObjects)
	case bytes.Count(data, []byte(",")) > maxCommas:
		return Report{}, fmt.Errorf("%w: more than %d values", ErrTooLarge, maxCommas)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	var in reportJSON
	if err := json.Unmarshal(data, &in); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) && !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
			return Report{}, fmt.Errorf("%w: not JSON", ErrNotReport)
		}
		return Report{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if in.Policies == nil && in.DateRange == nil {
		return Report{}, fmt.Errorf("%w: JSON without date-range and policies", ErrNotReport)
	}
	return in.report()
}

func (in reportJSON) report() (Report, error) {
	p := parser{Report{Org: cut(in.Org), Contact: cut(in.Contact), ID: cut(strings.Trim(in.ID, "<>"))}}
	if in.DateRange != nil {
		p.Begin, p.End = p.time(in.DateRange.Begin), p.time(in.DateRange.End)
	}
	for name, missing := range map[string]bool{"organization-name": p.Org == "", "report-id": p.ID == "", "date-range": in.DateRange == nil} {
		if missing {
			p.note("it has no %s", name)
		}
	}
	domain := false
	for _, policy := range in.Policies {
		p.Policies = append(p.Policies, p.policy(policy))
		domain = domain || policy.Policy.Domain != ""
	}
	if !domain {
		return Report{}, fmt.Errorf("%w: it names no policy domain", ErrMalformed)
	}
	return p.Report, nil
}

type parser struct{ Report }

func (p *parser) note(format string, args ...any) {
	if len(p.Faults) < MaxFaults {
		p.Faults = append(p.Faults, fmt.Sprintf(format, args...))
	}
}

func (p *parser) policy(in policyJSON) Policy {
	out := Policy{
		Type: strings.ToLower(cut(in.Policy.Type)), Strings: cutAll(in.Policy.Strings), Domain: domain(in.Policy.Domain),
		MXHosts: cutAll(in.Policy.MXHosts), Successful: int64(in.Summary.Successful), Failed: int64(in.Summary.Failed),
	}
	for _, f := range in.Failures {
		out.Failures = append(out.Failures, Failure{
			Result: strings.ToLower(cut(f.Result)), SendingIP: p.addr(f.SendingIP), MXHost: domain(f.MXHost), MXHelo: cut(f.MXHelo),
			ReceivingIP: p.addr(f.ReceivingIP), Sessions: int64(f.Sessions), Information: cut(f.Information), Reason: cut(f.Reason),
		})
	}
	return out
}

// addr reads an address; some are within brackets, and many are absent.
func (p *parser) addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(strings.TrimPrefix(strings.Trim(s, "[] "), "IPv6:"))
	if err != nil {
		p.note("the address %q cannot be read", clip(s))
	}
	return a.Unmap().WithZone("")
}

// time reads RFC 3339, also without its time zone.
func (p *parser) time(s string) time.Time {
	s = strings.TrimSpace(s)
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	p.note("the time %q cannot be read", clip(s))
	return time.Time{}
}

func domain(s string) string {
	return strings.ToLower(strings.TrimSuffix(strings.TrimSpace(cut(s)), "."))
}

func cut(s string) string {
	if len(s) > MaxText {
		return strings.ToValidUTF8(s[:MaxText], "")
	}
	return s
}

func cutAll(list []string) []string {
	for i, s := range list {
		list[i] = cut(s)
	}
	return list
}
