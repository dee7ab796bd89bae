package site

import (
	"cmp"
	"math"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/pelletier/go-toml/v2/unstable"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/mtasts"
)

// form is a kind of value: what it is called, and how it is read.
type form[T any] struct {
	name string
	read func(r reader, n *node) (T, bool)
}

// reader reads the value at one place of a draft.
type reader struct {
	*draft
	place
}

// setter is a form that knows where in the plan its value goes.
type setter struct {
	form string
	set  func(r reader, n *node)
}

// into binds a form to a part of the plan.
func into[T any](f form[T], part func(*Plan) *T) setter {
	return setter{f.name, func(r reader, n *node) {
		v, ok := f.read(r, n)
		if !ok {
			r.bad[r.place] = true
			return
		}
		*part(r.Plan) = v
	}}
}

func (r reader) wrongType(n *node, expected, hint string) {
	r.add(&Error{Kind: WrongType, Line: n.line, Option: r.option(), Expected: expected, Got: describe(n, ""), Hint: hint})
}

// describe says what stands there; a table is known by its header.
func describe(n *node, header string) string {
	switch n.kind {
	case unstable.String:
		return quote(n.text)
	case unstable.Table:
		if header != "" {
			return "[" + header + "]"
		}
		return "a table"
	case unstable.ArrayTable:
		if header != "" {
			return "[[" + header + "]]"
		}
		return "tables"
	case unstable.InlineTable:
		return "a table"
	case unstable.Array:
		return "a list"
	}
	return n.text
}

// text makes a form out of a function that reads a string. Where that function leaves the
// expectation open, it is the form's name.
func text[T any](name string, parse func(string) (T, *Error)) form[T] {
	return form[T]{name, func(r reader, n *node) (T, bool) {
		var none T
		if n.kind != unstable.String {
			r.wrongType(n, name+`, in quotes`, "")
			return none, false
		}
		v, e := parse(n.text)
		if e == nil {
			return v, true
		}
		r.add(&Error{Kind: e.Kind, Line: n.line, Option: r.option(),
			Expected: cmp.Or(e.Expected, name), Got: cmp.Or(e.Got, quote(n.text)), Hint: e.Hint})
		return none, false
	}}
}

// listOf makes a form of lists, in which nothing stands twice. It keeps the line of each
// item, and a zero value for an item that is wrong, so that the items can be counted.
func listOf[T comparable](one form[T], many string) form[[]T] {
	name := "a list of " + many
	return form[[]T]{name, func(r reader, n *node) ([]T, bool) {
		if n.kind != unstable.Array {
			r.wrongType(n, name, "put it in brackets")
			return nil, false
		}
		if len(n.items) == 0 {
			r.fail(OutOfRange, r.place, "at least one item", "an empty list", "to have the default, leave the key out")
		}
		first := map[T]int{}
		list := make([]T, 0, len(n.items))
		for i, item := range n.items {
			r.item = i + 1
			r.lines[r.place] = item.line
			v, ok := one.read(r, item)
			if line, twice := first[v]; ok && twice {
				r.fail(Repeated, r.place, "each item once", describe(item, "")+" again", "the first is in line "+itoa(line))
			} else if ok {
				first[v] = item.line
			}
			list = append(list, v)
		}
		return list, true
	}}
}

// yesNo is a form of true and false.
func yesNo() form[bool] {
	return form[bool]{"true or false", func(r reader, n *node) (bool, bool) {
		if n.kind != unstable.Bool {
			r.wrongType(n, "true or false, without quotes", "")
			return false, false
		}
		return n.text == "true", true
	}}
}

// integer makes a form of numbers from low to high.
func integer[T int | uint16](what string, low, high T) form[T] {
	name := what + " from " + itoa(int(low)) + " to " + itoa(int(high))
	return form[T]{name, func(r reader, n *node) (T, bool) {
		if n.kind != unstable.Integer {
			r.wrongType(n, name+", without quotes", "")
			return 0, false
		}
		v, err := strconv.ParseInt(n.text, 0, 64)
		if err != nil || v < int64(low) || v > int64(high) {
			r.fail(OutOfRange, r.place, name, n.text, "")
			return 0, false
		}
		return T(v), true
	}}
}

