package deliver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

// Bounds of one route. They are far above what honest domains have.
const (
	DefaultMaxHosts = 20 // MX hosts that are looked up
	DefaultMaxAddrs = 50 // addresses in a route
	maxHostAddrs    = 16 // addresses of one host, so that no host crowds out the next
)

// Finder finds routes. It asks the DNS and does nothing else.
type Finder struct {
	Resolver dns.Resolver

	// Self and SelfAddrs are the names and addresses of this host as an MX. A list in
	// which they stand is cut there, so that mail never comes back to us (RFC 5321 §5.1).
	// Where SelfAddrs has an address that is not loopback, all loopback addresses are
	// ourselves too: whoever points an MX at 127.0.0.1 means us.
	Self      []dns.Name
	SelfAddrs []netip.Addr
	// AllowLoopback: others may live at loopback addresses, as in a lab.
	AllowLoopback bool

	Shuffle  func(n int, swap func(i, j int)) // nil: math/rand/v2
	MaxHosts int                              // 0: DefaultMaxHosts
	MaxAddrs int                              // 0: DefaultMaxAddrs
}

// Find gives the route of mail for an address. Only the part after the @ matters. The
// error is a *NoRoute; the Route then has no hops, but still the notes.
//
//	the DNS says                                   Find says
//	the domain does not exist                      550 5.1.2
//	a null MX and no other                         556 5.1.10 (RFC 7505 §4.1)
//	neither an MX nor an address                   550 5.4.4
//	MX hosts, and none has an address              550 5.4.4
//	MX hosts, and we are the best of them          554 5.4.6: it would come back to us
//	we are in the list, the better have no address 451 4.4.4: we hold mail for them
//	could not be asked, and nothing else is known  451 4.4.3
//	what has expired says any of this              451 4.4.3
//
// That no MX host has an address is for good, because RFC 5321 §5.1 wants it reported as
// an error, and Postfix and Exim bounce such mail at once. If only some hosts can be
// looked up, mail goes to these.
//
// An MX that names an address is against RFC 5321 §5.1, but what the domain wants is plain:
// the address is noted and tried. Addresses of a host keep the resolver's order, but IPv6
// and IPv4 take turns, so that a broken family costs one attempt at a time.
func (f *Finder) Find(ctx context.Context, to mail.Address) (Route, error) {
	s := search{Finder: f, route: Route{Destination: to.Host(), Hops: []Hop{}, Notes: []Note{}}}
	var err *NoRoute
	switch {
	case to.Literal.IsValid():
		err = s.literal(to.Literal)
	case to.Domain.IsZero() || to.Domain == dns.Root:
		err = s.fail(mail.NewReply(550, 1, 2, "the address has no domain"))
	default:
		err = s.domain(ctx, to.Domain)
	}
	if err != nil {
		s.route.Hops = []Hop{}
		return s.route, s.mild(err)
	}
	return s.route, nil
}

// mild: what was true once bounces no mail.
func (s *search) mild(err *NoRoute) *NoRoute {
	if !s.route.Stale || err.Reply.Code < 500 {
		return err
	}
	return s.trouble("the DNS of "+s.route.Destination+" cannot be asked now, and by what it said last "+err.Reply.Text, err.Err)
}

// search is one Find.
type search struct {
	*Finder
	route Route
	cut   bool // we were in the list
}

// host is an MX host and what the DNS says of it.
type host struct {
	name       dns.Name
	preference uint16
	implicit   bool
	addrs      []netip.Addr
	self       bool
	err        error // could not be looked up
}

func (s *search) note(id string, host dns.Name, format string, args ...any) {
	s.route.Notes = append(s.route.Notes, Note{ID: id, Host: host, Text: fmt.Sprintf(format, args...)})
}

// stale notes that the DNS of a name cannot be asked now, and what has expired serves.
func (s *search) stale(host, name dns.Name) {
	s.route.Stale = true
	s.note(NoteStale, host, "the DNS of %s cannot be asked now; what it said last serves", name)
}

