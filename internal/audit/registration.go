package audit

import (
	"context"
	"fmt"
	"time"

	"mxward/internal/dns"
)

// endsWithin is when a registration's end is worth a warning; ours, a month.
const endsWithin = 30 * 24 * time.Hour

// Registration is when the registration of the domain that somebody registered ends.
type Registration struct {
	Domain dns.Name
	Ends   time.Time
	Err    error
}

// registration asks the registry, where somebody gave a way to it.
func (g *gatherer) registration(ctx context.Context) {
	if g.Registry == nil {
		return
	}
	r := &Registration{Domain: g.facts.Domain}
	if org, ok := organization(g.facts.Domain); ok {
		r.Domain = org
		r.Ends, r.Err = g.Registry(ctx, org)
	} else {
		r.Err = errNotAsked // a public suffix is nobody's registration
	}
	g.facts.Registration = r
}

// needRegistration: the end is known.
func needRegistration(judge func(*Facts, time.Duration) []verdict) func(*Facts) []verdict {
	return func(f *Facts) []verdict {
		r := f.Registration
		switch {
		case r == nil:
			return []verdict{{status: Skipped, detail: "the registry was not asked"}}
		case r.Err != nil:
			return []verdict{unknown(f, r.Err, ThirdParty).at(r.Domain.String())}
		case f.skew() != "":
			return []verdict{f.clockUnknown()}
		}
		var all []verdict
		for _, v := range judge(f, r.Ends.Sub(f.When)) {
			all = append(all, v.at(r.Domain.String()).by(ParentZone).mend("renew it at the registrar, and see that it is renewed by itself"))
		}
		return all
	}
}

func delegExpired(f *Facts, left time.Duration) []verdict {
	if left >= 0 {
		return nil
	}
	return []verdict{fail(fmt.Sprintf("it ended on %s: the registry may take the delegation away at any time, and give the name to somebody else", f.Registration.Ends.Format(time.DateOnly)))}
}

func delegExpiring(f *Facts, left time.Duration) []verdict {
	if left < 0 || left > endsWithin {
		return nil
	}
	return []verdict{fail(fmt.Sprintf("it ends on %s", f.Registration.Ends.Format(time.DateOnly)))}
}
