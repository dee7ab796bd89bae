package spf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"

	"mxward/internal/dns"
)

// The limits of NetworksOf; behind them the set is not whole.
const (
	maxAsked    = MaxLookups * maxMXHosts // RFC 7208 §4.6.4: hosts of mx that a receiver asks for
	maxNetworks = 2000                    // ours: ip4 and ip6 terms, several times what the largest providers have
)

// ErrTooLarge: receivers may use the policy, and its networks are more than NetworksOf looks at.
var ErrTooLarge = errors.New("the SPF policy is too large to be listed")

// noteClient is the note of a term that depends on more than addresses.
const noteClient = "depends on the client"

// Networks is who passes by a policy, whatever name the client has and whatever it says.
type Networks struct {
	Set *netipx.IPSet // never nil
	// Beyond are the terms that cannot be written as networks: macros, and ptr. Because of them
	// others may pass too (More), or some of Set may not (Fewer).
	Beyond      []string
	More, Fewer bool
	// Err is why Set is not whole, as Tree's: ErrNotSPF where there is no policy; ErrTemporary
	// where any of it could not be asked for; ErrTooLarge; else ErrPermanent.
	Err error
}

// NetworksOf finds out which networks a domain's policy passes, with all that it includes and every
// host that it names, behind a receiver's limits too (see Survey).
func NetworksOf(ctx context.Context, r dns.Resolver, domain string) Networks {
	ctx, cancel := context.WithTimeout(ctx, maxSurveyTime)
	defer cancel()
	t := Survey(ctx, r, domain)
	p := passing{ctx: ctx, resolver: r}
	out := p.tree(t)
	if p.trouble(t.Err); errors.Is(t.Err, ErrNotSPF) {
		p.err = t.Err
	}
	out.Beyond, out.Err = p.beyond, p.err
	return out
}

// passing goes through a tree with no client, and with all addresses at once.
type passing struct {
	ctx             context.Context
	resolver        dns.Resolver
	asked, networks int
	beyond          []string
	err             error
}

// trouble keeps the first error, and of the DNS rather than of the policy: that may pass.
func (p *passing) trouble(err error) {
	if err != nil && (p.err == nil || errors.Is(err, ErrTemporary) && !errors.Is(p.err, ErrTemporary)) {
		p.err = err
	}
}

// tree: the first mechanism that matches an address decides on it (RFC 7208 §4.6.2).
func (p *passing) tree(t *Tree) Networks {
	var passed, refused netipx.IPSetBuilder
	refuses := false // else there is nothing to take away, and long lists of networks are quick
	out := Networks{}
	var redirect *Branch
	for i, b := range t.Branches {
		if b.Term.Modifier {
			if b.Term.is(nameRedirect) {
				redirect = &t.Branches[i]
			}
			continue
		}
		some := p.matched(b)
		if b.Term.passes() {
			if refuses {
				some.Set = minus(some.Set, &refused)
			}
			passed.AddSet(some.Set)
			out.More, out.Fewer = out.More || some.More, out.Fewer || some.Fewer
		} else {
			refused.AddSet(minus(some.Set, &passed))
			refuses = true
			out.More, out.Fewer = out.More || some.Fewer, out.Fewer || some.More
		}
		if b.Term.Name == nameAll {
			redirect = nil
			break
		}
	}
	if redirect != nil {
		some := p.matched(*redirect)
		passed.AddSet(minus(some.Set, &refused))
		out.More, out.Fewer = out.More || some.More, out.Fewer || some.Fewer
	}
	out.Set = built(&passed)
	return out
}

// matched gives the addresses that a term matches.
func (p *passing) matched(b Branch) Networks {
	var set netipx.IPSetBuilder
	p.trouble(b.Err)
	switch {
	case b.Note == noteClient:
		p.beyond = append(p.beyond, b.Term.String())
		return Networks{Set: built(&set), More: true}
	case b.Tree != nil:
		return p.tree(b.Tree)
	}
	switch b.Term.Name {
	case nameAll:
		addAll(&set)
	case nameIP4, nameIP6:
		if p.networks++; p.networks > maxNetworks {
			p.trouble(fmt.Errorf("%w: there are more than %d networks, and what is behind these was not looked at", ErrTooLarge, maxNetworks))
			break
		}
		addNetwork(&set, b.Term.Prefix)
	case nameExists:
		if len(b.Addrs) > 0 {
			addAll(&set)
		}
	case nameA:
		p.trouble(b.half)
		addHosts(&set, b.Term, b.Addrs)
	case nameMX:
		for _, host := range b.Hosts {
			addHosts(&set, b.Term, p.addresses(b.Term, host))
		}
	}
	return Networks{Set: built(&set)}
}