func (s *search) fail(r mail.Reply) *NoRoute {
	return &NoRoute{Destination: s.route.Destination, Reply: r}
}

// trouble: the DNS could not be asked, which is never the sender's fault.
func (s *search) trouble(what string, err error) *NoRoute {
	return &NoRoute{Destination: s.route.Destination, Reply: mail.NewReply(451, 4, 3, what), Err: err}
}

func (s *search) loop() *NoRoute {
	return s.fail(mail.NewReply(554, 4, 6, "mail for "+s.route.Destination+" would come back to this host"))
}

// literal: user@[192.0.2.1] goes there and nowhere else (RFC 5321 §4.1.3).
func (s *search) literal(a netip.Addr) *NoRoute {
	a = a.Unmap()
	switch {
	case !usable(a):
		s.note(NotePrivate, dns.Name{}, "%s can be no host's address", a)
		return s.fail(mail.NewReply(550, 1, 2, "no host can have the address "+a.String()))
	case s.selfAddr(a):
		return s.loop()
	}
	s.route.Hops = append(s.route.Hops, Hop{Addr: a})
	return nil
}

func (s *search) domain(ctx context.Context, domain dns.Name) *NoRoute {
	set, err := dns.LookupMX(ctx, s.Resolver, domain)
	switch {
	case err != nil:
		// RFC 5321 §5.1: a temporary error queues the message. There may be an MX, so the
		// domain's own address must not be tried.
		return s.trouble("cannot look up the MX of "+domain.String()+" now", err)
	case !set.Exists:
		return s.fail(mail.NewReply(550, 1, 2, "the domain "+domain.String()+" does not exist"))
	}
	if set.Stale {
		s.stale(dns.Name{}, domain)
	}
	hosts, failure := s.choose(domain, set.Records)
	if failure != nil {
		return failure
	}
	hosts = s.bound(s.cutSelf(hosts)) // first by name, so that the bound hides nothing
	s.lookUp(ctx, hosts)
	hosts = s.cutSelf(hosts) // and by address
	return s.lay(hosts)
}

// choose gives the hosts to look up, in the order to try them.
func (s *search) choose(domain dns.Name, records []dns.MX) ([]host, *NoRoute) {
	if len(records) == 0 {
		// RFC 5321 §5.1: the implicit MX, of preference 0.
		s.note(NoteImplicit, dns.Name{}, "%s has no MX, so its own addresses serve", domain)
		return []host{{name: domain, implicit: true, self: slices.Contains(s.Self, domain)}}, nil
	}
	var hosts []host
	nulls := 0
	for _, mx := range records {
		known := slices.IndexFunc(hosts, func(h host) bool { return h.name == mx.Host })
		switch {
		case mx.Host == dns.Root:
			nulls++
		case mx.Host.IsZero():
			s.note(NoteInvalidName, dns.Name{}, "an MX of preference %d names no host; it is skipped", mx.Preference)
		case known >= 0:
			s.note(NoteDuplicate, mx.Host, "%s is listed twice; preference %d counts", mx.Host, hosts[known].preference)
		default:
			hosts = append(hosts, host{name: mx.Host, preference: mx.Preference, self: slices.Contains(s.Self, mx.Host)})
		}
	}
	if nulls > 0 && nulls == len(records) {
		s.note(NoteNull, dns.Name{}, "%s has a null MX: it takes no mail (RFC 7505)", domain)
		return nil, s.fail(mail.NewReply(556, 1, 10, "the domain "+domain.String()+" takes no mail (null MX)"))
	}
	if nulls > 0 {
		s.note(NoteNullMixed, dns.Name{}, "%s has a null MX beside others, which RFC 7505 §3 forbids; it is ignored", domain)
	}
	s.shuffleTies(hosts)
	return hosts, nil
}

