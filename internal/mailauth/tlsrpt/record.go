// Package tlsrpt is SMTP TLS reporting (RFC 8460): the record by which a domain asks for reports,
// and the reports, built from what a sender saw of the TLS of its sessions, written, carried
// in a message, parsed and summed up.
//
// A record is looked up; all else is data and octets. Reports come from strangers and are
// bounded in all that they have.
//
// Not implemented: the HTTPS POST (RFC 8460 §5.4), for which MediaType and Write are enough, and
// reports of several policy domains in one, which RFC 8460 does not have either.
package tlsrpt

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

// The errors of records. Trouble with the DNS is a dns.Error and none of these.
var (
	ErrNoRecord = errors.New("no TLS-RPT record")
	ErrSyntax   = errors.New("TLS-RPT record is wrong")
)

const (
	version    = "v=TLSRPTv1"
	maxRecord  = 4096 // ours: octets of a record
	maxExtName = 32   // RFC 8460 §3
)

// Record is what a domain publishes at _smtp._tls (RFC 8460 §3). The zero Record is none.
type Record struct {
	RUA        []string // the URIs as published, at least one; others than mailto: and https: too
	Extensions []Extension
}

// Extension is a field that nobody knows yet.
type Extension struct{ Name, Value string }

// Name is where a domain's record stands. The error says that the name would be too long.
func Name(domain dns.Name) (dns.Name, error) {
	name, err := domain.Child("_tls")
	if err != nil {
		return dns.Name{}, err
	}
	return name.Child("_smtp")
}

// Lookup asks for a domain's record. ErrNoRecord: there is none, or more than one, which
// counts as none (RFC 8460 §3). ErrSyntax: there is one and it is wrong. Else the DNS could not
// be asked, which says nothing about the domain.
func Lookup(ctx context.Context, r dns.Resolver, domain dns.Name) (Record, error) {
	name, err := Name(domain)
	if err != nil {
		return Record{}, fmt.Errorf("%w: %s: %w", ErrNoRecord, domain, err)
	}
	texts, err := dns.LookupTXT(ctx, r, name)
	if err != nil {
		return Record{}, fmt.Errorf("look up the TLS-RPT record of %s: %w", domain, err)
	}
	records := Select(texts.Records)
	if len(records) != 1 {
		return Record{}, fmt.Errorf("%w: %s has %d of them, of %d texts", ErrNoRecord, name, len(records), len(texts.Records))
	}
	return Parse(records[0])
}

// Select gives those of a name's texts that are records (RFC 8460 §3).
func Select(texts []string) []string {
	var records []string
	for _, t := range texts {
		if IsRecord(t) {
			records = append(records, t)
		}
	}
	return records
}

// IsRecord tells whether a text begins as a record does: whatever else is wrong with it, it
// was meant to be one.
func IsRecord(text string) bool {
	rest, ok := strings.CutPrefix(text, version)
	return ok && strings.HasPrefix(strings.TrimLeft(rest, " \t"), ";")
}

// Parse reads the text of a record. ErrNoRecord: the text is none; ErrSyntax: it is a wrong one.
func Parse(text string) (Record, error) {
	if !IsRecord(text) {
		return Record{}, fmt.Errorf(`%w: it begins with "v=TLSRPTv1;", got %q`, ErrNoRecord, clip(text))
	}
	if len(text) > maxRecord {
		return Record{}, fmt.Errorf("%w: longer than %d octets", ErrSyntax, maxRecord)
	}
	var r Record
	fields := strings.Split(text, ";")[1:]
	for i, field := range fields {
		field = strings.Trim(field, " \t")
		if field == "" && i == len(fields)-1 {
			break // one may end the last field
		}
		name, value, ok := strings.Cut(field, "=")
		switch {
		case !ok || !isExtName(name):
			return Record{}, fmt.Errorf("%w: expected name=value, got %q", ErrSyntax, clip(field))
		case name == "rua":
			for uri := range strings.SplitSeq(value, ",") {
				if uri = strings.Trim(uri, " \t"); !isValue(uri, "=") {
					return Record{}, fmt.Errorf("%w: rua: expected URIs with commas between, got %q", ErrSyntax, clip(value))
				}
				r.RUA = append(r.RUA, uri)
			}
		case !isValue(value, ""):
			return Record{}, fmt.Errorf("%w: %s: expected printable characters without = and spaces, got %q", ErrSyntax, name, clip(value))
		default:
			r.Extensions = append(r.Extensions, Extension{name, value})
		}
	}
	if len(r.RUA) == 0 {
		return Record{}, fmt.Errorf("%w: there is no rua, so that reports have nowhere to go", ErrSyntax)
	}
	return r, nil
}

// String gives the record as it is published; "" for the zero Record.
func (r Record) String() string {
	if len(r.RUA) == 0 {
		return ""
	}
	s := version + "; rua=" + strings.Join(r.RUA, ",")
	for _, e := range r.Extensions {
		s += "; " + e.Name + "=" + e.Value
	}
	return s
}

// Destinations gives where reports go: addresses, and URLs that take a POST. What is neither
// is passed over (RFC 8460 §3).
func (r Record) Destinations() ([]mail.Address, []string) {
	var to []mail.Address
	var post []string
	for _, uri := range r.RUA {
		address, isPost, err := destination(uri)
		switch {
		case err != nil:
		case isPost:
			post = append(post, uri)
		default:
			to = append(to, address)
		}
	}
	return to, post
}

// destination reads one URI; isPost tells an https: one.
func destination(uri string) (to mail.Address, isPost bool, err error) {
	scheme, rest, _ := strings.Cut(uri, ":")
	switch strings.ToLower(scheme) {
	case "mailto":
		rest, _, _ = strings.Cut(rest, "?")
		address, err := url.PathUnescape(rest)
		if err != nil {
			return mail.Address{}, false, fmt.Errorf("%q: %w", clip(uri), err)
		}
		if strings.HasPrefix(address, "//") {
			return mail.Address{}, false, fmt.Errorf("%q has slashes after the scheme", clip(uri))
		}
		to, err = mail.ParseAddress(address)
		return to, false, err
	case "https":
		u, err := url.Parse(uri)
		if err != nil || u.Host == "" {
			return mail.Address{}, false, fmt.Errorf("%q is no URL", clip(uri))
		}
		return mail.Address{}, true, nil
	}
	return mail.Address{}, false, fmt.Errorf("expected a URI with the scheme mailto or https, got %q", clip(uri))
}

func isExtName(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && (c == '_' || c == '-' || c == '.'):
		default:
			return false
		}
	}
	return s != "" && len(s) <= maxExtName
}

// isValue: printable ASCII without the semicolon and, but for URIs, the equals sign.
func isValue(s, also string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == ';' || c == '=' && also == "" {
			return false
		}
	}
	return s != ""
}

// clip cuts what goes into an error.
func clip(s string) string {
	const most = 80
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
