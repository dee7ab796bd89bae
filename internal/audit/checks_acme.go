package audit

import (
	"fmt"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dmarc"
)

const maxStale = 5 // values of one name that are named; ours

func acmeChecks() []Check {
	return []Check{
		{"acme.stale-challenge", "an ACME challenge was left behind", Notice, []string{"RFC 8555 §8.4"}, eachChallenge(challengeStale)},
		{"acme.delegation-dangling", "ACME challenges are led nowhere", Error, []string{"RFC 8555 §8.4"}, eachChallenge(challengeDangling)},
	}
}

func eachChallenge(judge func(*Facts, Challenge) []verdict) func(*Facts) []verdict {
	return func(f *Facts) (all []verdict) {
		for _, c := range f.Challenges {
			for _, v := range judge(f, c) {
				all = append(all, v.at(c.Name.String()))
			}
		}
		return all
	}
}

func (c Challenge) question() dns.Question { return dns.Question{Name: c.Name, Type: dns.TypeTXT} }

// challengeStale: an alias leads to a place that keeps old values on purpose, or clears them
// itself.
func challengeStale(f *Facts, c Challenge) []verdict {
	switch n := len(c.TXT.Records); {
	case c.TXT.Err != nil:
		return []verdict{unknown(f, c.TXT.Err, ZoneServers, c.question())}
	case n == 0 || len(c.TXT.Aliases) > 0:
		return nil
	default:
		var changes []Change
		for _, value := range c.TXT.Records[:min(maxStale, n)] {
			changes = append(changes, Change{"delete", c.Name.FQDN() + " TXT " + quoted(clipTo(value, 100))})
		}
		return []verdict{fail(fmt.Sprintf("values that stand there: %d; that is right only while a certificate is being issued", n), c.question()).
			mend("if none is, let the ACME client take back what it has put there", changes...)}
	}
}

// challengeDangling: the name that an alias leads to is often there only for the moment of a
// challenge, and so its want is no fault. Where the domain that it is in does not exist, or the
// servers of a delegation do not serve it, no challenge can ever be met.
func challengeDangling(f *Facts, c Challenge) []verdict {
	if err := c.TXT.Err; err != nil {
		side := f.blame(err, ZoneServers)
		if own := !f.Zone.Signed.serves(); !lame(err) || side.Ours() || side == Nobody || own { // where the zone itself is lame, this is no other fault
			return []verdict{unknown(f, err, ZoneServers, c.question())}
		}
		return []verdict{fail("whoever it leads to does not serve it: "+clip(err.Error()), c.question()).by(side).mend("drop the delegation, or have it served")}
	}
	if c.Free {
		return []verdict{fail(fmt.Sprintf("it is an alias of %s, and the domain %s does not exist: who registers it can get certificates", c.TXT.Canonical, dmarc.ListOrg(c.TXT.Canonical)), c.question()).
			mend("drop the alias", Change{"delete", c.Name.FQDN() + " CNAME " + c.TXT.firstTarget().FQDN()})}
	}
	return nil
}
