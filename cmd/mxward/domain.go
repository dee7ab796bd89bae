package main

import (
	"fmt"
	"strings"

	"mxward/internal/dns"
)

// typographic are the quotation marks and dashes of word processors, which could be part of
// an internationalised name.
const typographic = "“”„‘’‚«»–—"

// parseDomain reads a domain that was typed, and says what to write instead of what is none.
func parseDomain(typed string) (dns.Name, error) {
	domain, err := dns.ParseName(typed)
	if err == nil && !strings.ContainsAny(typed, typographic) && len(domain.Labels()) > 1 && isHostName(domain) {
		if label, rest, _ := strings.Cut(domain.String(), "."); label == "_dmarc" || label == "_domainkey" {
			return dns.Name{}, fmt.Errorf("expected the domain itself, %s, got %q", rest, typed)
		}
		return domain, nil
	}
	meant := typed
	if _, after, found := strings.Cut(meant, "://"); found {
		meant = after
	}
	meant, _, _ = strings.Cut(meant, "/")
	meant = strings.Trim(meant[strings.LastIndexByte(meant, '@')+1:], typographic+"<>\"' ")
	if domain, err := dns.ParseName(meant); err == nil && meant != typed && len(domain.Labels()) > 1 && isHostName(domain) {
		return dns.Name{}, fmt.Errorf("expected a domain, such as %s, got %q", domain, typed)
	}
	return dns.Name{}, fmt.Errorf("expected a domain, got %q", typed)
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
