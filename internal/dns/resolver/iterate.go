package resolver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// refetchAfter is how old a delegation must be for its failure to be worth a look at
// whether the parent still gives the same.
const refetchAfter = time.Minute

// chase answers a question to the end of its alias chain (RFC 1034 §3.6.2, §5.3.3). The
// ledger is for its name.
func (r *Resolver) chase(ctx context.Context, q dns.Question, led *ledger) (dns.Answer, error) {
	var answer dns.Answer
	seen := map[dns.Name]bool{q.Name: true}
	for {
		pieces, err := r.step(ctx, led)
		if err != nil {
			return dns.Answer{}, spent(of(q, err), led)
		}
		now := time.Now()
		target := led.name
		for _, p := range pieces {
			if target = p.target; addTo(&answer, q.Type, p, now) {
				answer.Packets = led.packets
				return answer, nil
			}
			switch {
			case seen[target]:
				return dns.Answer{}, spent(of(q, led.exhausted(limitAliases, "the aliases lead in a circle, to %s", target)), led)
			case len(seen) > maxRestarts:
				return dns.Answer{}, spent(of(q, led.exhausted(limitAliases, "more than %d aliases", maxRestarts)), led)
			}
			seen[target] = true
		}
		led = led.next(ask{target, q.Type, led.dnssec, led.unchecked})
	}
}

// addTo puts a piece into the answer with the time it has left, and reports whether it is
// the end of the chain: an alias is one only if aliases are asked for (RFC 1034 §3.6.2).
func addTo(answer *dns.Answer, typ dns.Type, p *piece, now time.Time) bool {
	// Rounded up: what was fetched just now keeps the TTL that it came with.
	left := max(0, p.expires.Sub(now)+time.Second-1).Truncate(time.Second)
	left = min(left, p.ttl)
	answer.Authentic = p.secure && (answer.Authentic || len(answer.Answer) == 0)
	if p.extended != 0 {
		answer.Extended = p.extended
	}
	answer.Answer = append(answer.Answer, retime(p.answer, left)...)
	// Every alias that was made from a wildcard has proofs of its own (RFC 4035 §3.1.3.3).
	answer.Authority = append(answer.Authority, retime(p.authority, left)...)
	if !p.target.IsZero() && typ != dns.TypeCNAME {
		return false
	}
	answer.Rcode = p.rcode
	return true
}

// of makes an error speak of the question that the caller asked, and names the one on the
// way to it that failed.
func of(q dns.Question, err error) error {
	var e *dns.Error
	if !errors.As(err, &e) || e.Question == q {
		return err
	}
	about := *e
	about.Question = q
	if e.Question.Name != q.Name || e.Question.Type != q.Type {
		about.Detail = strings.TrimSuffix("at "+e.Question.String()+": "+e.Detail, ": ")
	}
	return &about
}

// spent says in an error what it has cost: nothing, where it was known.
func spent(err error, led *ledger) error {
	var e *dns.Error
	if !errors.As(err, &e) || e.Packets == led.packets {
		return err
	}
	about := *e // the cache has the other
	about.Packets = led.packets
	return &about
}

// step finds what the DNS says about one name and type: from the cache, or from the
// servers. An alias may bring further pieces along.
func (r *Resolver) step(ctx context.Context, led *ledger) ([]*piece, error) {
	now := time.Now()
	if p := r.elsewhere.known(led.ask); p != nil {
		r.traced(Step{Question: led.question(), Depth: led.depth, Said: summary(p), Why: "local data"})
		return []*piece{p}, nil
	}
	if pieces, err := r.own(ctx, led); pieces != nil || err != nil {
		return pieces, err
	}
	if p := r.cache.find(led.ask, now); p != nil && !led.renews {
		r.counts.hits.Add(1)
		r.traced(Step{Question: led.question(), Depth: led.depth, Said: summary(p), Why: "cache"})
		return []*piece{p}, nil
	}
	if led.circular() {
		return nil, errCircular
	}
	if err := r.cache.failed(led.ask, now); err != nil {
		r.traced(Step{Question: led.question(), Depth: led.depth, Said: err.Trouble.String(), Why: "cache"})
		return nil, err
	}
	if p := r.denied(led, now); p != nil {
		r.counts.denied.Add(1)
		r.traced(Step{Question: led.question(), Depth: led.depth, Said: summary(p), Why: "known denials"})
		return []*piece{p}, nil
	}
	pieces, err := r.iterate(ctx, led)
	r.remember(ctx, led, err)
	return pieces, err
}

