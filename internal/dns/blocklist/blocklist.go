// Package blocklist knows the block lists and allow lists that mail hosts ask by the DNS: how
// an address or a domain is put to one, what its answers mean, and how to tell whether it is
// alive (RFC 5782).
//
// An answer counts only where the list's own table has it. Whatever else comes, a refusal, a
// code that nobody documents, an address outside 127.0.0.0/8, makes the list unusable and
// nobody listed.
//
// Not implemented: serving a list, hashes of mail addresses, lists of URLs with paths, keys in
// the zone's name.
package blocklist

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"mxward/internal/dns"
)

// Kind is what a list is asked for.
type Kind string

// The kinds. Which addresses must not send mail by themselves, a policy, is said by codes of
// lists of addresses.
const (
	Addresses Kind = "ip"
	Domains   Kind = "domain"
	Allowed   Kind = "allow" // addresses of which the list thinks well
)

// Weight is how much harm a listing does.
type Weight int

// The weights.
const (
	Minor    Weight = iota // few receivers refuse by it
	Ordinary               // it counts beside others
	Major                  // many receivers refuse by it alone
)

// Class is what one code says.
type Class string

// The classes.
const (
	Listed  Class = "listed"
	Policy  Class = "policy"  // the network's owner, or the list, says that no mail comes from there
	Mixed   Class = "mixed"   // good and bad mail come from there, or it is only watched
	Allow   Class = "allow"   // well known
	Refused Class = "refused" // the list does not answer whoever asks
)

// Code is one row of a list's table.
type Code struct {
	// Answer is the address that the list gives; an octet that may be anything but 0 is an x. In a
	// list of Bits the last octet is one bit, and an answer has the sum of several.
	Answer  string
	Class   Class
	Meaning string
}

// List is one list, as its operator documents it.
type List struct {
	Name   string
	Zone   dns.Name
	Kind   Kind
	Weight Weight
	IPv6   bool // it has addresses of both families
	Bits   bool
	Hosts  bool // of a list of domains: it has names below those that are registered, too
	Codes  []Code
	// Test is listed always, and Never is not; "" is what RFC 5782 §5 says.
	Test, Never string
	// Registration: it answers only those who have registered their address.
	Registration bool
	Source       string // where the codes are documented
	Removal      string // where whoever is listed can look it up, and get off
}

// AddrName gives the name at which the list has an address (RFC 5782 §2.1, §2.4).
func (l List) AddrName(a netip.Addr) (dns.Name, error) {
	raw := a.AsSlice()
	labels := make([]string, 0, 2*len(raw))
	for i := len(raw) - 1; i >= 0; i-- {
		if a.Is4() {
			labels = append(labels, strconv.Itoa(int(raw[i])))
			continue
		}
		labels = append(labels, strconv.FormatUint(uint64(raw[i]&0xf), 16), strconv.FormatUint(uint64(raw[i]>>4), 16))
	}
	return l.below(strings.Join(labels, "."))
}

// DomainName gives the name at which the list has a domain (RFC 5782 §3).
func (l List) DomainName(domain dns.Name) (dns.Name, error) { return l.below(domain.String()) }

func (l List) below(name string) (dns.Name, error) {
	full, err := dns.ParseName(name + "." + l.Zone.FQDN())
	if err != nil {
		return dns.Name{}, fmt.Errorf("ask %s for %s: %w", l.Zone, name, err)
	}
	return full, nil
}

// TestNames gives the names by which one sees whether the list is alive: the first is listed, the
// second is not (RFC 5782 §5).
func (l List) TestNames(six bool) (test, never dns.Name, err error) {
	name := func(own, domain, v4, v6 string) (dns.Name, error) {
		switch {
		case own != "":
			return l.below(own)
		case l.Kind == Domains:
			return l.below(domain)
		case six:
			return l.AddrName(netip.MustParseAddr(v6))
		}
		return l.AddrName(netip.MustParseAddr(v4))
	}
	if test, err = name(l.Test, "test", "127.0.0.2", "::ffff:7f00:2"); err != nil {
		return
	}
	never, err = name(l.Never, "invalid", "127.0.0.1", "::ffff:7f00:1")
	return
}

// codes gives the rows of the table that an answer means; none where it is not in the table.
func (l List) codes(a netip.Addr) []Code {
	var found []Code
	for _, c := range l.Codes {
		if c.Class != Refused && l.Bits && c.bit(a) || c.is(a) {
			found = append(found, c)
		}
	}
	return found
}

func (c Code) is(a netip.Addr) bool {
	want, have := strings.Split(c.Answer, "."), strings.Split(a.String(), ".")
	if len(want) != len(have) {
		return false
	}
	for i := range want {
		if want[i] != have[i] && (want[i] != "x" || have[i] == "0") {
			return false
		}
	}
	return true
}

// bit reports whether the answer has the code's bit, and is the same before it.
func (c Code) bit(a netip.Addr) bool {
	own, err := netip.ParseAddr(c.Answer)
	if err != nil || !own.Is4() || !a.Is4() {
		return false
	}
	want, have := own.As4(), a.As4()
	return [3]byte(want[:3]) == [3]byte(have[:3]) && have[3]&want[3] != 0
}

// Plain is a list of addresses of which nothing is known but its zone: RFC 5782 §2.1 has 127.0.0.2
// for a listing, and most have others beside it.
func Plain(zone dns.Name) List {
	l := List{Name: zone.String(), Zone: zone, Kind: Addresses, Weight: Ordinary, Source: "RFC 5782 §2.1"}
	for last := 2; last < 255; last++ {
		l.Codes = append(l.Codes, Code{fmt.Sprintf("127.0.0.%d", last), Listed, "listed"})
	}
	return l
}
