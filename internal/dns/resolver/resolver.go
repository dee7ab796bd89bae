// Package resolver is an iterative, validating, caching DNS resolver: it walks from the
// root servers to the answer by itself and asks no other resolver (RFC 1034 §5.3.3,
// RFC 1035 §7, RFC 2181, RFC 2308, RFC 4035, RFC 9471), with QNAME minimisation (RFC 9156)
// and DNS cookies (RFC 7873, RFC 9018).
//
// Three things decide its shape. Nothing is believed but what a server may say: a record
// counts only inside the zone that its server was asked for, glue serves only to reach
// the servers of the delegation it came with, and the target of an alias is asked anew
// unless it lies in the same zone (scrub.go). Every question has a ledger that all its
// sub-questions share, so that no zone can make us work without end (ledger.go). And an
// error says whose trouble it is: a network that cannot be reached is never held against
// a server, and a server that is silent is never taken for a broken network (roster.go).
//
// One question goes resolver.go (in flight? special name?) → iterate.go (cache, alias
// chain, referrals) → roster.go (which server next) → exchange.go (one question to one
// server) → message.go (bytes) → scrub.go (what may be believed) → validate.go → cache.go.
//
// Between scrub and the cache stands validate.go: with a trust anchor, nothing is kept
// that was not judged by DNSSEC (RFC 4035; RFC 5011 for the anchors, RFC 7646 against
// them), and Authentic is set for what a chain of trust vouches for.
//
// Not implemented: priming (RFC 9609), answers from wildcards for other names (RFC 8198 §5.3).
package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
)

// Resolver resolves names from the root down. The zero value works; set the fields before
// the first question and leave them. It is safe for use by several goroutines.
type Resolver struct {
	// Hints are the root servers; nil stands for RootHints.
	Hints []Hint
	// Dial opens a connection for "udp" or "tcp" to an address such as "192.0.2.53:53";
	// nil stands for a net.Dialer, and sockets of our own for UDP. Each UDP question dials
	// anew, or has a socket connect anew: the kernel then picks a random port and only lets
	// through what comes from the server (RFC 5452 §4.5, §9.1).
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Logger takes events worth an operator's eye; nil drops them.
	Logger *slog.Logger
	// Trace, if set, is told of every step, from several goroutines if several questions
	// run.
	Trace func(Step)

	// Stubs and Forwards are the zones that are not found from the root; the longest zone
	// counts. Local is what this host itself says, before anybody is asked.
	Stubs    []Stub
	Forwards []Forward
	Local    []Data
	// Own are the zones that this host serves. Where an alias in the world leads into one of
	// them, the zone itself answers, also while the network is down. Nothing of it is kept.
	Own map[dns.Name]dns.Resolver

	// AllowLoopback lets delegations lead to 127.0.0.0/8 and ::1, where otherwise nobody
	// but this host itself could be. Root hints may always lie there.
	AllowLoopback bool
	// NoMinimisation shows every server on the way the full name (RFC 9156 otherwise).
	NoMinimisation bool
	// RebindProtection takes private addresses out of answers, and name servers there out of
	// delegations, except for PrivateZones, stub zones and root servers: a name of a
	// stranger's must not lead into this network.
	RebindProtection bool
	PrivateZones     []dns.Name
	// NoAggressive asks for each name, also where a validated NSEC or NSEC3 record denies it
	// (RFC 8198 otherwise).
	NoAggressive bool
	// KeepReferrals keeps a referral that Ask was given by a known server of the zone above, for
	// whoever asks Ask and Resolve for many domains. Ask is easier to fool than Resolve: it does
	// without random case and cookies, and goes on waiting after a datagram that is nearly the
	// reply, so that port and ID are all that has to be guessed.
	KeepReferrals bool
	// NoIPv4 and NoIPv6 leave out the servers of one family. Without them, a family
	// without a route is noticed and put last for a while.
	NoIPv4, NoIPv6 bool

	// TrustAnchors are the keys that DNSSEC validation begins with. Nil stands for those of
	// the Internet's root, but only where Hints are its too and no other resolver is asked
	// for everything. Without any, every answer is insecure.
	TrustAnchors []dnssec.Anchor
	// NoValidation believes everything, and calls nothing authentic.
	NoValidation bool
	// NegativeTrustAnchors are zones that are believed though their signatures are broken
	// (RFC 7646). Stub zones, and forward zones but for the root, are such too, unless a
	// trust anchor is in them.
	NegativeTrustAnchors []dns.Name
	// AnchorState, if set, keeps what RFC 5011 finds out about the anchors' keys.
	AnchorState AnchorState

	// Limits; 0 stands for the default in brackets.
	Timeout time.Duration // for one question with all it takes [7 s]
	// MaxInFlight is how many different questions run at once, and how many more may wait for
	// servers that have not been heard; others wait for their turn [1000].
	MaxInFlight  int
	MaxWaiters   int // for the answer to one question [100]
	CacheEntries int // [1,000,000]
	CacheBytes   int // [64 MiB]

	// StaleFor is how long after its end an answer still serves where no new one can be
	// had (RFC 8767) [24 h]; negative: not at all. Those of stub zones and of the zones in
	// NoStale never do: an address that a block list has dropped is no longer listed.
	StaleFor time.Duration
	NoStale  []dns.Name

	once      sync.Once
	elsewhere elsewhere
	trust     trust
	rolling   *rolling
	cache     cache
	spans     spans
	servers   servers
	uncut     uncut
	questions flights[dns.Question, dns.Answer]
	packets   flights[packet, reply]
	datagrams sync.Pool // of *datagrams
	slots     slots

	ownSockets bool // Dial is our own
	sockets    udpSockets
	renewals   chan struct{}
	counts     counters
}