// errCircular marks a failure that only this order of questions had.
var errCircular = errors.New("the name servers' names need each other")

// remember keeps a failure if it is the upstream's and true for whoever asks next
// (RFC 9520 §2): not our network, not an asker who went away, not the little that was left
// of another question's time and work.
func (r *Resolver) remember(ctx context.Context, led *ledger, err error) {
	if err == nil {
		r.cache.drop(failureKey(led.ask))
		return
	}
	var e *dns.Error
	if !errors.As(err, &e) || e.Trouble == dns.NoNetwork || ctx.Err() == context.Canceled {
		return
	}
	if led.depth > 0 && (e.Trouble == dns.WorkLimit || ctx.Err() != nil || errors.Is(err, errCircular)) {
		return
	}
	if led.depth == 0 && e.Trouble == dns.WorkLimit && led.packets == 0 {
		return // nothing was asked of anybody
	}
	r.cache.keepFailure(led.ask, e, time.Now())
}

// iterate walks down from the closest zone whose servers are known (RFC 1034 §5.3.3).
func (r *Resolver) iterate(ctx context.Context, led *ledger) ([]*piece, error) {
	if _, f := r.elsewhere.find(led.ask); f != nil {
		return r.forward(ctx, led, f)
	}
	cut := r.closest(led.ask)
	why := "known servers of " + cut.zone.String()
	var failed *serversFailed // with a delegation that was old
	var short minimiser
	var bogus error // what one server said
	doubted := false
	for referrals := 0; referrals < maxReferrals; {
		if failed != nil && cut.same(failed.cut) {
			return nil, failed.err // the parent says what we knew
		}
		found, asked, err := r.askZone(ctx, led, r.show(led.ask, cut, &short), cut, why)
		if err != nil {
			if failed == nil && r.stale(ctx, cut, err) {
				failed, short = &serversFailed{cut, err}, minimiser{}
				r.cache.drop(delegationKey(cut.zone))
				cut, why = r.closest(led.ask), "the servers known of "+cut.zone.String()+" fail: are they still its servers?"
				continue
			}
			return nil, err
		}
		if found.referral == nil && asked != led.ask {
			short.learn(r, asked)
			continue
		}
		if found.referral == nil {
			pieces, err := r.vetted(ctx, led, cut.zone, found.pieces)
			switch {
			case err != nil && bogus == nil && r.anotherTry(led, cut, found.from, err):
				bogus, why = err, "what "+found.from.String()+" says is bogus"
				continue
			case err != nil && !doubted && r.doubt(led, cut, err):
				doubted, bogus, short = true, nil, minimiser{}
				cut, why = r.closest(led.ask), "what the servers known of "+cut.zone.String()+" say is bogus: are they still its servers?"
				continue
			case err != nil && bogus != nil:
				return nil, bogus
			case err != nil:
				return nil, err
			}
			pieces = r.withoutPrivate(led.ask, r.theirs(pieces))
			now, lease := time.Now(), r.lease(cut)
			for _, p := range pieces {
				r.cache.keep(p, lease, now)
			}
			return pieces, nil
		}
		why = cut.zone.String() + " refers to " + found.referral.zone.String()
		cut = r.descend(cut, found.referral)
		referrals++
		short.full = asked == led.ask && short.asked > 0 // parts of the name were of no use
	}
	return nil, led.exhausted(limitReferrals, "more than %d referrals", maxReferrals)
}

// serversFailed is the failure of a zone whose delegation may have changed meanwhile.
type serversFailed struct {
	cut *delegation
	err error
}

// stale reports whether a failure may come from a delegation that is no longer true.
func (r *Resolver) stale(ctx context.Context, cut *delegation, err error) bool {
	return ctx.Err() == nil && cut.zone != dns.Root && time.Since(cut.since) >= refetchAfter &&
		!dns.TroubleOf(err).Ours() && dns.TroubleOf(err) != 0
}

// closest gives the deepest known delegation above the name, those of stub zones among
// them.
func (r *Resolver) closest(a ask) *delegation {
	d := r.cache.deepest(above(a), time.Now())
	if s, _ := r.elsewhere.find(a); s != nil && (d == nil || s.zone.In(d.zone)) {
		return s
	}
	if d != nil {
		return d
	}
	return r.root()
}

