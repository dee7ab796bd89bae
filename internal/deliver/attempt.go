package deliver

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
)

// canaryWait is how long a message that has nowhere else to go waits for another that
// knocks at the same dead address: long enough for a host that is back to answer.
const canaryWait = 5 * time.Second

// attempt is one try to deliver one message.
type attempt struct {
	*Deliverer
	env      mail.Envelope
	open     func() io.ReadCloser
	began    time.Time
	outcomes []mail.Outcome // by recipient; without Status where nothing is known yet
	pending  []int          // the recipients to try further
	stale    bool           // the DNS could not be asked for the route; see Route
}

func newAttempt(d *Deliverer, env mail.Envelope, open func() io.ReadCloser) *attempt {
	a := &attempt{Deliverer: d, env: env, open: open, began: time.Now(), outcomes: make([]mail.Outcome, len(env.Recipients))}
	for i := range env.Recipients {
		a.pending = append(a.pending, i)
	}
	return a
}

// finish gives the outcomes; who is still unknown was not reached.
func (a *attempt) finish() []mail.Outcome {
	for i := range a.outcomes {
		if a.outcomes[i].Status == "" {
			a.outcomes[i] = mail.Outcome{
				Status: mail.Deferred,
				Stage:  mail.StageConnect,
				Reply:  mail.NewReply(451, 4, 1, "the attempt ended before a host was reached"),
				When:   time.Now(),
			}
		}
		a.outcomes[i].Recipient = a.env.Recipients[i].Address
		a.logOutcome(a.env.From, a.outcomes[i], time.Since(a.began))
	}
	return a.outcomes
}

// deferAll notes an outcome of all pending recipients that settles nothing.
func (a *attempt) deferAll(o mail.Outcome) {
	o.Status = mail.Deferred
	for _, i := range a.pending {
		a.note(i, o)
	}
}

// note keeps the outcome that tells more: of the furthest stage, and of the last there.
func (a *attempt) note(i int, o mail.Outcome) {
	if o.When.IsZero() {
		o.When = time.Now()
	}
	if old := a.outcomes[i]; old.Status == "" || depth(o.Stage) >= depth(old.Stage) {
		a.outcomes[i] = o
	}
}

// settle keeps an outcome that this attempt does not change any more.
func (a *attempt) settle(i int, o mail.Outcome) {
	a.outcomes[i] = o
	a.pending = slices.DeleteFunc(a.pending, func(p int) bool { return p == i })
}

// depth orders the stages.
func depth(s mail.Stage) int {
	return slices.Index([]mail.Stage{
		mail.StageRoute, mail.StageConnect, mail.StageGreeting, mail.StageHello, mail.StageStartTLS,
		mail.StageMail, mail.StageRcpt, mail.StageData, mail.StageDot, mail.StageQuit, mail.StageDeliver,
	}, s)
}

func (a *attempt) toTarget(ctx context.Context, t Target) {
	if t.Scheme != ToMaildir {
		a.walk(ctx, []place{t.place()})
		return
	}
	box := maildir{root: t.Path, hostname: a.Hello}
	for _, i := range slices.Clone(a.pending) {
		o := box.deliver(ctx, a.env.From, a.env.Recipients[i].Address, a.open)
		o.Host = string(ToMaildir) + ":" + t.Path
		a.settle(i, o)
	}
}

func (a *attempt) byMX(ctx context.Context, to mail.Address) {
	finder, count := *a.Finder, &dns.Counter{Resolver: a.Finder.Resolver}
	finder.Resolver = count
	route, err := finder.Find(ctx, to)
	a.logLookups(to, count.Lookups())
	if err != nil {
		a.noRoute(err)
		return
	}
	if a.stale = route.Stale; a.stale {
		a.logStaleRoute(to)
	}
	places := make([]place, 0, len(route.Hops))
	for _, h := range route.Hops {
		places = append(places, a.placeOf(h))
	}
	a.walk(ctx, places)
}

func (a *attempt) noRoute(err error) {
	a.logNoRoute(a.env.Recipients[0].Address, err)
	o := mail.Outcome{Stage: mail.StageRoute, When: time.Now(), Reply: mail.NewReply(451, 4, 3, err.Error())}
	var none *NoRoute
	if errors.As(err, &none) {
		o.Reply = none.Reply
		if t := dns.TroubleOf(none.Err); t != 0 {
			o.Reply.Text += ": " + t.String()
		}
	}
	o.Status = o.Reply.Status()
	for _, i := range slices.Clone(a.pending) {
		a.settle(i, o)
	}
}

// walk goes from place to place until no recipient is pending. Places that are known to be
// dead are passed over. Those that another message is knocking at just then get a second
// look at the end: if that one was let in, so are we.
func (a *attempt) walk(ctx context.Context, places []place) {
	var passed []place
	tries := 0
	for _, p := range places {
		if len(a.pending) == 0 || ctx.Err() != nil || tries == maxTries || time.Since(a.began) >= patience {
			break
		}
		if a.visit(ctx, p) {
			tries++
		} else {
			passed = append(passed, p)
		}
	}
	wait, cancel := context.WithTimeout(ctx, canaryWait)
	defer cancel()
	for _, p := range passed {
		if len(a.pending) > 0 && tries < maxTries && a.memory.await(wait, p.address) && a.visit(ctx, p) {
			tries++
		}
	}
}

