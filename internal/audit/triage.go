package audit

import (
	"context"
	"errors"
	"slices"

	"mxward/internal/dns"
)

// blame says on whose side it lies that something could not be had; theirs is whose it is
// where our own side works. Only what was seen in a second way is put on anybody.
func (f *Facts) blame(err error, theirs Blame) Blame {
	trouble := dns.TroubleOf(err)
	switch {
	case errors.Is(err, ErrNotRecorded):
		return Nobody
	case f.Control.Resolver.Err != nil && f.outside():
		return LocalResolver
	case f.Control.Resolver.Err != nil:
		return LocalNetwork
	case stopped(err):
		return Nobody
	case f.skew() != "" && f.bogus(err):
		return LocalNetwork
	case trouble == dns.WorkLimit:
		return LocalResolver
	case f.hidden(err), f.answeredDirectly(err):
		return LocalResolver
	case f.leadsAway(err) && !f.bogus(err):
		return ThirdParty
	case f.bogus(err) && theirs == ZoneServers:
		return ZoneData
	case f.bogus(err):
		return theirs
	case trouble == dns.NoNetwork && !f.Server.IsValid():
		return LocalNetwork // of another resolver, that it is silent at this question alone
	case theirs == ZoneServers && !f.rootsHeard() && f.Zone.Err != nil:
		return Nobody // nobody else could be asked
	case theirs == ZoneServers && f.Zone.Err != nil && f.Zone.Parent != dns.Root && f.rootsHeard():
		return ParentZone
	case trouble == dns.BrokenDelegation && theirs == ZoneServers && f.Zone.Name.IsZero():
		return ParentZone
	}
	return theirs
}

// stopped reports whether it was we who did not wait any longer, or did not ask any more.
func stopped(err error) bool {
	return dns.TroubleOf(err) == 0 && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, errSpent) || errors.Is(err, ErrNotRecorded))
}

// outside reports whether anybody outside was heard without the resolver.
func (f *Facts) outside() bool {
	return f.rootsHeard() || !f.intercepted() && slices.ContainsFunc(f.Zone.Servers, func(s Server) bool { return s.SOA.Err == nil && s.SOA.Server.IsValid() })
}

// rootsHeard reports whether a root server itself was heard: who refuses, or speaks without
// authority, is none, and stands between us and it.
func (f *Facts) rootsHeard() bool { return slices.ContainsFunc(f.Control.Roots, Heard.serves) }

// answeredDirectly reports whether a server of the zone answers what the resolver failed at,
// and not because nobody validates there.
func (f *Facts) answeredDirectly(err error) bool {
	var e *dns.Error
	if !errors.As(err, &e) || e.Trouble == dns.Bogus || f.bogus(err) {
		return false
	}
	return slices.ContainsFunc(f.Direct[bare(e.Question)], func(h Heard) bool {
		_, away := aliasOf(h, e.Question)
		return h.serves() && !away
	})
}

// aliasOf gives the name that an answer ends with where that is an alias of it, and the answer
// is still to be had there.
func aliasOf(h Heard, q dns.Question) (dns.Name, bool) {
	if h.Said.Rcode != dns.NoError {
		return dns.Name{}, false
	}
	target, found := dns.Target(h.Said.Answer, q)
	return target, !found && target != q.Name
}

// leadsAway reports whether the zone's servers answer what the resolver failed at by an alias out
// of the zone: what is wrong there is no fault of theirs, nor of the resolver.
func (f *Facts) leadsAway(err error) bool {
	var e *dns.Error
	return errors.As(err, &e) && slices.ContainsFunc(f.Direct[bare(e.Question)], func(h Heard) bool {
		target, away := aliasOf(h, e.Question)
		return h.serves() && away && !f.inZone(target)
	})
}

// hidden reports whether a resolver has no answer by a policy of its own.
func (f *Facts) hidden(err error) bool {
	var e *dns.Error
	return f.Server.IsValid() && errors.As(err, &e) && hiding(e.Extended)
}

// bogus reports whether a resolver failed because of DNSSEC: it says so (RFC 8914 §4.7 and
// the next ones), or it has the answer where it need not validate.
func (f *Facts) bogus(err error) bool {
	var e *dns.Error
	if !errors.As(err, &e) {
		return false
	}
	if e.Trouble == dns.Bogus || e.Extended >= 5 && e.Extended <= 12 {
		return true
	}
	unsigned := len(f.Zone.Referral.Servers) > 0 && len(f.Zone.Referral.DS) == 0
	if e.Trouble != dns.ServerFailed || unsigned && f.inZone(e.Question.Name) {
		return false // it was something else, and passed
	}
	return slices.ContainsFunc(f.Log, func(x Exchange) bool {
		return x.question.CheckingDisabled && bare(x.question) == bare(e.Question) && x.Error == ""
	})
}

// Ours reports whether the trouble lies on the side of who asks.
func (b Blame) Ours() bool { return b == LocalResolver || b == LocalNetwork }

// theirs reports whether everybody else meets the same trouble: it lies with the zone, its
// servers or above, and our own side works.
func (b Blame) theirs() bool { return b == ZoneData || b == ZoneServers || b == ParentZone }

// hides reports whether the resolver says that it hides a name by a policy of its own.
func (f *Facts) hides(name dns.Name) bool {
	return slices.ContainsFunc(f.Log, func(x Exchange) bool {
		return x.Name == name && x.Transport == "" && hiding(x.Extended)
	})
}

// failsDirectly reports whether the zone's own servers fail at the same question.
func (f *Facts) failsDirectly(err error) bool {
	var e *dns.Error
	if !errors.As(err, &e) {
		return false
	}
	heard := f.Direct[bare(e.Question)]
	return len(heard) > 0 && !slices.ContainsFunc(heard, Heard.serves)
}
