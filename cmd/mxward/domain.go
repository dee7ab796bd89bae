package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"mxward/internal/dns"
)

// typographic are the quotation marks and dashes of word processors, which could be part of
// an internationalised name.
const typographic = "“”„‘’‚«»–—"

// below are the labels under which a domain keeps its records: what stands in front of such a
// one, and it, is not the domain.
var below = []string{"_dmarc", "_domainkey", "_mta-sts", "_tls", "_bimi", "_tcp"}

// parseDomain reads a domain that was typed as an argument, and says what to write instead of what
// is none.
func parseDomain(typed string) (dns.Name, error) {
	return readDomain(typed, "each argument is one domain")
}

// parseLine reads a domain that stands in a line of a file.
func parseLine(text string) (dns.Name, error) {
	const one = "a line is one domain and nothing else, and there are no comments"
	if strings.HasPrefix(text, "#") {
		return dns.Name{}, fmt.Errorf("expected a domain, got %s: %s", quoteOf(text), one)
	}
	return readDomain(text, one)
}

// readDomain reads a domain; one says that where it stands there is room for one alone.
func readDomain(typed, one string) (dns.Name, error) {
	if domain, ok := mailDomain(typed); ok && !strings.ContainsAny(typed, typographic) {
		labels := domain.Labels()
		for i := len(labels) - 3; i >= 0; i-- {
			if slices.Contains(below, labels[i]) {
				return dns.Name{}, fmt.Errorf("expected the domain itself, %s, got %s", strings.Join(labels[i+1:], "."), quoteOf(typed))
			}
		}
		return domain, nil
	}
	if domain, ok := mailDomain(meantBy(typed)); ok {
		return dns.Name{}, fmt.Errorf("expected a domain, such as %s, got %s", domain, quoteOf(typed))
	}
	return dns.Name{}, fmt.Errorf("expected a domain, got %s: %s", quoteOf(typed), whyNone(typed, one))
}

// mailDomain reads a name of two labels or more that looks like one of a host, and no address.
func mailDomain(typed string) (dns.Name, bool) {
	domain, err := dns.ParseName(typed)
	if err != nil || len(domain.Labels()) < 2 || !isHostName(domain) {
		return dns.Name{}, false
	}
	_, literal := domain.Addr()
	return domain, !literal
}

// meantBy takes away what is pasted along with a domain: of a URL, of an address of mail, of a
// list, of a wildcard.
func meantBy(typed string) string {
	meant := typed
	if _, after, found := strings.Cut(meant, "://"); found {
		meant = after
	}
	if i := strings.IndexAny(meant, "/?#"); i >= 0 {
		meant = meant[:i]
	}
	meant = strings.Trim(meant[strings.LastIndexByte(meant, '@')+1:], typographic+"<>()\"'`,; \t\r\n")
	if host, port, found := strings.Cut(meant, ":"); found && strings.Trim(port, "0123456789") == "" {
		meant = host
	}
	return strings.TrimPrefix(strings.TrimPrefix(meant, "*"), ".")
}

// whyNone says what is wrong with what cannot be meant for a domain.
func whyNone(typed, one string) string {
	text := strings.TrimSpace(typed)
	if _, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return "it is an address"
	}
	labels := strings.Split(strings.TrimSuffix(text, "."), ".")
	switch {
	case strings.Trim(text, ".") == "":
		return "it is empty"
	case strings.ContainsAny(text, " \t\r\n,;|"):
		return one
	case slices.Contains(labels, ""):
		return "a label is empty"
	case slices.ContainsFunc(labels, func(l string) bool { return len(l) > 63 }):
		return "a label has more than 63 octets"
	case len(text) > 254:
		return "it is longer than a name can be"
	case len(labels) == 1:
		return "it has one label, and two are the least"
	}
	return "it has characters that no name of a mail domain has"
}

// quoteOf quotes what was typed, or how it begins.
func quoteOf(typed string) string {
	const most = 100
	if len(typed) <= most {
		return strconv.Quote(typed)
	}
	return fmt.Sprintf("%q… (%d octets)", typed[:most], len(typed))
}

// isHostName: the DNS allows any octet, and no domain that has to do with mail has others.
func isHostName(n dns.Name) bool {
	return strings.Trim(n.String(), "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// typedRecords gives the records that arguments are which a shell may have cut at their
// spaces: one that does not begin like a record goes on with that before it.
func typedRecords(args []string) []string {
	var records []string
	for _, arg := range args {
		begins := strings.HasPrefix(strings.ToLower(strings.TrimLeft(arg, " \t\r\n\"'“”„‘’(")), "v=")
		if last := len(records) - 1; last >= 0 && !begins && strings.HasPrefix(records[last], "v=") {
			records[last] += " " + arg
			continue
		}
		records = append(records, arg)
	}
	return records
}