// cutSelf: our own record and all of the same or a higher number go (RFC 5321 §5.1).
func (s *search) cutSelf(hosts []host) []host {
	self := slices.IndexFunc(hosts, func(h host) bool { return h.self })
	if self < 0 {
		return hosts
	}
	s.cut = true
	us := hosts[self]
	s.note(NoteSelfCut, us.name, "%s is this host: it and all that are no better than preference %d are left out", us.name, us.preference)
	return slices.DeleteFunc(hosts, func(h host) bool { return h.preference >= us.preference })
}

func (s *search) bound(hosts []host) []host {
	limit := cmp.Or(s.MaxHosts, DefaultMaxHosts)
	if len(hosts) <= limit {
		return hosts
	}
	s.note(NoteTooMany, dns.Name{}, "%s has %d MX hosts; the best %d are tried", s.route.Destination, len(hosts), limit)
	return hosts[:limit]
}

// shuffleTies: hosts of equal preference share the load (RFC 5321 §5.1).
func (s *search) shuffleTies(hosts []host) {
	shuffle := s.Shuffle
	if shuffle == nil {
		shuffle = rand.Shuffle
	}
	for first := 0; first < len(hosts); {
		tie := hosts[first:]
		if end := slices.IndexFunc(tie, func(h host) bool { return h.preference != tie[0].preference }); end >= 0 {
			tie = tie[:end]
		}
		if len(tie) > 1 {
			shuffle(len(tie), func(i, j int) { tie[i], tie[j] = tie[j], tie[i] })
		}
		first += len(tie)
	}
}

// lookUp asks for the addresses of all hosts at once; what was found is noted in the order
// of the hosts.
func (s *search) lookUp(ctx context.Context, hosts []host) {
	sets := make([]dns.Set[netip.Addr], len(hosts))
	var wg sync.WaitGroup
	for i := range hosts {
		h := &hosts[i]
		if a, ok := h.name.Addr(); ok {
			sets[i] = dns.Set[netip.Addr]{Records: []netip.Addr{a}, Exists: true, Canonical: h.name}
			continue
		}
		wg.Go(func() { sets[i], h.err = dns.LookupAddrs(ctx, s.Resolver, h.name) })
	}
	wg.Wait()
	for i := range hosts {
		s.read(&hosts[i], sets[i])
	}
}

// read notes what the DNS said of one host.
func (s *search) read(h *host, set dns.Set[netip.Addr]) {
	if h.err != nil {
		s.note(NoteTempError, h.name, "%s cannot be looked up now: %v", h.name, h.err)
		return
	}
	if set.Stale {
		s.stale(h.name, h.name)
	}
	if a, ok := h.name.Addr(); ok {
		s.note(NoteIPLiteral, h.name, "the MX names the address %s instead of a host (RFC 5321 §5.1); it is tried", a)
	}
	if set.Canonical != h.name && !h.implicit {
		s.note(NoteCNAME, h.name, "%s is an alias of %s (RFC 2181 §10.3); it is followed", h.name, set.Canonical)
		h.self = slices.Contains(s.Self, set.Canonical)
	}
	for _, a := range set.Records {
		a = a.Unmap()
		switch {
		case s.selfAddr(a):
			h.self = true
		case !usable(a):
			s.note(NotePrivate, h.name, "%s has the address %s, which can be no host's; it is skipped", h.name, a)
		default:
			if a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() {
				s.note(NotePrivate, h.name, "%s has the address %s, which is not the same host everywhere; it is tried", h.name, a)
			}
			h.addrs = append(h.addrs, a)
		}
	}
	switch {
	case h.self || len(h.addrs) > 0:
	case set.Exists || h.implicit:
		s.note(NoteNoAddress, h.name, "%s has no usable address", h.name)
	default:
		s.note(NoteNXDomain, h.name, "%s does not exist", h.name)
	}
}

