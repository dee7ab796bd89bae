package dmarc

import (
	"fmt"
	"io"
	"mime"
	netmail "net/mail"
	"slices"
	"strings"

	"mxward/internal/dns"
)

// Authors gives the author's domains from the values of all From fields of a message (RFC
// 9989 §5.3.1), each once. The error wraps ErrAuthor, and then DMARC is not possible:
//
//   - no From, or more than one (RFC 5322 §3.6);
//   - a From without any domain: empty, an empty group (RFC 6854 §2), an address literal;
//   - more than three domains (RFC 9989 §11.5);
//   - a From that cannot be read. Where it holds one address in angle brackets, as in the
//     forbidden but frequent "a@example.com <a@example.com>" or "Doe, John <a@example.com>",
//     that one counts, and a dot at the end of a domain does not. It does not count behind
//     another address of a broken list, or in a string or comment behind one.
//
// Several addresses of one domain are one author's domain. Groups count as their members.
func Authors(from []string) ([]dns.Name, error) {
	switch {
	case len(from) == 0:
		return nil, fmt.Errorf("%w: there is no From field (RFC 5322 §3.6)", ErrAuthor)
	case len(from) > 1:
		return nil, fmt.Errorf("%w: there are %d From fields, and only one is allowed (RFC 5322 §3.6)", ErrAuthor, len(from))
	case len(from[0]) > maxFrom:
		return nil, fmt.Errorf("%w: From has more than %d octets", ErrAuthor, maxFrom)
	}
	hosts, err := hosts(from[0])
	if err != nil {
		return nil, err
	}
	var names []dns.Name
	for _, host := range hosts {
		name, err := dns.ParseName(host)
		if err == nil && (name == dns.Root || strings.ContainsAny(host, `[]\`)) {
			err = dns.ErrName
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %q is no domain: %w", ErrAuthor, clip(host), err)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	switch {
	case len(names) == 0:
		return nil, fmt.Errorf("%w: there is no address in From", ErrAuthor)
	case len(names) > maxAuthors:
		return nil, fmt.Errorf("%w: there are addresses of %d domains in From; at most %d are looked at (RFC 9989 §11.5)", ErrAuthor, len(names), maxAuthors)
	}
	return names, nil
}

// hosts gives what stands behind the @ of each address.
func hosts(value string) ([]string, error) {
	value = strings.ToValidUTF8(value, "?")
	list, err := newParser().ParseList(value)
	if err != nil && strings.Contains(err.Error(), "empty group") {
		return nil, nil
	}
	if err != nil {
		bare, ok := bracketed(value)
		if !ok {
			return nil, fmt.Errorf("%w: From cannot be read: %w", ErrAuthor, err)
		}
		list = []*netmail.Address{bare}
	}
	var found []string
	for _, a := range list {
		found = append(found, a.Address[strings.LastIndexByte(a.Address, '@')+1:])
	}
	return found, nil
}

// newParser: names in whatever character set are nothing to stumble over.
func newParser() *netmail.AddressParser {
	return &netmail.AddressParser{WordDecoder: &mime.WordDecoder{
		CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil },
	}}
}

// bracketed reads the one address, in angle brackets or alone, of a value that is otherwise
// wrong.
func bracketed(value string) (*netmail.Address, bool) {
	inner := value
	if strings.Count(value, "<") == 1 && strings.Count(value, ">") == 1 {
		before, rest, _ := strings.Cut(value, "<")
		address, behind, ok := strings.Cut(rest, ">")
		if !ok || strings.Contains(behind, "@") {
			return nil, false
		}
		if strings.Contains(before, "@") && strings.ContainsAny(before, `,;:"()\`) {
			return nil, false // one address more, which a reader may be shown instead
		}
		inner = address
	}
	a, err := newParser().Parse("<" + strings.TrimSuffix(strings.TrimSpace(inner), ".") + ">")
	return a, err == nil
}