// Limits of one question. The column "take" of the survey behind them, where numbers of
// other resolvers differ: Unbound, BIND, PowerDNS and Knot Resolver, 2026.
const (
	defaultTimeout     = 7 * time.Second
	defaultMaxInFlight = 1000
	packetTimeout      = 1500 * time.Millisecond // over UDP
	minPacketTimeout   = 400 * time.Millisecond  // from a server with a record
	tcpTimeout         = 3 * time.Second         // dial, question and reply together
)

// stackSize is about what a question takes of a stack.
const stackSize = 12 << 10

// Step is one question to one server, as Trace sees it. A step without a server was
// answered by the cache.
type Step struct {
	Question   dns.Question // what was asked: the client's question or one that it needs
	Depth      int          // 0 for the client's question, 1 for the address of a name server, …
	Zone       dns.Name     // the zone that the server was asked for
	Server     netip.AddrPort
	ServerName dns.Name // zero where not known
	Protocol   string   // "udp" or "tcp"; empty for the cache
	Said       string   // what came of it
	Took       time.Duration
	Why        string // why this zone's servers were asked
}

// Resolve implements dns.Resolver. Identical questions that are asked at the same time
// become one, which goes on for as long as anybody waits for it.
func (r *Resolver) Resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	r.once.Do(r.start)
	answer, err := r.resolve(ctx, q)
	r.counts.done(q.Type, answer.Rcode, err)
	return answer, err
}

func (r *Resolver) resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	if answer, ok := local(q); ok {
		return answer, nil
	}
	if r.elsewhere.known(r.asks(q, false)) != nil {
		return r.chase(ctx, q, r.open(r.asks(q, false), nil))
	}
	if answer, ok := r.fromCache(q); ok {
		return answer, nil
	}
	answer, err := r.fresh(ctx, q)
	if err == nil {
		return answer, nil
	}
	if errors.Is(err, errCrowded) {
		r.counts.limits[limitWaiters].Add(1)
		return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.WorkLimit, Err: err}
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return dns.Answer{}, fmt.Errorf("resolve %s: %w", q, err)
	}
	return dns.Answer{}, err
}