// lay makes the hops of the hosts.
func (s *search) lay(hosts []host) *NoRoute {
	for _, h := range hosts {
		s.add(h)
	}
	if limit := cmp.Or(s.MaxAddrs, DefaultMaxAddrs); len(s.route.Hops) > limit {
		s.note(NoteTooMany, dns.Name{}, "%s has %d addresses; the best %d are tried", s.route.Destination, len(s.route.Hops), limit)
		s.route.Hops = s.route.Hops[:limit]
	}
	if len(s.route.Hops) > 0 {
		return nil
	}
	return s.nowhere(hosts)
}

// nowhere says why the hosts, what is left of them, gave no hop.
func (s *search) nowhere(hosts []host) *NoRoute {
	var errs []error
	for _, h := range hosts {
		if h.err != nil {
			errs = append(errs, h.err)
		}
	}
	switch {
	case len(errs) > 0:
		return s.trouble("cannot look up the MX hosts of "+s.route.Destination+" now", errors.Join(errs...))
	case s.cut && len(hosts) == 0:
		return s.loop()
	case s.cut:
		return s.fail(mail.NewReply(451, 4, 4, "no better MX of "+s.route.Destination+" than this host has an address"))
	case len(hosts) > 0 && hosts[0].implicit:
		return s.fail(mail.NewReply(550, 4, 4, "the domain "+s.route.Destination+" has neither an MX nor an address"))
	}
	return s.fail(mail.NewReply(550, 4, 4, "no MX of "+s.route.Destination+" has an address"))
}

// add puts a host's addresses into the route, the families interleaved.
func (s *search) add(h host) {
	addrs := interleave(h.addrs)
	if len(addrs) > maxHostAddrs {
		s.note(NoteTooMany, h.name, "%s has %d addresses; %d are tried", h.name, len(addrs), maxHostAddrs)
		addrs = addrs[:maxHostAddrs]
	}
	name := h.name
	if _, ok := name.Addr(); ok {
		name = dns.Name{}
	}
	for _, a := range addrs {
		if slices.ContainsFunc(s.route.Hops, func(o Hop) bool { return o.Addr == a }) {
			s.note(NoteSameAddress, h.name, "%s has the address %s, which is tried already", h.name, a)
			continue
		}
		s.route.Hops = append(s.route.Hops, Hop{Host: name, Preference: h.preference, Addr: a, Implicit: h.implicit})
	}
}

// interleave takes an address of each family in turn, beginning with that of the first.
func interleave(addrs []netip.Addr) []netip.Addr {
	if len(addrs) == 0 {
		return nil
	}
	var one, other []netip.Addr
	for _, a := range addrs {
		if a.Is4() == addrs[0].Is4() {
			one = append(one, a)
		} else {
			other = append(other, a)
		}
	}
	mixed := make([]netip.Addr, 0, len(addrs))
	for i := range max(len(one), len(other)) {
		if i < len(one) {
			mixed = append(mixed, one[i])
		}
		if i < len(other) {
			mixed = append(mixed, other[i])
		}
	}
	return mixed
}

// selfAddr reports whether the address is this host's.
func (f *Finder) selfAddr(a netip.Addr) bool {
	if slices.ContainsFunc(f.SelfAddrs, func(s netip.Addr) bool { return s.Unmap() == a }) {
		return true
	}
	return a.IsLoopback() && !f.AllowLoopback &&
		slices.ContainsFunc(f.SelfAddrs, func(s netip.Addr) bool { return !s.Unmap().IsLoopback() })
}

// usable: "this network", multicast and broadcast are nobody's (RFC 6890, RFC 5735 §3).
// Dialling 0.0.0.0 or :: would reach ourselves.
func usable(a netip.Addr) bool {
	if a.Is4() {
		b := a.As4()
		return b[0] != 0 && b[0] < 224
	}
	return !a.IsUnspecified() && !a.IsMulticast()
}
