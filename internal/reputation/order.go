package reputation

import (
	"net/netip"
	"slices"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

// Times of the judgement of order.
const (
	// OrderMemory is how long a knock at a better rung excuses one at a worse. It is long
	// because senders remember dead hosts and skip them without a knock: Exim for hours,
	// Sendmail for 30 minutes, qmail for about 90, OpenSMTPD for up to an hour.
	OrderMemory = 48 * time.Hour

	// OrderWait is how long to wait after a contact before judging it. A greylisted
	// sender's walk down the ladder takes milliseconds, and what another gate saw of it
	// takes longer to arrive. OutOfOrder itself looks at no clock: whoever calls it waits.
	OrderWait = 120 * time.Second
)

// The widths of a client group: big senders retry from a neighbouring address.
const (
	groupBits4 = 24
	groupBits6 = 64
)

// Rung is one rung of a domain's MX ladder, as it was when a contact came.
type Rung struct {
	Preference uint16
	Host       dns.Name

	// Decoy marks a rung that takes no mail. A knock there counts as an attempt, but nobody
	// is blamed for leaving it out: a sender that follows MTA-STS or DANE never knocks.
	Decoy bool
	// Down marks a rung that was not up, or not accepting, when the contact came. It is
	// treated as a decoy is: nobody is blamed for not having knocked at a closed door.
	Down bool
}

// OutOfOrder reports whether the contact at came to its rung without the client having
// tried a better one (RFC 5321 §5.1: the lowest preference first), although there was a
// better one to try. It says what happened in one contact; it condemns nobody.
//
// The ladder is that of at's domain, and contacts are those of at's client group, in any
// order; at itself may be among them. The times of all contacts are taken as those of one
// clock.
//
//   - One better rung is enough, whatever became of the attempt: a walk from the first rung
//     to the last need not stop at each, because a sender may know that one to be dead.
//   - A knock counts for its host, not for a domain: whoever found mx1 dead while carrying
//     mail for one domain skips mx1 for the next.
//   - Rungs of equal preference are one rung; their order is the sender's choice.
//   - A host that is not on the ladder has no place in its order: the sender follows an old
//     MX record, or none.
//   - A refused SYN is never judged, for its source address proves nothing.
func OutOfOrder(ladder []Rung, contacts []Contact, at Contact) bool {
	if at.Session == "" && at.Stage == mail.StageConnect {
		return false
	}
	own, ok := preference(ladder, at.Host)
	if !ok {
		return false
	}
	better := func(r Rung) bool { return r.Preference < own }
	if !slices.ContainsFunc(ladder, func(r Rung) bool { return better(r) && !r.Decoy && !r.Down }) {
		return false
	}
	return !slices.ContainsFunc(contacts, func(c Contact) bool {
		return remembered(c, at) && slices.ContainsFunc(ladder, func(r Rung) bool {
			return better(r) && r.Host == c.Host
		})
	})
}

// preference gives the best preference of a host on the ladder.
func preference(ladder []Rung, host dns.Name) (best uint16, ok bool) {
	for _, r := range ladder {
		if r.Host == host && (!ok || r.Preference < best) {
			best, ok = r.Preference, true
		}
	}
	return best, ok
}

// remembered reports whether c came before at, and not too long before.
func remembered(c, at Contact) bool {
	return !c.When.After(at.When) && at.When.Sub(c.When) <= OrderMemory
}

// Group gives the network that stands for a client where nothing better is known of it: a
// /24 of IPv4, a /64 of IPv6. An IPv4-mapped address is taken as IPv4. The group of an
// invalid address is the zero Prefix.
func Group(client netip.Addr) netip.Prefix {
	client = client.Unmap().WithZone("")
	bits := groupBits6
	if client.Is4() {
		bits = groupBits4
	}
	group, err := client.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return group
}
