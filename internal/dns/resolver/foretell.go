package resolver

import (
	"context"
	"net/netip"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// lineUp lets a question wait, before it costs anything, where all servers of its zone are busy
// with others that they do not answer. If it then finds them all silent, while others are
// heard, that is its answer; what is remembered of it are the servers' silences.
func (r *Resolver) lineUp(ctx context.Context, q dns.Question) error {
	began, timer := time.Now(), time.NewTimer(maxRounds*newsTimeout)
	defer timer.Stop()
	for {
		_, next, err := r.foretell(q, began)
		if next == nil {
			return err
		}
		select {
		case <-next.came:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Foretell implements dns.Foreteller.
func (r *Resolver) Foretell(q dns.WireQuestion, came time.Time) (dns.Outlook, error) {
	r.once.Do(r.start)
	if len(q.Name) > maxNameOctets {
		return dns.OutlookGood, nil
	}
	name, _, err := wire.UnpackDomainName(q.Name, 0)
	if err != nil {
		return dns.OutlookGood, nil // Resolve says what is wrong with it
	}
	asked := dns.Question{Name: dns.NameOf(name), Type: q.Type, DNSSEC: q.DNSSEC, CheckingDisabled: q.CheckingDisabled}
	outlook, _, err := r.foretell(asked, came)
	if outlook == dns.OutlookBad && r.answersItself(asked) {
		return dns.OutlookGood, nil
	}
	return outlook, err
}

// answersItself reports whether there is something to say without the zone's servers: this
// host's own data, or what the cache has, be it stale or a failure.
func (r *Resolver) answersItself(q dns.Question) bool {
	a, now := r.asks(q, false), time.Now()
	if _, special := local(q); special || r.elsewhere.known(a) != nil {
		return true
	}
	if _, own := r.ownZone(a); own != nil {
		return true
	}
	if r.cache.find(a, now) != nil || r.cache.failed(a, now) != nil {
		return true
	}
	_, stale := r.staleAnswer(q)
	return stale
}

// foretell gives the outlook of a question, and if that is bad the news to wait for. The zones
// at the top are taken to know where to ask, and no more: nearly everything is further down.
func (r *Resolver) foretell(q dns.Question, came time.Time) (outlook dns.Outlook, next *news, err error) {
	a := r.asks(q, false)
	if _, f := r.elsewhere.find(a); f != nil || a.name.IsZero() {
		return dns.OutlookGood, nil, nil
	}
	cut := r.closest(a)
	servers, all := r.known(cut)
	next, heard, silent := r.servers.busyAll(servers, cut.zone, came)
	switch {
	case heard && cut.zone.CountLabels() > 1:
		return dns.OutlookGood, nil, nil
	case heard:
		return dns.OutlookFair, nil, nil
	case next == nil, silent && !all:
		return dns.OutlookUnsure, nil, nil
	case !silent || !r.servers.livedSince(came):
		return dns.OutlookBad, next, nil
	}
	e := &dns.Error{Question: q, Trouble: dns.NoReply, Detail: cut.servers()}
	for _, server := range servers {
		e.Attempts = append(e.Attempts, dns.Attempt{Server: server, Protocol: "udp", Said: saidToOthers, Took: time.Since(came)})
	}
	return dns.OutlookBad, nil, e
}

// known gives the addresses of a zone's servers, as many as are known, and whether these are
// all: one without an address may still be looked up, and an old delegation may have changed.
func (r *Resolver) known(cut *delegation) (servers []netip.AddrPort, all bool) {
	if len(cut.fixed) > 0 {
		return cut.fixed, true
	}
	all = cut.zone == dns.Root || time.Since(cut.since) < refetchAfter
	for _, addrs := range r.roll(cut) {
		if len(addrs) == 0 {
			all = false
		}
		for _, a := range addrs {
			switch {
			case !r.usable(a, cut.zone == dns.Root):
			case len(servers) < maxNSNames:
				servers = append(servers, netip.AddrPortFrom(a, dnsPort))
			default:
				all = false
			}
		}
	}
	return servers, all
}
