package deliver

import (
	"fmt"
	"net/netip"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

// Route is where mail for one destination goes: the addresses to try, in their order, and
// what was found on the way.
type Route struct {
	Destination string `json:"destination"` // "example.com", or "[192.0.2.1]"
	Hops        []Hop  `json:"hops"`
	Notes       []Note `json:"notes"`
	// Stale: some of it had expired, and nothing newer could be had (RFC 8767). Who is met
	// there decides nothing for good.
	Stale bool `json:"stale"`
}

// Hop is one address to try.
type Hop struct {
	Host       dns.Name   `json:"host"` // zero for an address literal, and for an MX that names an address
	Preference uint16     `json:"preference"`
	Addr       netip.Addr `json:"address"`
	Implicit   bool       `json:"implicit"` // the destination's own address, since it has no MX (RFC 5321 §5.1)
}

// String names the host as outcomes and logs do, without the port.
func (h Hop) String() string {
	if h.Host.IsZero() {
		return "[" + h.Addr.String() + "]"
	}
	return h.Host.String() + " [" + h.Addr.String() + "]"
}

// Note is something worth knowing that was found on the way. The IDs are stable.
type Note struct {
	ID   string   `json:"id"`
	Host dns.Name `json:"host"` // the MX host that it is about; zero if it is about the destination
	Text string   `json:"text"`
}

// The notes that Find makes.
const (
	NoteIPLiteral   = "mx.ip-literal"      // an MX names an address; it is used all the same
	NoteCNAME       = "mx.cname"           // an MX host is an alias; it is followed
	NoteNoAddress   = "mx.no-address"      // a host exists and has no usable address
	NoteNXDomain    = "mx.nxdomain"        // an MX host does not exist
	NoteImplicit    = "mx.implicit"        // there is no MX, so the domain's own addresses serve
	NoteNull        = "mx.null"            // a null MX: the domain takes no mail
	NoteNullMixed   = "mx.null-mixed"      // a null MX beside others; it is ignored
	NoteInvalidName = "mx.invalid-name"    // an MX host is no name; it is skipped
	NotePrivate     = "mx.private-address" // an address that is nobody's, or not the same host everywhere
	NoteDuplicate   = "mx.duplicate"       // a host is listed twice
	NoteSameAddress = "mx.same-address"    // two hosts have the same address, which is tried once
	NoteTooMany     = "mx.too-many"        // there are more hosts or addresses than are tried
	NoteSelfCut     = "mx.self-cut"        // this host is in the list: it and what is no better are cut
	NoteStale       = "mx.stale"           // what was found had expired, and nothing newer could be had
	NoteTempError   = "mx.temperror"       // a host could not be looked up
)

// String gives the route for people: a numbered list with the reasons, then the notes.
func (r Route) String() string {
	var b strings.Builder
	switch len(r.Hops) {
	case 0:
		fmt.Fprintf(&b, "%s: no address to try\n", r.Destination)
	case 1:
		fmt.Fprintf(&b, "%s: one address to try\n", r.Destination)
	default:
		fmt.Fprintf(&b, "%s: %d addresses to try, in this order\n", r.Destination, len(r.Hops))
	}
	for i, h := range r.Hops {
		fmt.Fprintf(&b, "%4d. %s (%s)\n", i+1, h, r.reason(h))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s (%s)\n", n.Text, n.ID)
	}
	return b.String()
}

func (r Route) reason(h Hop) string {
	switch {
	case h.Implicit:
		return "no MX, so the domain's own address"
	case strings.HasPrefix(r.Destination, "["):
		return "address literal"
	}
	return fmt.Sprintf("MX %d", h.Preference)
}

// NoRoute is the error of Find: mail for the destination can go nowhere now (a 4yz reply)
// or never (5yz).
type NoRoute struct {
	Destination string
	Reply       mail.Reply
	Err         error // the DNS's trouble, if that was the reason
}

func (e *NoRoute) Error() string {
	text := fmt.Sprintf("find a route to %s: %s", e.Destination, e.Reply)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap gives the DNS's error.
func (e *NoRoute) Unwrap() error { return e.Err }

// Temporary reports whether there may be a route later.
func (e *NoRoute) Temporary() bool { return !e.Reply.Permanent() }
