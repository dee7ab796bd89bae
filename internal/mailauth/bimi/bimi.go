// Package bimi reads the records of Brand Indicators for Message Identification, and says
// what is wrong with them. BIMI is an Internet-Draft (draft-brand-indicators-for-message-
// identification), no standard: nothing here is worse than a warning.
//
// Not here: the look-up, the image, the certificate behind a=, and any use of them.
package bimi

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Limits of a record.
const (
	maxRecord = 4096 // ours: octets
	maxPrefix = 63   // the draft's, for one of lps=
)

// The classes of every error of Parse.
var (
	// ErrNone: the text is no BIMI record.
	ErrNone = errors.New("no BIMI record")
	// ErrPermanent: the record cannot be used; receivers must not mend it.
	ErrPermanent = errors.New("unusable BIMI record")
)

// Record is the TXT record at SELECTOR._bimi.DOMAIN; the selector default is the usual one.
type Record struct {
	Location  string // l=: the URL of the image; "" is no image
	Authority string // a=: the URL of the certificate; "" is none
	Avatar    string // avp=: "brand", "personal" or ""
	Prefixes  string // lps=: local part prefixes with commas between them; "" is none
}

// Declined reports whether the domain says that it wants no image.
func (r Record) Declined() bool { return r.Location == "" && r.Authority == "" }

// String gives the record's text.
func (r Record) String() string {
	s := "v=BIMI1; l=" + r.Location + ";"
	for _, tag := range [][2]string{{"a", r.Authority}, {"avp", r.Avatar}, {"lps", r.Prefixes}} {
		if tag[1] != "" {
			s += " " + tag[0] + "=" + tag[1] + ";"
		}
	}
	return s
}

// IsRecord reports whether a TXT record counts: the version comes first, exactly so.
func IsRecord(text string) bool {
	first, _, _ := strings.Cut(text, ";")
	tag, value, ok := strings.Cut(first, "=")
	return ok && strings.Trim(tag, blank) == "v" && strings.Trim(value, blank) == "BIMI1"
}

const blank = " \t\r\n"

// Parse reads the text of one TXT record. Tags that are not known are passed over. The error
// wraps ErrNone or ErrPermanent.
func Parse(text string) (Record, error) {
	if !IsRecord(text) {
		return Record{}, fmt.Errorf(`%w: it does not begin with "v=BIMI1;"`, ErrNone)
	}
	if len(text) > maxRecord {
		return Record{}, fmt.Errorf("%w: more than %d octets", ErrPermanent, maxRecord)
	}
	tags, err := readTags(text)
	if err != nil {
		return Record{}, err
	}
	if _, ok := tags["l"]; !ok {
		return Record{}, fmt.Errorf(`%w: l= is missing; "l=;" says that there is no image`, ErrPermanent)
	}
	r := Record{Location: tags["l"], Authority: tags["a"], Avatar: strings.ToLower(tags["avp"]), Prefixes: strings.ToLower(tags["lps"])}
	for tag, value := range map[string]string{"l": r.Location, "a": r.Authority} {
		if why := urlFault(value); why != "" {
			return Record{}, fmt.Errorf("%w: %s=: %s: %.80q", ErrPermanent, tag, why, value)
		}
	}
	if !slices.Contains([]string{"", "brand", "personal"}, r.Avatar) {
		return Record{}, fmt.Errorf("%w: avp= is brand or personal, got %.80q", ErrPermanent, r.Avatar)
	}
	if r.Prefixes, err = cleanPrefixes(r.Prefixes); err != nil {
		return Record{}, err
	}
	return r, nil
}

func readTags(text string) (map[string]string, error) {
	tags := map[string]string{}
	for part := range strings.SplitSeq(strings.TrimSuffix(strings.TrimRight(text, blank), ";"), ";") {
		tag, value, ok := strings.Cut(part, "=")
		tag, value = strings.Trim(tag, blank), strings.Trim(value, blank)
		if !ok || tag == "" {
			return nil, fmt.Errorf("%w: expected a tag, = and a value, got %.80q", ErrPermanent, part)
		}
		if _, twice := tags[tag]; twice {
			return nil, fmt.Errorf("%w: %.20s= stands twice", ErrPermanent, tag)
		}
		tags[tag] = value
	}
	return tags, nil
}

// urlFault says why a value is no single HTTPS URL with a full host name; empty is allowed.
func urlFault(s string) string {
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	switch {
	case strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || c == ',' || c == ';' }):
		return "one URL without spaces or commas, in ASCII, is expected"
	case err != nil:
		return "this is no URL"
	case u.Scheme != "https":
		return "the URL begins with https://"
	case u.User != nil || !strings.Contains(strings.Trim(u.Hostname(), "."), "."):
		return "the URL has the full name of a host"
	}
	return ""
}

func cleanPrefixes(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	list := strings.Split(s, ",")
	for i, p := range list {
		list[i] = strings.Trim(p, blank)
		if list[i] == "" || len(list[i]) > maxPrefix || strings.ContainsFunc(list[i], func(c rune) bool { return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' }) {
			return "", fmt.Errorf("%w: lps= is a list of prefixes, letters, digits and hyphens, 1 to %d of them, with commas; got %.80q", ErrPermanent, maxPrefix, p)
		}
	}
	return strings.Join(list, ","), nil
}
