package dmarc

import (
	"context"
	"fmt"
	"strings"

	"mxward/internal/dns"
)

// Authorisation is whether a destination takes reports about a domain (RFC 9990 §4).
type Authorisation struct {
	URI  URI
	Host dns.Name // of the URI; zero where it has none
	// Allowed: reports may go there, or to Override.
	Allowed bool
	// Internal: both have one organizational domain, and nobody else needs to agree.
	Internal bool
	Asked    dns.Name // the name at which a stranger's consent was looked for; zero where none was
	Records  []string // the DMARC records there
	// RUA and RUF are the destinations that Host wants instead; nil for what stands in the
	// policy. They are on the same host.
	RUA, RUF []URI
	Walks    []Walk // that found the organizational domains
	Why      string // for people
	// Err wraps ErrTemporary where it could not be found out; then nothing is Allowed now.
	Err error
}

// Authorised finds out whether reports about a domain, whose record it is that names the
// URI, may go there. It asks at most two tree walks and one name more.
func Authorised(ctx context.Context, r dns.Resolver, policyDomain dns.Name, uri URI) Authorisation {
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	return newWalker(ctx, r).authorised(policyDomain, uri)
}

func (w *walker) authorised(policyDomain dns.Name, uri URI) Authorisation {
	a := Authorisation{URI: uri}
	host, ok := uri.Host()
	if !ok {
		a.Why = "the URI names no host"
		return a
	}
	a.Host = host
	if same, err := w.sameOrg(&a, policyDomain, host); err != nil {
		return a.undetermined(err)
	} else if same {
		a.Internal, a.Allowed = true, true
		return a
	}
	name, err := dns.ParseName(policyDomain.String() + "._report._dmarc." + host.String())
	if err != nil { // RFC 9990 §4, step 4
		a.Why = fmt.Sprintf("%s cannot consent: the name for that would be too long", host)
		return a
	}
	a.Asked = name
	set, err := dns.LookupTXT(w.ctx, w.resolver, name)
	if err != nil {
		return a.undetermined(fmt.Errorf("%w: %w", ErrTemporary, err))
	}
	for _, text := range set.Records {
		if IsRecord(text) {
			a.Records = append(a.Records, text)
		}
	}
	a.decide()
	return a
}

// sameOrg finds both organizational domains, unless the names say it all.
func (w *walker) sameOrg(a *Authorisation, policyDomain, host dns.Name) (bool, error) {
	switch {
	case host == policyDomain:
		a.Why = "it is the domain itself"
		return true, nil
	case top(host) != top(policyDomain):
		a.Why = "they have nothing in common"
		return false, nil
	}
	for _, name := range []dns.Name{policyDomain, host} {
		walk := w.walk(name)
		a.Walks = append(a.Walks, walk)
		if walk.Err != nil {
			return false, walk.Err
		}
	}
	org := a.Walks[0].Org
	if a.Walks[1].Org != org {
		return false, nil
	}
	a.Why = fmt.Sprintf("both have the organizational domain %s", org)
	return true, nil
}

// decide reads the consent (RFC 9990 §4, steps 6 to 9).
func (a *Authorisation) decide() {
	if len(a.Records) == 0 {
		a.Why = fmt.Sprintf("%s has not consented: there is no record v=DMARC1 at %s", a.Host, a.Asked)
		return
	}
	for _, text := range a.Records {
		r, _, _ := read(text) // its policy means nothing
		for _, u := range append(r.RUA[:len(r.RUA):len(r.RUA)], r.RUF...) {
			if h, ok := u.Host(); !ok || h != a.Host {
				a.RUA, a.RUF = nil, nil
				a.Why = fmt.Sprintf("the consent at %s sends reports on to %s, which is another host", a.Asked, u)
				return
			}
		}
		a.RUA, a.RUF = append(a.RUA, r.RUA...), append(a.RUF, r.RUF...)
	}
	a.Allowed = true
	a.Why = fmt.Sprintf("%s has consented at %s", a.Host, a.Asked)
}

func (a Authorisation) undetermined(err error) Authorisation {
	a.Err, a.Why = err, err.Error()
	return a
}

// String gives it in one line.
func (a Authorisation) String() string {
	word := "not authorised"
	switch {
	case a.Err != nil:
		word = "could not be determined"
	case a.Internal:
		word = "needs no authorisation"
	case a.Allowed:
		word = "authorised"
	}
	text := fmt.Sprintf("%s: %s: %s", printable(string(a.URI)), word, printable(a.Why))
	if others := append(a.RUA[:len(a.RUA):len(a.RUA)], a.RUF...); len(others) > 0 {
		text += "; it wants them at " + printable(join(others, " "))
	}
	return strings.TrimSpace(text)
}