// descend takes a referral from the servers of cut. Its lease is absolute and ends with
// those above it: a zone that the parent has taken back cannot prolong its own life.
func (r *Resolver) descend(cut, child *delegation) *delegation {
	now := time.Now()
	child.since, child.above = now, cut.zone
	child.lease = now.Add(child.signedFor())
	if lease := r.lease(cut); !lease.IsZero() && lease.Before(child.lease) {
		child.lease = lease
	}
	if child.lease.After(now) {
		r.cache.keepDelegation(child)
	}
	return child
}

// askZone asks the servers of a zone, one after the other, until one says something, for a:
// what the ledger is about, or a part of that name. It tells what was asked in the end.
func (r *Resolver) askZone(ctx context.Context, led *ledger, a ask, cut *delegation, why string) (finding, ask, error) {
	crew := r.muster(led, cut)
	for {
		server, ok := crew.next(ctx)
		if !ok || ctx.Err() != nil {
			return finding{}, a, crew.failure(ctx)
		}
		if !server.heard && (r.slots.crowded() || r.servers.busy(server.server, cut.zone)) {
			server = crew.heardInstead(server)
		}
		how := r.servers.manners(server.server)
		if server.rounds > 0 || !how.parts {
			a = led.ask // silent, perhaps since it drops what it does not like
		}
		if err := r.stepAside(ctx, led, server); err != nil {
			return finding{}, a, err
		}
		found, asked, err := r.askInTurn(ctx, led, a, cut.zone, server, how, why)
		a = asked
		var fault *serverError
		switch {
		case err == nil:
			return found, a, nil
		case errors.As(err, &fault):
			crew.failed(ctx, server, fault)
		case ctx.Err() != nil:
			return finding{}, a, crew.failure(ctx)
		case led.stepSpent() && crew.faults.sum() > 0:
			return finding{}, a, crew.failure(ctx) // enough were asked to know
		default:
			return finding{}, a, err // the end of the ledger
		}
	}
}

// askServer asks one server: over UDP with EDNS, without EDNS where that is not
// understood, over TCP where the reply does not fit or where somebody seems to guess.
func (r *Resolver) askServer(ctx context.Context, led *ledger, a ask, zone dns.Name, c candidate, m manners, why string) (finding, error) {
	a = r.upstream(a)
	p := packet{
		server: c.server, proto: "udp", ask: a, edns: m.edns, mixed: m.mixed, cookies: c.rounds == 0, wary: true,
	}
	p.unchecked = false // who validates what is nothing to those who answer: one question in flight for all
	var seen ways
	for {
		rep, err := r.sendCharged(ctx, led, p)
		var found finding
		next, then := seen.next(p, rep, err)
		switch {
		case then != "":
			err = &serverError{fault: faultFailed, said: then, heard: true}
		case err == nil && rep.msg.Truncated:
			err = &serverError{fault: faultMalformed, said: "truncated, and it takes no TCP", heard: true}
		case err == nil:
			found, err = scrub(a, zone, rep.msg)
			found.from = c.server
		}
		if r.Trace != nil {
			r.Trace(Step{
				Question: a.question(), Depth: led.depth, Zone: zone, Server: c.server, ServerName: c.name,
				Protocol: p.proto, Said: outcome(found, err), Took: rep.took, Why: why,
			})
		}
		if then == "" {
			if err == nil && seen.near == errCase && !p.mixed {
				r.servers.flattens(c.server)
			}
			if err == nil && seen.near == errCookie && !p.cookies {
				r.servers.baked(c.server, "") // it has none any more
			}
			// Only one that does better without: to ask without EDNS is to get no signatures.
			if err == nil && m.edns && !p.edns {
				r.servers.refusesEDNS(c.server)
			}
			r.judge(led, zone, c, p, rep, err)
			return found, err
		}
		if seen.near != nil && next.proto != p.proto {
			led.tried(dns.Attempt{Server: c.server, Name: c.name.String(), Protocol: p.proto, Said: then, Took: rep.took})
		}
		if next.proto == "tcp" && p.proto != "tcp" {
			r.counts.tcp.Add(1)
		}
		p = next
	}
}

// ways is what has been tried with one server for one question.
type ways struct {
	near      error // the near miss over UDP
	badCookie bool  // it did not like our cookie
	tcp       bool
}

