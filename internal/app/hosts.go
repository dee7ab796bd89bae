package app

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/site"
)

// chooseHosts finds which of the plan's hosts this machine is.
func (a *App) chooseHosts(context.Context) error {
	if len(a.opts.Hosts) > 0 {
		for _, name := range a.opts.Hosts {
			h, ok := a.plan.Host(name)
			if !ok || !h.Alias.IsZero() {
				return fmt.Errorf("choose hosts: %s: expected a [[host]] of the plan, got %q", a.plan.File, name)
			}
			a.hosts = append(a.hosts, h)
		}
		return nil
	}
	mine, err := machineAddrs()
	if err != nil {
		return fmt.Errorf("choose hosts: read this machine's addresses: %w", err)
	}
	for _, h := range a.plan.Hosts {
		if slices.ContainsFunc(presence(h), func(at netip.Addr) bool { return isMine(at, mine) }) {
			a.hosts = append(a.hosts, h)
		}
	}
	if a.hosts, err = settle(a.hosts, mine); err != nil {
		return fmt.Errorf("choose hosts: %s: %w", a.plan.File, err)
	}
	if len(a.hosts) == 0 && len(a.plan.Hosts) > 0 && len(a.listensHere(mine)) == 0 {
		names := make([]string, 0, len(a.plan.Hosts))
		for _, h := range a.plan.Hosts {
			names = append(names, h.Name.String())
		}
		return fmt.Errorf("choose hosts: %s: none of the hosts %s listens on an address of this machine; name the right one with --host, or give it listen = […]",
			a.plan.File, strings.Join(names, ", "))
	}
	return nil
}

// listensHere gives the public name server's addresses that are this machine's. The others
// are another machine's of the same plan.
func (a *App) listensHere(mine []netip.Addr) []netip.AddrPort {
	return onMachine(a.plan.DNS.Listen, mine)
}

// onMachine gives the listening addresses that a machine with the addresses mine has.
func onMachine(listen []netip.AddrPort, mine []netip.Addr) []netip.AddrPort {
	var here []netip.AddrPort
	for _, at := range listen {
		if isMine(at.Addr(), mine) {
			here = append(here, at)
		}
	}
	return here
}

// settle chooses between hosts that want the same socket, 0.0.0.0:25 above all: behind a NAT,
// all machines of a site may. Here only one can have it: the one whose public address this
// machine has. Where none or both are, only the operator knows.
func settle(hosts []site.Host, mine []netip.Addr) ([]site.Host, error) {
	has := func(h site.Host) bool {
		return slices.ContainsFunc(h.Addresses, func(at netip.Addr) bool { return slices.Contains(mine, at) })
	}
	var settled []site.Host
	for _, h := range hosts {
		rival := slices.IndexFunc(hosts, func(other site.Host) bool { return other.Name != h.Name && shareSocket(h, other) })
		if rival >= 0 && has(h) == has(hosts[rival]) {
			return nil, fmt.Errorf("%s and %s cannot both listen here, on %s and %s; name the one that this machine is with --host",
				h.Name, hosts[rival].Name, h.Listen[0], hosts[rival].Listen[0])
		}
		if rival < 0 || has(h) {
			settled = append(settled, h)
		}
	}
	return settled, nil
}

func shareSocket(a, b site.Host) bool {
	return slices.ContainsFunc(a.Listen, func(s netip.AddrPort) bool {
		return slices.ContainsFunc(b.Listen, func(other netip.AddrPort) bool { return overlap(s, other) })
	})
}

// overlap reports sockets that cannot both be bound: 0.0.0.0 and :: are every address of
// their family.
func overlap(a, b netip.AddrPort) bool {
	wild := a.Addr().IsUnspecified() || b.Addr().IsUnspecified()
	return a.Port() == b.Port() && a.Addr().Is4() == b.Addr().Is4() && (wild || a.Addr() == b.Addr())
}

// presence gives the addresses by which a machine knows that it is the host: those that it
// binds, or, of a decoy, which binds nothing, those that the world sees.
func presence(h site.Host) []netip.Addr {
	if len(h.Listen) == 0 {
		return h.Addresses
	}
	addrs := make([]netip.Addr, len(h.Listen))
	for i, l := range h.Listen {
		addrs[i] = l.Addr()
	}
	return addrs
}

func machineAddrs() ([]netip.Addr, error) {
	ifaddrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, ia := range ifaddrs {
		if p, err := netip.ParsePrefix(ia.String()); err == nil {
			addrs = append(addrs, p.Addr())
		}
	}
	return addrs, nil
}

// isMine: all of 127/8 is every machine's own, and so is the unspecified address.
func isMine(a netip.Addr, mine []netip.Addr) bool {
	return a.IsLoopback() || a.IsUnspecified() || slices.Contains(mine, a)
}

// here reports whether the name is one of this machine's hosts.
func (a *App) here(name dns.Name) bool {
	return slices.ContainsFunc(a.hosts, func(h site.Host) bool { return h.Name == name })
}

// roles gives the roles that a host has on all ladders of the plan.
func (a *App) roles(host dns.Name) map[site.Role]bool {
	roles := map[site.Role]bool{}
	for _, d := range a.plan.Domains {
		for _, r := range d.Ladder {
			if r.Host == host {
				roles[r.Role] = true
			}
		}
	}
	return roles
}

// isDecoy reports whether nobody listens at the host: every rung it stands on refuses.
func (a *App) isDecoy(host dns.Name) bool {
	roles := a.roles(host)
	return len(roles) == 1 && roles[site.Refuse]
}

// gateHere reports whether this machine is a gate of the domain: then accepted mail goes
// to the domain's target. A machine that is only a backup sends it up the ladder.
func (a *App) gateHere(d site.Domain) bool {
	return slices.ContainsFunc(d.Ladder, func(r site.Rung) bool { return r.Role == site.Gate && a.here(r.Host) })
}
