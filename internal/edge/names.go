package edge

import (
	"context"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"mxward/internal/dns"
)

// Limits of finding a client's name. The name is a courtesy to whoever reads the trace:
// mail does not wait long for it, and while the DNS is slow it does not wait at all.
const (
	nameTimeout  = 2 * time.Second
	namePatience = 30 * time.Second // how long nobody waits after a look-up took too long
	maxNames     = 5                // PTR records of one address that are tried
)

// namer finds the names of clients.
type namer struct {
	resolver  dns.Resolver
	log       *events
	slowUntil atomic.Int64 // Unix nanoseconds
}

// lookup is one client's name, on its way.
type lookup struct {
	from *namer
	done chan struct{}
	name dns.Name // once done
}

// start begins to look for a client's name.
func (n *namer) start(ctx context.Context, client netip.Addr) *lookup {
	if n.resolver == nil || client.IsLoopback() || client.IsLinkLocalUnicast() {
		return nil // no name, or none that means anything (RFC 6303 §4.2)
	}
	l := &lookup{from: n, done: make(chan struct{})}
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	go func() {
		defer close(l.done)
		defer cancel()
		defer n.log.survive("find a client's name") // a name is not worth a process
		l.name = confirmedName(ctx, n.resolver, client)
		if ctx.Err() == context.DeadlineExceeded {
			n.slow()
		}
	}()
	return l
}

// wait gives the name, or none if it does not come soon.
func (l *lookup) wait(ctx context.Context) dns.Name {
	if l == nil {
		return dns.Name{}
	}
	select {
	case <-l.done:
		return l.name
	default:
	}
	if time.Now().UnixNano() < l.from.slowUntil.Load() {
		return dns.Name{}
	}
	timer := time.NewTimer(nameTimeout)
	defer timer.Stop()
	select {
	case <-l.done:
		return l.name
	case <-timer.C:
		l.from.slow()
	case <-ctx.Done():
	}
	return dns.Name{}
}

func (n *namer) slow() { n.slowUntil.Store(time.Now().Add(namePatience).UnixNano()) }

// confirmedName gives the first name of an address that leads back to it. Others could be
// anybody's.
func confirmedName(ctx context.Context, r dns.Resolver, client netip.Addr) dns.Name {
	names, err := dns.LookupPTR(ctx, r, client)
	if err != nil {
		return dns.Name{}
	}
	family := dns.TypeAAAA
	if client.Is4() {
		family = dns.TypeA
	}
	for _, candidate := range names.Records[:min(len(names.Records), maxNames)] {
		if !isHostName(candidate) {
			continue
		}
		addrs, err := dns.LookupAddrsOf(ctx, r, candidate, family)
		if err == nil && slices.Contains(addrs.Records, client) {
			return candidate
		}
	}
	return dns.Name{}
}

// isHostName reports a name that may stand in a header as it is: the DNS allows any octet.
func isHostName(n dns.Name) bool {
	s := n.String()
	for i := range len(s) {
		c := s[i]
		if c != '.' && c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != "" && n != dns.Root
}
