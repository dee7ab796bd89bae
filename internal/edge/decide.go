package edge

import (
	"strings"

	"mxward/internal/mail"
	"mxward/internal/site"
)

// Mailbox is what the plan says of a recipient's local part.
type Mailbox string

// What the plan may say.
const (
	Unknown   Mailbox = "unknown"    // it has no list for the domain: the target knows
	Listed    Mailbox = "listed"     //
	NotListed Mailbox = "not-listed" // it has a list, without this one
)

// Evidence is what is known of one recipient when it is judged.
type Evidence struct {
	Recipient mail.Address // whoever of ours is meant by "postmaster" is named here
	Ours      bool         // its domain is one of the plan's
	Role      site.Role    // what this host does for that domain
	Mailbox   Mailbox      // what the plan says of the local part
	Soft      bool         // the host is a trap for everybody, and refuses nothing for good
}

// Reason is why a verdict is what it is. It never changes its meaning: logs, statistics
// and tests rely on it.
type Reason string

// The reasons.
const (
	Accepted     Reason = "rcpt.accepted"
	RelayDenied  Reason = "relay.denied"  // not a domain of ours
	RelayRouted  Reason = "relay.routed"  // a route in the local part
	RcptUnknown  Reason = "rcpt.unknown"  // not on the domain's list
	RcptUnsafe   Reason = "rcpt.unsafe"   // a local part that no mailbox has, and a shell or a path might
	RungTrap     Reason = "rung.trap"     // the rung is a trap
	RungRefuse   Reason = "rung.refuse"   // the rung is a decoy at which nobody should listen
	LoopHops     Reason = "loop.hops"     // too many Received fields
	StoreDown    Reason = "store.down"    // the queue's store failed
	NoRecipients Reason = "data.empty"    // a message for nobody
	SizeExceeded Reason = "size.exceeded" // a message over the plan's max-size; the wire's own verdict
	HeaderLarge  Reason = "header.large"  // a header that nobody would read
	LineBare     Reason = "line.bare"     // a message with a bare CR or LF; the wire's own verdict
)

// Verdict is what a recipient is told, and why.
type Verdict struct {
	Reply  mail.Reply
	Reason Reason
}

// Decide judges one recipient.
func Decide(e Evidence) Verdict {
	a := e.Recipient
	switch {
	case !e.Ours && e.Soft:
		return verdict(451, 7, 1, RelayDenied, "please try again later")
	case !e.Ours:
		// RFC 5321 §3.6.2; 5.7.1 by RFC 3463 §3.8.
		return verdict(550, 7, 1, RelayDenied, "mail for "+brief(a.Host())+" is not taken here; check the address, or its MX records")
	case e.Role == site.Trap:
		return verdict(451, 7, 1, RungTrap, "please try again later, the best MX host first")
	case !takesMail(e.Role):
		return verdict(451, 7, 1, RungRefuse, "please try again later, the best MX host first")
	case e.Mailbox == Listed, a.IsPostmaster(): // RFC 5321 §4.5.1: always
		return accepted()
	case routed(a.Local):
		return verdict(550, 7, 1, RelayRouted, "an address with a route in it (% ! @) is not taken here; write to the mailbox itself")
	case e.Mailbox == NotListed:
		return verdict(550, 1, 1, RcptUnknown, "there is no such mailbox here; check the address")
	case unsafe(a.Local):
		return verdict(550, 1, 3, RcptUnsafe, "no mailbox here has such a name; check the address")
	}
	return accepted()
}

func accepted() Verdict { return verdict(250, 1, 5, Accepted, "the recipient is fine") }

func verdict(code, subject, detail int, reason Reason, text string) Verdict {
	return Verdict{mail.NewReply(code, subject, detail, text), reason}
}

// routed reports a local part that some MTA behind us might take for a route of its own
// and relay: user%other@ours, other!user@ours, "user@other"@ours (RFC 5321 appendix F.2;
// "@other:user"@ours has the @, too).
func routed(local string) bool { return strings.ContainsAny(local, "%!@") }

// unsafe reports a local part that no list vouches for and that a delivery program might
// take for a command, a file, a hidden file or a path upwards.
func unsafe(local string) bool {
	return local == "" || strings.IndexByte("|/.", local[0]) >= 0 ||
		strings.Contains(local, "/../") || strings.HasSuffix(local, "/..")
}

// maxBrief bounds what a reply repeats of the client's words, in octets.
const maxBrief = 80

// brief cuts a host for a reply line (RFC 5321 §4.5.3.1.5: 512 octets).
func brief(host string) string {
	switch {
	case host == "":
		return "an address without a domain"
	case len(host) > maxBrief:
		return host[:maxBrief] + "..."
	}
	return host
}
