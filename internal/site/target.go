package site

import (
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"mxward/internal/dns"
)

// The ports of a target that names none: RFC 5321 §4.5.4.2 for SMTP; LMTP has no port of
// its own (RFC 2033 §5), and 24 is what IANA lists for private mail systems.
const (
	smtpPort = 25
	lmtpPort = 24
)

const targetForms = "smtp://host[:port], lmtp://host[:port], lmtp:/socket, maildir:/path or mx:"

// String writes the target so that ParseTarget reads it again.
func (t Target) String() string {
	switch {
	case t.Scheme == "":
		return ""
	case t.Scheme == ToMX:
		return "mx:"
	case t.Path != "":
		return string(t.Scheme) + ":" + t.Path
	}
	return string(t.Scheme) + "://" + net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
}

// ParseTarget reads what domain.deliver holds: smtp://host[:port], lmtp://host[:port],
// lmtp:/socket, maildir:/path or mx:. The error is an *Error.
func ParseTarget(s string) (Target, error) {
	t, e := parseTarget(s)
	if e != nil {
		return Target{}, e
	}
	return t, nil
}

func parseTarget(s string) (Target, *Error) {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok {
		return Target{}, badTarget(s, targetForms, "begin with the scheme")
	}
	scheme = strings.ToLower(scheme) // RFC 3986 §3.1
	authority, isURL := strings.CutPrefix(rest, "//")
	switch {
	case Scheme(scheme) == ToMX && rest == "":
		return Target{Scheme: ToMX}, nil
	case Scheme(scheme) == ToMaildir, Scheme(scheme) == ToLMTP && !isURL:
		if !isPath(rest) || isURL {
			return Target{}, badTarget(s, scheme+": and a path", "")
		}
		return Target{Scheme: Scheme(scheme), Path: path.Clean(rest)}, nil
	case isURL && (Scheme(scheme) == ToLMTP || Scheme(scheme) == ToSMTP):
		host, port, fault := cutHostPort(authority)
		if fault != "" {
			return Target{}, badTarget(s, scheme+"://host or "+scheme+"://host:port", fault)
		}
		if port == 0 {
			port = map[Scheme]uint16{ToSMTP: smtpPort, ToLMTP: lmtpPort}[Scheme(scheme)]
		}
		return Target{Scheme: Scheme(scheme), Host: host, Port: port}, nil
	}
	return Target{}, badTarget(s, targetForms, "")
}

func badTarget(s, expected, hint string) *Error {
	return &Error{Kind: BadTarget, Expected: expected, Got: quote(s), Hint: hint}
}

// cutHostPort reads the authority of a target (RFC 3986 §3.2, without user information);
// port is 0 where none is given. The fault is "" if all is well.
func cutHostPort(s string) (host string, port uint16, fault string) {
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		n, err := strconv.ParseUint(s[i+1:], 10, 16)
		switch {
		case strings.Count(s, ":") > 1 && s[i-1] != ']':
			return "", 0, "put an IPv6 address in brackets"
		case err != nil || n == 0:
			return "", 0, "a port is a number from 1 to 65535"
		}
		s, port = s[:i], uint16(n)
	}
	if s == "" {
		return "", 0, "the host is missing"
	}
	if strings.Contains(s, "@") {
		return "", 0, "no user stands in it"
	}
	inner, bracket := strings.CutPrefix(s, "[")
	if bracket {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !addr.Is6() || addr.Zone() != "" || !strings.HasSuffix(inner, "]") {
			return "", 0, "only an IPv6 address stands in brackets"
		}
		return addr.String(), port, ""
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.String(), port, ""
	}
	name, err := dns.ParseName(s)
	if err != nil {
		return "", 0, quote(s) + " is no host name"
	}
	if why := hostNameFault(name); why != "" {
		return "", 0, quote(s) + " is no host name: " + why
	}
	return name.String(), port, ""
}

// hostNameFault says why the name can be no host's: letters, digits and hyphens make a
// label (RFC 952, RFC 1123 §2.1). It is "" for a good one.
func hostNameFault(n dns.Name) string {
	if n == dns.Root {
		return "the root is no host"
	}
	if _, ok := n.Addr(); ok {
		return "it is an address"
	}
	labels := n.Labels()
	for _, label := range labels {
		if label[0] == '-' || label[len(label)-1] == '-' {
			return "a label begins or ends with a hyphen"
		}
		for _, c := range label {
			if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
				return "it has the character " + strconv.QuoteRune(c) + ", which no host name has"
			}
		}
	}
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return "the last label is a number"
	}
	return ""
}
