package site

import (
	"net/netip"
	"slices"

	"mxward/internal/dns"
)

// listener is a socket that the plan wants, and where it says so.
type listener struct {
	at     place
	socket netip.AddrPort
}

// listeners gives every socket of the plan, those by default too.
func (d *draft) listeners() []listener {
	var all []listener
	add := func(at place, sockets []netip.AddrPort) {
		for n, s := range sockets {
			if s.IsValid() {
				all = append(all, listener{at.number(n), s})
			}
		}
	}
	silent := d.silent()
	for i, h := range d.Hosts {
		switch at := atHost(i, "listen"); {
		case d.given(at):
			add(at, h.Listen)
		default:
			add(atHost(i, "addresses"), h.defaultListen(silent))
		}
	}
	add(atKey("dns", "listen"), d.DNS.Listen)
	add(atKey("mta-sts", "listen"), d.MTASTS.Listen)
	add(atKey("resolver", "listen"), d.Resolver.Listen)
	if d.Metrics.Listen.IsValid() {
		all = append(all, listener{atKey("metrics", "listen"), d.Metrics.Listen})
	}
	return all
}

// silent gives the hosts that are decoys, and nothing else.
func (p *Plan) silent() map[dns.Name]bool {
	silent := map[dns.Name]bool{}
	for _, dom := range p.Domains {
		for _, r := range dom.Ladder {
			was, seen := silent[r.Host]
			silent[r.Host] = r.Role == Refuse && (was || !seen)
		}
	}
	return silent
}

// defaultListen gives where a host listens that does not say: on port 25 (RFC 5321
// §4.5.4.2) of its addresses, unless it is a decoy.
func (h Host) defaultListen(silent map[dns.Name]bool) []netip.AddrPort {
	if silent[h.Name] {
		return nil
	}
	var sockets []netip.AddrPort
	for _, a := range h.Addresses {
		if a.IsValid() {
			sockets = append(sockets, netip.AddrPortFrom(a, smtpPort))
		}
	}
	return sockets
}

// covers reports whether a listener at s takes what comes to a. The unspecified addresses
// mean every address of their own family.
func covers(s, a netip.AddrPort) bool {
	wild := s.Addr().IsUnspecified() && s.Addr().Is4() == a.Addr().Is4()
	return s.Port() == a.Port() && (wild || s.Addr() == a.Addr())
}

// sockets finds the listener that takes what comes to an address and port.
type sockets struct {
	exact  map[netip.AddrPort]listener
	byPort map[uint16][]listener
	wild   map[uint16][]listener // those on all addresses
}

func newSockets() sockets {
	return sockets{map[netip.AddrPort]listener{}, map[uint16][]listener{}, map[uint16][]listener{}}
}

func (s sockets) add(l listener) {
	port := l.socket.Port()
	if _, ok := s.exact[l.socket]; !ok {
		s.exact[l.socket] = l
	}
	s.byPort[port] = append(s.byPort[port], l)
	if l.socket.Addr().IsUnspecified() {
		s.wild[port] = append(s.wild[port], l)
	}
}

// at gives the listener that takes what comes to a.
func (s sockets) at(a netip.AddrPort) (listener, bool) {
	if l, ok := s.exact[a]; ok {
		return l, true
	}
	i := slices.IndexFunc(s.wild[a.Port()], func(l listener) bool { return covers(l.socket, a) })
	if i < 0 {
		return listener{}, false
	}
	return s.wild[a.Port()][i], true
}

// rival gives a listener that cannot be bound on the same machine as l.
func (s sockets) rival(l listener) (listener, bool) {
	if before, ok := s.exact[l.socket]; ok && !apart(before, l) {
		return before, true
	}
	others := s.wild[l.socket.Port()]
	if l.socket.Addr().IsUnspecified() {
		others = s.byPort[l.socket.Port()]
	}
	i := slices.IndexFunc(others, func(o listener) bool {
		return (covers(o.socket, l.socket) || covers(l.socket, o.socket)) && !apart(o, l)
	})
	if i < 0 {
		return listener{}, false
	}
	return others[i], true
}

// apart reports whether two listeners may well be on two machines: those of two hosts, one of
// which names all addresses of wherever it is, as behind a NAT or in a container, or which
// name the same private one.
func apart(a, b listener) bool {
	return a.at.table == "host" && b.at.table == "host" && a.at.outer != b.at.outer &&
		(a.socket.Addr().IsUnspecified() || b.socket.Addr().IsUnspecified() || a.socket.Addr().IsPrivate())
}

func checkListenTwice(d *draft, report reporter) {
	all := newSockets()
	for _, l := range d.listeners() {
		before, taken := all.rival(l)
		repeated := before.socket == l.socket && before.at.number(0) == l.at.number(0) // and reported already
		if taken && !repeated {
			report(l.at, "a socket of its own", quote(l.socket.String()),
				before.at.option()+" in "+d.lineText(before.at)+" has "+before.socket.String())
		}
		all.add(l)
	}
}

// checkDeliverLoop: mail that goes to one of our own listeners comes back for ever.
func checkDeliverLoop(d *draft, report reporter) {
	ours, mine := newSockets(), map[netip.Addr]bool{}
	for _, l := range d.listeners() {
		ours.add(l)
	}
	for i, h := range d.Hosts {
		for n, a := range h.Addresses { // what the world reaches at port 25 is ours too, behind a NAT
			mine[a] = true
			ours.add(listener{atHost(i, "addresses").number(n), netip.AddrPortFrom(a, smtpPort)})
		}
	}
	hosts := d.hostOf()
	for i, dom := range d.Domains {
		if dom.Deliver.Scheme == ToMX && dom.has(Gate) {
			report(atDomain(i, "deliver"), "smtp:, lmtp: or maildir: for a domain with a gate", `"mx:"`,
				"the MX records lead to the gate itself")
		}
		for _, a := range dom.Deliver.addresses(hosts) {
			l, ok := ours.at(netip.AddrPortFrom(a, dom.Deliver.Port))
			if ok && l.socket.Addr().IsUnspecified() && !a.IsLoopback() && !a.IsUnspecified() && !mine[a] {
				continue // another machine's address
			}
			if ok {
				report(atDomain(i, "deliver"), "a server behind the gate", quote(dom.Deliver.String()),
					l.at.option()+" in "+d.lineText(l.at)+" says that this is mxward itself")
				break
			}
		}
	}
}

// addresses gives those of the target that the plan alone can tell.
func (t Target) addresses(hosts map[dns.Name]Host) []netip.Addr {
	if t.Host == "" {
		return nil
	}
	if a, err := netip.ParseAddr(t.Host); err == nil {
		return []netip.Addr{a.Unmap()}
	}
	if t.Host == "localhost" { // RFC 6761 §6.3
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	name, err := dns.ParseName(t.Host)
	if err != nil {
		return nil
	}
	addrs := slices.Clone(hosts[name].Addresses)
	for _, s := range hosts[name].Listen {
		addrs = append(addrs, s.Addr())
	}
	return addrs
}