var (
	hostName     = text("the full name of a host", parseHostName)
	domainName   = text("a mail domain", parseDomainName)
	mxName       = text("the name of a [[host]]", parseMXName)
	zoneName     = text("a domain name", parseZoneName)
	address      = text("an IP address", parseAddress)
	socket       = text("an address and a port", parseSocket)
	recipient    = text("a mail address", parseRecipient)
	role         = text("gate, backup, trap or refuse", parseRole)
	target       = text(targetForms, parseTarget)
	storeURL     = text("sqlite:/path or postgres://user@host/database", parseStore)
	phrase       = text("a line of text", parsePhrase)
	selector     = text("a DKIM selector", parseSelector)
	fileName     = text("the path of a file", parsePath)
	size         = text("a size between 64KiB and 2GiB", sizeBetween(minMaxSize, maxMaxSize))
	cacheSize    = text("a size between 1MiB and 64GiB", sizeBetween(minCacheSize, maxCacheSize))
	policyMode   = text("enforce, testing or none", parsePolicyMode)
	policyMaxAge = text("a time between 0s and 8766h", parsePolicyMaxAge)
	staleFor     = text("a time between 0s and 72h", parseStaleFor)
	pace         = text("a time between 0s and 5s", parsePace)
)

// parseHostName wants a name as RFC 5321 §2.3.5 does: fully qualified.
func parseHostName(s string) (dns.Name, *Error) {
	n, err := dns.ParseName(s)
	if err != nil {
		return n, &Error{Kind: BadName}
	}
	if why := hostNameFault(n); why != "" {
		return n, &Error{Kind: BadName, Hint: why}
	}
	if len(n.Labels()) < 2 {
		return n, &Error{Kind: BadName, Hint: "write it with its domain, like mx1.example.com"}
	}
	return n, nil
}

func parseDomainName(s string) (dns.Name, *Error) {
	n, e := parseHostName(s)
	if e != nil && len(n.Labels()) == 1 {
		e.Hint = "write it whole, like example.com"
	}
	return n, e
}

// parseMXName tells the commonest mistake from the others: an MX record holds a name,
// never an address (RFC 1035 §3.3.9, RFC 5321 §5.1).
func parseMXName(s string) (dns.Name, *Error) {
	literal := strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if _, err := netip.ParseAddr(literal); err == nil {
		return dns.Name{}, &Error{Kind: MXIsAddress,
			Hint: "an MX record cannot hold an address; give the address to a [[host]] and name that"}
	}
	return parseHostName(s)
}

func parseZoneName(s string) (dns.Name, *Error) {
	n, err := dns.ParseName(s)
	if err != nil {
		return n, &Error{Kind: BadName}
	}
	if _, ok := n.Addr(); ok {
		return n, &Error{Kind: BadName, Hint: "it is an address; a reverse zone is called like 2.0.192.in-addr.arpa"}
	}
	return n, nil
}

func parseAddress(s string) (netip.Addr, *Error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return a, &Error{Kind: BadAddress}
	case a.Zone() != "":
		return a, &Error{Kind: BadAddress, Hint: "leave out the zone after the %"}
	case a.Is4In6():
		return a, &Error{Kind: BadAddress, Hint: "write it as " + a.Unmap().String()}
	case a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return a, &Error{Kind: BadAddress, Hint: "no host can have this one"}
	}
	return a, nil
}

// parseSocket wants what a listener can bind to. The unspecified addresses are allowed:
// they mean every address of the machine.
func parseSocket(s string) (netip.AddrPort, *Error) {
	ap, err := netip.ParseAddrPort(s)
	if err == nil && ap.Port() != 0 && !ap.Addr().IsMulticast() && !ap.Addr().Is4In6() {
		return ap, nil
	}
	_, bare := netip.ParseAddr(s)
	e := &Error{Kind: BadListen, Hint: "write it like 192.0.2.1:25 or [2001:db8::1]:25"}
	switch {
	case bare == nil:
		e.Hint = "the port is missing; " + e.Hint
	case err == nil && ap.Port() == 0:
		e.Hint = "a port is a number from 1 to 65535"
	}
	return ap, e
}

func parseRecipient(s string) (mail.Address, *Error) {
	a, err := mail.ParseAddress(s)
	if err != nil {
		why := strings.TrimPrefix(err.Error(), mail.ErrAddress.Error()+": ")
		why = strings.TrimPrefix(why, strconv.Quote(s)+": ")
		return a, &Error{Kind: BadRecipient, Hint: why}
	}
	if a.Local == "*" {
		// It is an address by its grammar, of a mailbox that nobody has: all others would be
		// refused for good.
		return a, &Error{Kind: BadRecipient, Hint: "there are no wildcards; leave recipients out to take mail for all"}
	}
	return a, nil
}

func parseRole(s string) (Role, *Error) {
	if !slices.Contains([]Role{Gate, Backup, Trap, Refuse}, Role(s)) {
		return "", &Error{Kind: BadRole}
	}
	return Role(s), nil
}