// visit tries the pending recipients at one place. It reports false if the place was
// passed over as dead.
func (a *attempt) visit(ctx context.Context, p place) bool {
	more := true
	if l := a.pool.take(p); l != nil {
		more = a.talk(ctx, l)
	}
	// More connections than one where a host takes some of many recipients and then ends
	// the session; each of them decides for somebody.
	for more && ctx.Err() == nil {
		l, knocked := a.reach(ctx, p)
		if l == nil {
			return knocked
		}
		more = a.talk(ctx, l)
	}
	return true
}

// reach makes a new connection, unless the place is known to be dead. Without one, it
// reports whether it tried.
func (a *attempt) reach(ctx context.Context, p place) (l *link, knocked bool) {
	leave, said := a.memory.enter(p.address)
	if leave == nil {
		a.logPassed(p, said)
		a.deferAll(said)
		return nil, false
	}
	defer leave.unknown()
	l, failed := a.connect(ctx, p)
	if l != nil {
		leave.alive()
		a.pool.add(l)
		return l, true
	}
	// The end of our own patience says nothing of the host; and one that has other
	// connections of ours open and wants no more is busy, not dead.
	if ctx.Err() == nil && (failed.Stage == mail.StageConnect || !a.pool.has(p.address)) {
		leave.dead(failed)
	}
	a.deferAll(failed)
	return nil, true
}

// talk sends the message to the pending recipients over one link. more: another link to
// the same place is worth its while, since this one, kept from an earlier message, was
// dead, or since it ended after some recipients and before others.
func (a *attempt) talk(ctx context.Context, l *link) (more bool) {
	back := a.pool.discard // what a panic leaves is not to be used again
	defer func() { back(l) }()
	todo, decided, kept := slices.Clone(a.pending), false, l.sent > 0
	var last mail.Outcome
	for len(todo) > 0 && l.client.Usable() {
		batch := todo[:min(len(todo), maxPerTransaction)]
		outcomes, unread := a.send(ctx, l, batch)
		last = outcomes[len(outcomes)-1]
		l.sent++
		if l.sent > 1 && died(outcomes) {
			break
		}
		kept = false
		todo = todo[len(batch):]
		if again, progress := a.record(batch, outcomes, unread); progress {
			decided = true
			todo = append(again, todo...)
		}
	}
	back = a.pool.put
	switch {
	case len(todo) == 0:
		return false
	case kept:
		a.logStale(l.at)
		return true
	case decided:
		return true
	}
	for _, i := range todo {
		a.note(i, last)
	}
	return false
}

// send makes one transaction. unread is why the message itself could not be read.
func (a *attempt) send(ctx context.Context, l *link, batch []int) (outcomes []mail.Outcome, unread error) {
	env := a.env
	env.Recipients = make([]mail.Recipient, 0, len(batch))
	for _, i := range batch {
		env.Recipients = append(env.Recipients, a.env.Recipients[i])
	}
	body := &source{open: a.open}
	defer body.close()
	outcomes = l.client.Send(ctx, env, body)
	for i := range outcomes {
		outcomes[i].Host = l.at.String()
		if l.plain && wantsTLS(outcomes[i]) {
			outcomes[i].Status = mail.Deferred // it was TLS that failed, and it may work later
		}
		if a.stale && outcomes[i].Status == mail.Failed {
			outcomes[i].Status = mail.Deferred // the destination's MX may be another by now
		}
	}
	return outcomes, body.err
}

// wantsTLS tells that a host takes nothing in plain text: 530 by RFC 3207 §4, and 5.7.10
// of the registry that RFC 5248 began.
func wantsTLS(o mail.Outcome) bool {
	return o.Remote && o.Status == mail.Failed &&
		(o.Reply.Code == 530 || o.Reply.Enhanced == mail.EnhancedCode{Class: 5, Subject: 7, Detail: 10})
}

// died reports whether a link turned out to be dead before anything was accepted: it gave
// no reply to MAIL, or the 421 of a host that had tired of waiting.
func died(outcomes []mail.Outcome) bool {
	return !slices.ContainsFunc(outcomes, func(o mail.Outcome) bool {
		return o.Status != mail.Deferred || o.Stage != mail.StageMail || o.Remote && o.Reply.Code != 421
	})
}

// record takes the outcomes of one transaction. again are the recipients that the host
// wants in another transaction; progress says that somebody's fate was decided, so that
// one is worth its while.
func (a *attempt) record(batch []int, outcomes []mail.Outcome, unread error) (again []int, progress bool) {
	for n, i := range batch {
		o := outcomes[n]
		switch {
		case o.Status != mail.Deferred:
			a.settle(i, o)
			progress = true
		case unread != nil:
			a.settle(i, o) // nobody else can be given what we cannot read
		case o.Stage == mail.StageDot && !o.Remote:
			// The host may have taken the message (RFC 1047): nobody else gets it now.
			a.settle(i, o)
		case o.Stage == mail.StageRcpt && o.Remote && tooMany(o.Reply):
			a.note(i, o)
			again = append(again, i)
		default:
			a.note(i, o)
		}
	}
	return again, progress
}

// tooMany: RFC 5321 §4.5.3.1.10, where 552 means 452. With an enhanced code other than
// X.5.3 they speak of the disk or the mailbox.
func tooMany(r mail.Reply) bool {
	return (r.Code == 452 || r.Code == 552) &&
		(r.Enhanced.IsZero() || r.Enhanced == mail.EnhancedCode{Class: r.Code / 100, Subject: 5, Detail: 3})
}

// source opens the message when its first octet is wanted, and remembers its trouble.
type source struct {
	open func() io.ReadCloser
	rc   io.ReadCloser
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	if s.rc == nil {
		s.rc = s.open()
	}
	n, err := s.rc.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (s *source) close() {
	if s.rc != nil {
		s.rc.Close()
	}
}