// next gives the next way to ask after a reply, or an error, that is not the end, and what
// to say about it. Without a next way, the words are empty.
func (w *ways) next(p packet, rep reply, err error) (next packet, then string) {
	next = p
	var se *serverError
	near := errors.As(err, &se) && se.near != nil
	switch {
	case near: // RFC 5452 §9.2: too many guesses, another way
		w.near, w.tcp, next.proto = se.near, true, "tcp"
		return next, se.said + ": " + se.near.Error() + ", over TCP then"
	case err != nil && w.near != nil && p.proto == "tcp" && se != nil && se.fault == faultSilent:
		// It takes no TCP. A new port and ID are as good as the first ones were.
		next.proto, next.wary = "udp", false
		next.mixed, next.cookies = p.mixed && w.near != errCase, p.cookies && w.near != errCookie
		return next, se.said + ", over UDP once more then"
	case err != nil:
		return p, ""
	case p.edns && deniesEDNS(rep.msg): // RFC 6891 §7
		next.edns = false
		return next, said(rep.msg) + ", without EDNS then"
	case rep.msg.Truncated && !w.tcp: // RFC 7766 §5
		w.tcp, next.proto = true, "tcp"
		return next, "truncated, over TCP then"
	case rep.msg.Rcode == wire.RcodeBadCookie && p.cookies && p.edns && !w.badCookie: // RFC 7873 §5.3
		w.badCookie = true
		return next, "BADCOOKIE, with its new cookie then"
	case rep.msg.Rcode == wire.RcodeBadCookie && !w.tcp:
		w.tcp, next.proto = true, "tcp"
		return next, "BADCOOKIE again, over TCP then"
	}
	return p, ""
}

// sendCharged pays for a packet and sends it.
func (r *Resolver) sendCharged(ctx context.Context, led *ledger, p packet) (reply, error) {
	if err := led.charge(); err != nil {
		return reply{}, err
	}
	began := time.Now()
	rep, err := r.send(ctx, p)
	if rep.took == 0 {
		rep.took = time.Since(began)
	}
	if err != nil && ctx.Err() == context.DeadlineExceeded && rep.took < minPacketTimeout {
		return rep, led.exhausted(limitTime, "no time was left to wait for a reply") // nobody's silence
	}
	if err != nil && ctx.Err() == context.DeadlineExceeded {
		err = &serverError{fault: faultSilent, said: "no reply before the time was up", err: ctx.Err()}
	}
	led.bytes += rep.size
	if rep.msg != nil {
		r.servers.answered(p.server, rep.took)
		r.counts.replied(rep.took)
	}
	return rep, err
}

// deniesEDNS reports whether a server says that it cannot read our OPT record: FORMERR and
// NOTIMP from those that do not know it, BADVERS from those that know another. Whose FORMERR
// or NOTIMP has an OPT record itself means something else.
func deniesEDNS(m *wire.Msg) bool {
	unread := m.Rcode == wire.RcodeFormatError || m.Rcode == wire.RcodeNotImplemented
	return m.Rcode == wire.RcodeBadVers || unread && m.IsEdns0() == nil
}

// judge remembers how the server did, for the next question and for the error.
func (r *Resolver) judge(led *ledger, zone dns.Name, c candidate, p packet, rep reply, err error) {
	if err == nil {
		if !p.recurse && !r.stubbed(led.ask) { // those may be on this host
			r.servers.lives()
		}
		return
	}
	var se *serverError
	if !errors.As(err, &se) || p.name != led.name && odd(finding{}, err) {
		return // for the whole name it may do better
	}
	led.tried(dns.Attempt{Server: c.server, Name: c.name.String(), Protocol: p.protocol(), Said: se.said, Took: rep.took})
	if se.limit != limitNone {
		r.counts.limits[se.limit].Add(1)
	}
	switch se.fault {
	case faultLocal:
		if isUnroutable(se.err) {
			r.servers.noRoute(c.server)
		}
	case faultSilent, faultMalformed:
		if se.err != context.DeadlineExceeded { // else it had less time than it may take
			r.servers.silent(c.server, zone)
		}
	case faultFailed, faultLame:
		r.servers.lame(c.server, zone)
	}
}

// outcome says in a few words what came of asking a server.
func outcome(f finding, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case f.referral != nil:
		return "refers to " + f.referral.zone.String()
	}
	return summary(f.pieces[len(f.pieces)-1])
}

// summary says in a few words what a piece is.
func summary(p *piece) string {
	switch {
	case !p.target.IsZero():
		return "alias of " + p.target.String()
	case p.rcode != dns.NoError:
		return p.rcode.String()
	case len(p.answer) == 0:
		return "no such records"
	case len(p.answer) == 1:
		return "1 record"
	}
	return fmt.Sprintf("%d records", len(p.answer))
}
