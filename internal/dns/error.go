package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Trouble says why no answer could be had, and by that whose trouble it is. Only the
// first two are ever ours.
type Trouble int

// The troubles, from ours to theirs.
const (
	// NoNetwork: this host has no route to any of the servers, or no DNS at all.
	NoNetwork Trouble = iota + 1
	// WorkLimit: a bound on work for one question was reached (loops, depth, packets).
	WorkLimit
	// NoReply: servers were asked and did not answer in time.
	NoReply
	// ServerFailed: servers answered SERVFAIL, REFUSED or NOTIMP.
	ServerFailed
	// Lame: every server named for the zone answers, and none serves the zone.
	Lame
	// BrokenDelegation: the parent names servers that cannot be found.
	BrokenDelegation
	// Bogus: DNSSEC validation failed.
	Bogus
	// Malformed: what came back cannot be read as DNS.
	Malformed
)

var troubleTexts = map[Trouble]string{
	NoNetwork:        "no network or no DNS on this host",
	WorkLimit:        "the limit of work for one question was reached",
	NoReply:          "no reply",
	ServerFailed:     "the servers fail",
	Lame:             "the servers do not serve the zone",
	BrokenDelegation: "the delegation is broken",
	Bogus:            "DNSSEC validation failed",
	Malformed:        "malformed reply",
}

// String says it in words.
func (t Trouble) String() string { return troubleTexts[t] }

// Ours reports whether the trouble lies on this host or in this program, not with the
// servers asked.
func (t Trouble) Ours() bool { return t == NoNetwork || t == WorkLimit }

// Attempt is one question to one server.
type Attempt struct {
	Server   netip.AddrPort
	Name     string // the server's host name, where known
	Protocol string // "udp" or "tcp"
	Said     string // the Rcode, or what went wrong
	Took     time.Duration
}

func (a Attempt) String() string {
	who := a.Server.String()
	if a.Name != "" {
		who = a.Name + " (" + who + ")"
	}
	return fmt.Sprintf("%s over %s: %s after %s", who, a.Protocol, a.Said, a.Took.Round(time.Millisecond))
}

// Error is the error of Resolve: no answer could be had.
type Error struct {
	Question Question
	Trouble  Trouble
	Extended uint16    // the extended DNS error code, where one applies (RFC 8914)
	Detail   string    // what exactly, for people; may be empty
	Attempts []Attempt // the servers tried, in order; may be cut
	Packets  int       // sent to servers in vain; 0 for a failure that was known
	Err      error     // the cause, if another error was
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "resolve %s: %s", e.Question, e.Trouble)
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if n := len(e.Attempts); n > 0 {
		fmt.Fprintf(&b, " (last tried: %s)", e.Attempts[n-1])
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// TroubleOf gives the Trouble of an error of Resolve, or 0 if it names none (a cancelled
// context, say).
func TroubleOf(err error) Trouble {
	var e *Error
	if errors.As(err, &e) {
		return e.Trouble
	}
	return 0
}
