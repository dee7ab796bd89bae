package audit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"

	"mxward/internal/dns"
	"mxward/internal/mailauth/spf"
	"mxward/internal/site"
)

// manyNetworks is how many of a set a finding names; ours.
const manyNetworks = 10

// Copied is what the plan has copied from an include, and what that passes today.
type Copied struct {
	site.Flattened
	Now spf.Networks
}

// copies asks for the policies that the plan's networks were copied from, and for all that the
// domain's own passes, by whatever way.
func (g *gatherer) copies(ctx context.Context) {
	p := g.facts.Plan
	if p == nil || len(p.Copies) == 0 {
		return
	}
	do := []func(context.Context){
		func(ctx context.Context) { p.Passed = spf.NetworksOf(ctx, g.rec, g.facts.Domain.String()) },
	}
	for i := range p.Copies {
		c := &p.Copies[i]
		do = append(do, func(ctx context.Context) { c.Now = spf.NetworksOf(ctx, g.rec, c.Include.String()) })
	}
	g.all(ctx, do...)
}

// flattenStale compares sets of addresses, and not how they are written. What the record names
// is what counts, not what the plan does: that may have been renewed alone.
func flattenStale(f *Facts) []verdict {
	asked, err := f.q(dns.TypeTXT), f.SPF.Undetermined()
	switch {
	case len(f.Plan.Copies) == 0:
		return na("the plan has no copies of an include ([[domain.spf-flattened]])")
	case err != nil && f.inZone(questionOf(err, f.Domain)):
		return []verdict{unknown(f, err, ZoneServers, asked)}
	case f.SPF.Err != nil:
		return na("there is no SPF record that can be used")
	}
	written := addresses(f.SPF.Written(f.inZone))
	var all []verdict
	for _, c := range f.Plan.Copies {
		named := common(written, addresses(c.Networks))
		if p := f.Plan.Passed; p.Err == nil && !p.More { // what it refuses before it names it is no copy
			named = common(named, p.Set)
		}
		verdicts := f.stale(c, named)
		if empty(named) && err != nil { // they may stand where nobody could look
			verdicts = []verdict{f.notWhole(err, c.Include)}
		}
		for _, v := range verdicts {
			v.asked = append(v.asked, asked, c.question())
			all = append(all, v.at(c.Include.String()))
		}
	}
	return all
}

// gone reports whether the include has no policy; where one that it includes has none, it has a
// mistake.
func (c Copied) gone() bool {
	return errors.Is(c.Now.Err, spf.ErrNotSPF) && !errors.Is(c.Now.Err, spf.ErrPermanent)
}

func (c Copied) question() dns.Question { return dns.Question{Name: c.Include, Type: dns.TypeTXT} }

// questionOf gives the name that was asked for in vain.
func questionOf(err error, otherwise dns.Name) dns.Name {
	var e *dns.Error
	if errors.As(err, &e) {
		return e.Question.Name
	}
	return otherwise
}

// stale judges one include. named is what the domain's record has of its copies.
func (f *Facts) stale(c Copied, named *netipx.IPSet) []verdict {
	if c.Now.Set == nil || f.Plan.Passed.Set == nil {
		return []verdict{unknown(f, errNotAsked, Nobody)}
	}
	lacking := less(c.Now.Set, f.Plan.Passed.Set)
	switch {
	case empty(named) && (c.Now.Err != nil || empty(lacking)):
		return na("the domain's SPF record has none of the networks that the plan gives for it")
	case errors.Is(c.Now.Err, spf.ErrTemporary):
		return []verdict{f.notWhole(c.Now.Err, c.Include)}
	case f.hides(c.Include):
		return []verdict{{status: Unknown, blame: LocalResolver, detail: "the resolver hides it by a policy of its own"}}
	case c.gone():
		gone := less(named, f.stillPassed(c))
		if empty(gone) {
			return nil
		}
		return []verdict{fail("it has no SPF policy, and so nobody says whose " + networks(gone) + " is now").
			mend("ask whose hosts they were what they have now; then renew the copies, in the record and in the plan, or drop them")}
	case errors.Is(c.Now.Err, spf.ErrTooLarge):
		return []verdict{{status: Unknown, blame: Nobody, aside: true, detail: c.Now.Err.Error()}}
	case c.Now.Err != nil: // then it says nothing, to receivers neither
		return []verdict{unknown(f, c.Now.Err, ThirdParty)}
	}
	return f.compareCopies(c, less(named, f.stillPassed(c)), lacking)
}