func parsePolicyMode(s string) (mtasts.Mode, *Error) {
	if !slices.Contains([]mtasts.Mode{mtasts.Enforce, mtasts.Testing, mtasts.None}, mtasts.Mode(s)) {
		return "", &Error{Kind: BadMode}
	}
	return mtasts.Mode(s), nil
}

// parseStore never repeats a password in its message.
func parseStore(s string) (string, *Error) {
	scheme, rest, _ := strings.Cut(s, ":")
	u, err := url.Parse(s)
	got := quote(scheme + ":…")
	if err == nil {
		got = quote(u.Redacted())
	}
	switch scheme {
	case "sqlite":
		if !isPath(rest) || strings.HasPrefix(rest, "//") {
			return "", &Error{Kind: BadStore, Got: got, Hint: "sqlite: is followed by the path of a file, without //"}
		}
	case "postgres", "postgresql":
		if err != nil || !strings.HasPrefix(rest, "//") {
			return "", &Error{Kind: BadStore, Got: got, Hint: "escape special characters of the password as %XX"}
		}
	default:
		return "", &Error{Kind: BadStore, Got: got}
	}
	return s, nil
}

func parsePath(s string) (string, *Error) {
	if !isPath(s) {
		return "", &Error{Kind: BadPath}
	}
	return s, nil
}

// maxPhrase is what fits into a report, in octets, and into a person's head.
const maxPhrase = 255

func parsePhrase(s string) (string, *Error) {
	if s == "" || len(s) > maxPhrase || strings.ContainsFunc(s, unicode.IsControl) {
		return "", &Error{Kind: BadText, Hint: "up to 255 octets, and no control characters"}
	}
	return s, nil
}

// parseSelector wants one or more labels (RFC 6376 §3.1).
func parseSelector(s string) (string, *Error) {
	n, err := dns.ParseName(s)
	if err != nil || n == dns.Root {
		return "", &Error{Kind: BadName, Hint: "it is the part before ._domainkey"}
	}
	return n.String(), nil
}

// isPath reports whether s may name a file. A relative path begins at the plan's folder.
func isPath(s string) bool {
	return s != "" && !strings.ContainsFunc(s, unicode.IsControl)
}

// The limits of smtp.max-size. RFC 5321 §4.5.3.1.7 wants every server to take 64K octets.
const (
	minMaxSize = 64 << 10
	maxMaxSize = 2 << 30
)

// The limits of resolver.cache-size. Below, every question would drive out another.
const (
	minCacheSize = 1 << 20
	maxCacheSize = 64 << 30
)

func sizeBetween(least, most int64) func(string) (int64, *Error) {
	return func(s string) (int64, *Error) {
		n, err := parseSize(s)
		if err == nil && (n < least || n > most) {
			err = &Error{Kind: OutOfRange}
		}
		return n, err
	}
}

func parseSize(s string) (int64, *Error) {
	units := map[string]int64{"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
	unit := strings.TrimLeft(s, "0123456789")
	factor, ok := units[strings.ToLower(strings.TrimSpace(unit))]
	n, err := strconv.ParseInt(strings.TrimSuffix(s, unit), 10, 64)
	if !ok || err != nil {
		return 0, &Error{Kind: BadSize, Hint: "write it like 50MB or 50MiB"}
	}
	if n > math.MaxInt64/factor {
		return 0, &Error{Kind: OutOfRange}
	}
	return n * factor, nil
}

// maxPace keeps a whole reply line of a trap, some 60 octets, within the five minutes that
// a client waits for it (RFC 5321 §4.5.3.2).
const maxPace = 5 * time.Second

func parsePace(s string) (time.Duration, *Error) {
	return duration(s, maxPace, "write it like 1s or 500ms")
}

// maxStaleFor is the most that RFC 8767 §5 recommends: three days.
const maxStaleFor = 72 * time.Hour

func parseStaleFor(s string) (time.Duration, *Error) {
	return duration(s, maxStaleFor, "write it like 12h or 30m")
}

// The age of an MTA-STS policy: by default weeks, as RFC 8461 §3.2 suggests; at most a year,
// 31557600 s, by the same section.
const (
	policyAge    = 14 * 24 * time.Hour
	maxPolicyAge = 31557600 * time.Second
)

func parsePolicyMaxAge(s string) (time.Duration, *Error) {
	d, e := duration(s, maxPolicyAge, "write it like 336h")
	if e == nil && d%time.Second != 0 {
		return 0, &Error{Kind: BadDuration, Hint: "a policy counts whole seconds"}
	}
	return d, e
}

func duration(s string, most time.Duration, hint string) (time.Duration, *Error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, &Error{Kind: BadDuration, Hint: hint}
	}
	if d < 0 || d > most {
		return 0, &Error{Kind: OutOfRange}
	}
	return d, nil
}
