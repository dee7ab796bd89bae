package site

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/mailauth/spf"
)

// Flattened is a [[domain.spf-flattened]]: networks that stand in the domain's SPF record in place
// of an include, which would cost look-ups (RFC 7208 §4.6.4).
type Flattened struct {
	Include  dns.Name // whose policy they were copied from
	Networks []netip.Prefix
}

// The limits of what is copied; ours. Each include costs an audit a walk through its tree, and a
// record of so many networks would be far too long.
const (
	maxFlattened = 10  // includes of a domain
	maxCopied    = 500 // networks of an include
)

var (
	policyDomain = text("a domain with an SPF policy", parsePolicyDomain)
	network      = text("a network", parseNetwork)
)

// parsePolicyDomain wants what stands behind include:, which is often no host name. A macro leads
// elsewhere for each client, and so nothing can be copied from it.
func parsePolicyDomain(s string) (dns.Name, *Error) {
	bare := strings.TrimPrefix(s, "include:")
	n, err := dns.ParseName(bare)
	_, isAddr := n.Addr()
	switch {
	case bare != s:
		return n, &Error{Kind: BadName, Hint: "leave out include:"}
	case strings.Contains(s, "%"):
		return n, &Error{Kind: BadName, Hint: "what a macro includes cannot be copied"}
	case err != nil || isAddr || strings.ContainsAny(s, `\ "`):
		return n, &Error{Kind: BadName}
	case len(n.Labels()) < 2:
		return n, &Error{Kind: BadName, Hint: "write it whole, like _spf.example.net"}
	}
	return n, nil
}

// parseNetwork reads what stands behind ip4: or ip6:; an address alone is a network of one.
func parseNetwork(s string) (netip.Prefix, *Error) {
	p, err := netip.ParsePrefix(s)
	if addr, e := netip.ParseAddr(s); e == nil && addr.Zone() == "" {
		p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	switch {
	case strings.HasPrefix(s, "ip4:"), strings.HasPrefix(s, "ip6:"):
		return p, &Error{Kind: BadNetwork, Hint: "leave out " + s[:4]}
	case err != nil: // zones too
		return p, &Error{Kind: BadNetwork, Hint: "write it like 192.0.2.0/24 or 2001:db8::/32"}
	case p.Addr().Is4In6():
		return p, &Error{Kind: BadNetwork, Hint: "write it as a network of IPv4"}
	case p != p.Masked():
		return p, &Error{Kind: BadNetwork, Hint: "there are bits behind the length; the network is " + p.Masked().String()}
	case p.Bits() == 0:
		return p, &Error{Kind: BadNetwork, Hint: "that is everybody"}
	}
	return p, nil
}

func atFlattened(i, j int, key string) place {
	return place{table: "domain.spf-flattened", outer: i, inner: j, key: key}
}

// copies goes over the copies of all domains.
func (d *draft) copies(visit func(i, j int, c Flattened)) {
	for i, dom := range d.Domains {
		for j, c := range dom.Flattened {
			visit(i, j, c)
		}
	}
}

func checkFlattenedTwice(d *draft, report reporter) {
	for i, dom := range d.Domains {
		twice(d, report, "include of a domain", len(dom.Flattened), func(j int) (dns.Name, place) { return dom.Flattened[j].Include, atFlattened(i, j, "include") })
	}
}

func checkFlattenedItself(d *draft, report reporter) {
	d.copies(func(i, j int, c Flattened) {
		if name := d.Domains[i].Name; !name.IsZero() && c.Include == name {
			report(atFlattened(i, j, "include"), "another domain than "+quoteName(name), quoteName(c.Include), "its own record is where the copies stand")
		}
	})
}

func checkFlattenedMany(d *draft, report reporter) {
	for i, dom := range d.Domains {
		if n := len(dom.Flattened); n > maxFlattened {
			report(atFlattened(i, maxFlattened, ""), "at most "+itoa(maxFlattened)+" for "+quoteName(dom.Name), itoa(n), "")
		}
	}
	d.copies(func(i, j int, c Flattened) {
		if n := len(c.Networks); n > maxCopied {
			report(atFlattened(i, j, "networks").number(maxCopied), "at most "+itoa(maxCopied)+" networks", itoa(n), "mxward spf flatten prints the shortest list")
		}
	})
}

// checkNetworkWithin: listOf has seen to those that are the same.
func checkNetworkWithin(d *draft, report reporter) {
	d.copies(func(i, j int, c Flattened) {
		if len(c.Networks) > maxCopied {
			return
		}
		for n, p := range c.Networks {
			for m, wider := range c.Networks {
				if p.IsValid() && wider.IsValid() && wider.Bits() < p.Bits() && wider.Contains(p.Addr()) {
					at := atFlattened(i, j, "networks")
					report(at.number(n), "networks outside of each other", quote(p.String()), quote(wider.String())+" in "+d.lineText(at.number(m))+" has it already")
					break
				}
			}
		}
	})
}

// compareSPF wants the copies of the plan in the SPF record that the plan's zone has: there, or in
// one of the same zone that it includes.
func (d *draft) compareSPF(z served, i int) {
	dom := d.Domains[i]
	if len(dom.Flattened) == 0 || dom.Name.IsZero() || !z.says(dom.Name) {
		return
	}
	tree := spf.Survey(context.Background(), z, dom.Name.String())
	if errors.Is(tree.Err, spf.ErrTemporary) {
		return // an alias leads to a record that is somebody else's
	}
	written := tree.Written(func(n dns.Name) bool { return n.In(z.name) })
	for j, c := range dom.Flattened {
		if !d.good(atFlattened(i, j, "include")) || !d.good(atFlattened(i, j, "networks")) {
			continue
		}
		if tree.Includes(c.Include) {
			d.fail(ZoneIncludes, atFlattened(i, j, "include"), "no include:"+c.Include.String()+" in the SPF record of "+quoteName(dom.Name)+" in "+z.file,
				"one", "either include it, and have no copies, or take it out of the record")
			continue
		}
		missing := slices.DeleteFunc(slices.Clone(c.Networks), func(p netip.Prefix) bool { return spf.Covered(p, written) })
		if len(missing) > 0 {
			d.fail(ZoneSPFDiffers, atFlattened(i, j, "networks"), "networks that the SPF record of "+quoteName(dom.Name)+" in "+z.file+" names",
				list(missing, spf.Mechanism), "let the plan and the zone say the same")
		}
	}
}