// Flush forgets everything about name and the names below it: answers, failures,
// delegations, and the servers that were found dead or lame there. Flush(dns.Root)
// forgets all.
func (r *Resolver) Flush(name dns.Name) {
	r.once.Do(r.start)
	r.cache.flush(name)
	r.servers.flush(name)
	r.uncut.flush(name)
	r.spans.flush(name)
}

// start makes what the zero value lacks.
func (r *Resolver) start() {
	builtIn := r.Hints == nil
	if builtIn {
		r.Hints = RootHints()
	}
	if r.Logger == nil {
		r.Logger = slog.New(slog.DiscardHandler)
	}
	if r.Dial == nil {
		r.Dial, r.ownSockets = new(net.Dialer).DialContext, true
	}
	inFlight := r.MaxInFlight
	if inFlight <= 0 {
		inFlight = defaultMaxInFlight
	}
	r.datagrams.New = func() any { return new(datagrams) }
	r.questions.most = maxWaiters
	if r.MaxWaiters > 0 {
		r.questions.most = r.MaxWaiters
	}
	r.slots.most = inFlight
	r.elsewhere = r.makeElsewhere()
	r.trust = r.makeTrust(builtIn)
	r.rolling = r.loadAnchors()
	r.renewals = make(chan struct{}, maxRenewals)
	r.cache.limit(r.CacheEntries, r.spans.limit(r.CacheBytes, r.NoAggressive || !r.validating()))
	r.cache.barred = func(a ask) bool { // an alias may lead there
		_, special := local(a.question())
		_, own := r.ownZone(a)
		return special || r.elsewhere.known(a) != nil || own != nil
	}
}

func (r *Resolver) timeout() time.Duration {
	if r.Timeout > 0 {
		return r.Timeout
	}
	return defaultTimeout
}

// answer does the work of one question, for everybody who waits for it. End ends ctx.
func (r *Resolver) answer(ctx context.Context, end context.CancelFunc, q dns.Question) (answer dns.Answer, err error) {
	defer r.recovered(q, &err)
	if r.slots.crowd() {
		if err := r.lineUp(ctx, q); err != nil {
			return dns.Answer{}, err
		}
	}
	place := slot{end: end}
	if !r.slots.enter(ctx, &place) {
		if ctx.Err() == context.DeadlineExceeded || r.slots.jostled(&place) {
			return dns.Answer{}, r.tooMany(q, errNoRoom)
		}
		return dns.Answer{}, ctx.Err()
	}
	defer r.slots.leave(&place)
	growStack()
	led := r.open(r.asks(q, false), nil)
	led.place = &place
	answer, err = r.chase(ctx, q, led)
	if err != nil && r.slots.jostled(&place) {
		return dns.Answer{}, r.tooMany(q, errJostled)
	}
	if err != nil {
		r.logFailure(q, err)
	}
	return answer, err
}

// tooMany makes the error of a question for which there was no room, and counts it.
func (r *Resolver) tooMany(q dns.Question, err error) error {
	r.counts.limits[limitInFlight].Add(1)
	return &dns.Error{Question: q, Trouble: dns.WorkLimit, Detail: "too many questions at once", Err: err}
}

// growStack makes the goroutine's stack as large as a question needs, in one step while it
// is almost empty: to grow it bit by bit, deep in the work, is to copy and mend all of it
// each time, which was a fifteenth of the whole cost of a name.
//
//go:noinline
func growStack() {
	var room [stackSize]byte
	runtime.KeepAlive(&room)
}

// recovered stands at the border of each question: a fault of ours costs one answer, not
// the process.
func (r *Resolver) recovered(q dns.Question, err *error) {
	if p := recover(); p != nil {
		r.counts.panics.Add(1)
		r.logPanic(q, p)
		*err = &dns.Error{Question: q, Trouble: dns.WorkLimit, Detail: "an internal fault; see the log"}
	}
}

func (r *Resolver) traced(s Step) {
	if r.Trace != nil {
		r.Trace(s)
	}
}