// addresses asks for those of one host of mx. The null MX has none (RFC 7505).
func (p *passing) addresses(term Term, host dns.Name) []netip.Addr {
	if host == dns.Root || host.IsZero() {
		return nil
	}
	if p.asked == maxAsked {
		p.trouble(fmt.Errorf("%w: there are more than %d MX hosts, and those behind these were not looked at", ErrPermanent, maxAsked))
		return nil
	}
	p.asked++
	set, err := dns.LookupAllAddrs(p.ctx, p.resolver, host)
	if err != nil {
		p.trouble(fmt.Errorf("%w: %s: %w", ErrTemporary, term, err))
	}
	return set.Records
}

func addAll(set *netipx.IPSetBuilder) {
	set.AddPrefix(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
	set.AddPrefix(netip.PrefixFrom(netip.IPv6Unspecified(), 0))
}

// addHosts adds the networks of a host by the lengths that a and mx give.
func addHosts(set *netipx.IPSetBuilder, t Term, addrs []netip.Addr) {
	for _, addr := range addrs {
		bits := 32 - t.HostBits4
		if addr.Is6() {
			bits = 128 - t.HostBits6
		}
		addNetwork(set, netip.PrefixFrom(addr, bits))
	}
}

// addNetwork leaves out IPv4 addresses that are written as IPv6: no client has such a one (RFC 7208 §5).
func addNetwork(set *netipx.IPSetBuilder, p netip.Prefix) {
	if p = p.Masked(); !p.Addr().Is4In6() {
		set.AddPrefix(p)
	}
}

// built gives what is in a builder. Its errors are about prefixes that are none, which no term has.
func built(b *netipx.IPSetBuilder) *netipx.IPSet {
	set, err := b.IPSet()
	if err != nil || set == nil {
		return new(netipx.IPSet)
	}
	return set
}

func minus(set *netipx.IPSet, less *netipx.IPSetBuilder) *netipx.IPSet {
	var rest netipx.IPSetBuilder
	rest.AddSet(set)
	rest.RemoveSet(built(less))
	return built(&rest)
}

// passes: a mechanism without a qualifier passes (RFC 7208 §4.6.2).
func (t Term) passes() bool { return t.Qualifier == Pass || t.Qualifier == "" }

// Written gives the networks that the records at some names write out as passing, in the domain's
// own record or in one that it includes or is redirected to.
func (t *Tree) Written(at func(dns.Name) bool) []netip.Prefix {
	var all []netip.Prefix
	name, ok := policyName(t.Domain)
	ours := ok && at(name)
	for _, b := range t.Branches {
		switch {
		case b.Term.is(nameRedirect):
			if b.Tree != nil {
				all = append(all, b.Tree.Written(at)...)
			}
		case b.Term.Name == nameAll && !b.Term.Modifier:
			return all
		case b.Term.Modifier || !b.Term.passes():
		case b.Tree != nil:
			all = append(all, b.Tree.Written(at)...)
		case ours && b.Term.Prefix.IsValid():
			all = append(all, b.Term.Prefix.Masked())
		}
	}
	return all
}

// Includes reports whether the tree includes a domain, or is redirected to it.
func (t *Tree) Includes(domain dns.Name) bool {
	for _, b := range t.Branches {
		if b.Tree == nil {
			continue
		}
		if name, ok := policyName(b.Tree.Domain); ok && name == domain || b.Tree.Includes(domain) {
			return true
		}
	}
	return false
}

// Mechanism writes a network as a term of a record: ip4:192.0.2.0/24.
func Mechanism(p netip.Prefix) string {
	t := Term{Qualifier: Pass, Name: nameIP4, Prefix: p.Masked()}
	if p.Addr().Is6() {
		t.Name = nameIP6
	}
	return t.String()
}

// Mechanisms writes networks as they stand in a record, with spaces between them.
func Mechanisms(networks []netip.Prefix) string {
	words := make([]string, len(networks))
	for i, p := range networks {
		words[i] = Mechanism(p)
	}
	return strings.Join(words, " ")
}

// Covered reports whether other networks have all of one.
func Covered(p netip.Prefix, by []netip.Prefix) bool {
	var b netipx.IPSetBuilder
	for _, other := range by {
		b.AddPrefix(other)
	}
	return built(&b).ContainsPrefix(p)
}