// notWhole is the verdict of a policy of which something could not be asked for.
func (f *Facts) notWhole(err error, policy dns.Name) verdict {
	side, at := ThirdParty, questionOf(err, policy)
	if f.inZone(at) {
		side = ZoneServers
	}
	return unknown(f, err, side, append(addrQuestions(at), dns.Question{Name: at, Type: dns.TypeTXT}, dns.Question{Name: at, Type: dns.TypeMX})...)
}

// compareCopies says what is in the record and not in the include any more (gone), and the other
// way round (lacking), as far as terms that are no networks leave that sure.
func (f *Facts) compareCopies(c Copied, gone, lacking *netipx.IPSet) []verdict {
	passed := f.Plan.Passed
	var said, open []string
	if !empty(gone) {
		text := "it has left " + networks(gone) + ", which the record names"
		if c.Now.More {
			open = append(open, text)
		} else {
			said = append(said, text)
		}
	}
	if !empty(lacking) {
		text := "it names " + networks(lacking) + ", which the record does not pass"
		switch {
		case errors.Is(passed.Err, spf.ErrTemporary):
			if len(said) == 0 {
				return []verdict{f.notWhole(passed.Err, f.Domain)}
			}
		case c.Now.Fewer || passed.More || passed.Err != nil: // of a record with a mistake, or too large a one, no more is known
			open = append(open, text)
		default:
			said = append(said, text)
		}
	}
	beyond := ""
	if terms := append(c.Now.Beyond[:len(c.Now.Beyond):len(c.Now.Beyond)], passed.Beyond...); len(terms) > 0 {
		beyond = "; not every term can be written as networks: " + clipTo(strings.Join(terms, " "), 200)
	}
	switch {
	case len(said) > 0:
		return []verdict{fail(strings.Join(said, "; ") + beyond).
			mend("renew the copies, in the record and in the plan: mxward spf flatten " + c.Include.String() + " prints them")}
	case len(open) > 0:
		return []verdict{{status: Unknown, blame: Nobody, aside: true, detail: strings.Join(open, "; ") + beyond}}
	case beyond != "":
		return []verdict{{status: Pass, detail: "the networks are the same" + beyond}}
	}
	return nil
}

// stillPassed is what an include and the others of the plan pass today: what one has left may be
// another's. Another of which that is not known has the benefit of the doubt.
func (f *Facts) stillPassed(c Copied) *netipx.IPSet {
	var all netipx.IPSetBuilder
	for _, other := range f.Plan.Copies {
		switch {
		case other.Now.Err == nil:
			all.AddSet(other.Now.Set)
		case other.Include != c.Include && !other.gone():
			all.AddSet(addresses(other.Networks))
		}
	}
	return built(&all)
}

func addresses(networks []netip.Prefix) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, p := range networks {
		b.AddPrefix(p)
	}
	return built(&b)
}

func common(a, b *netipx.IPSet) *netipx.IPSet {
	var both netipx.IPSetBuilder
	both.AddSet(a)
	both.Intersect(b)
	return built(&both)
}

func less(set, without *netipx.IPSet) *netipx.IPSet {
	var rest netipx.IPSetBuilder
	rest.AddSet(set)
	rest.RemoveSet(without)
	return built(&rest)
}

// built gives what is in a builder. Its errors are about networks that are none: neither the plan
// nor a record has such.
func built(b *netipx.IPSetBuilder) *netipx.IPSet {
	set, err := b.IPSet()
	if err != nil {
		return new(netipx.IPSet)
	}
	return set
}

func empty(set *netipx.IPSet) bool { return set == nil || len(set.Ranges()) == 0 }

// networks names a few of a set.
func networks(set *netipx.IPSet) string {
	all := set.Prefixes()
	var words []string
	for _, p := range all[:min(manyNetworks, len(all))] {
		words = append(words, p.String())
	}
	if more := len(all) - len(words); more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, ", ")
}
