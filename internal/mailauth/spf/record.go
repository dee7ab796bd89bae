package spf

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Record is an SPF record: its terms in their order. The zero Record is "v=spf1", whose
// result is always Neutral.
type Record struct{ Terms []Term }

// The names of the mechanisms and of the modifiers that are known (RFC 7208 §5, §6).
const (
	nameAll      = "all"
	nameInclude  = "include"
	nameA        = "a"
	nameMX       = "mx"
	namePTR      = "ptr"
	nameIP4      = "ip4"
	nameIP6      = "ip6"
	nameExists   = "exists"
	nameRedirect = "redirect"
	nameExp      = "exp"
)

// Term is a mechanism or a modifier. Terms are comparable.
type Term struct {
	// Pos is where the term begins in the text that was read, in octets from 0.
	Pos int
	// Qualifier is what a mechanism says of a client that it matches: Pass (also ""),
	// Fail, SoftFail or Neutral. Modifiers have none.
	Qualifier Result
	// Name is in lower case; only that of an unknown modifier is as it was written.
	Name     string
	Modifier bool

	// Domain is the domain-spec, "" where it was left out; of an unknown modifier it is
	// the value, whatever that is.
	Domain Macro
	// Prefix is the network of ip4 and ip6, as written: its host bits may be set.
	Prefix netip.Prefix
	// HostBits4 and HostBits6 are the bits of an address that a and mx do not compare:
	// 8 for /24, 64 for //64, 0 where no length is given.
	HostBits4, HostBits6 int
}

var qualifiers = map[Result]string{Fail: "-", SoftFail: "~", Neutral: "?"}

// String gives the term in its shortest spelling: no "+", no length that is the default.
func (t Term) String() string {
	if t.Modifier {
		return t.Name + "=" + string(t.Domain)
	}
	s := qualifiers[t.Qualifier] + t.Name
	switch t.Name {
	case nameIP4, nameIP6:
		s += ":" + t.Prefix.Addr().String()
		if bits := t.Prefix.Bits(); bits < t.Prefix.Addr().BitLen() {
			s += "/" + strconv.Itoa(bits)
		}
		return s
	}
	if t.Domain != "" {
		s += ":" + string(t.Domain)
	}
	if t.HostBits4 > 0 {
		s += "/" + strconv.Itoa(32-t.HostBits4)
	}
	if t.HostBits6 > 0 {
		s += "//" + strconv.Itoa(128-t.HostBits6)
	}
	return s
}

// asksDNS reports whether the term counts towards the ten (RFC 7208 §4.6.4).
func (t Term) asksDNS() bool {
	switch t.Name {
	case nameInclude, nameA, nameMX, namePTR, nameExists:
		return !t.Modifier
	}
	return t.is(nameRedirect)
}

// is reports whether t is the modifier of that name.
func (t Term) is(modifier string) bool { return t.Modifier && t.Name == modifier }

// same reports whether two terms say the same, wherever they stand.
func (t Term) same(o Term) bool {
	t.Pos, o.Pos = 0, 0
	return t == o
}

// String gives the record with one space between the terms. Parse of it is Equal to r.
func (r Record) String() string {
	var b strings.Builder
	b.WriteString("v=spf1")
	for _, t := range r.Terms {
		b.WriteByte(' ')
		b.WriteString(t.String())
	}
	return b.String()
}

// Equal reports whether two records have the same terms in the same order, wherever these
// stand in their texts.
func (r Record) Equal(o Record) bool { return slices.EqualFunc(r.Terms, o.Terms, Term.same) }

// all gives the place of the first mechanism all, or -1.
func (r Record) all() int {
	return slices.IndexFunc(r.Terms, func(t Term) bool { return t.Name == nameAll && !t.Modifier })
}

// modifier gives the place of a known modifier, or -1.
func (r Record) modifier(name string) int {
	return slices.IndexFunc(r.Terms, func(t Term) bool { return t.is(name) })
}
