package tlsa

import (
	"context"
	"fmt"

	"mxward/internal/dns"
)

// State is what the DNS says about a host's TLSA records.
type State string

// The states.
const (
	Secure   State = "secure"   // there are records, and they are validated
	Denied   State = "denied"   // it is proved that there are none
	Insecure State = "insecure" // the host's zone is not signed: whatever it has does not count
	Trouble  State = "trouble"  // nobody can tell now
)

// Duty is what a sender owes to a host.
type Duty string

// The duties (RFC 7672 §2.2).
const (
	Opportunistic Duty = "opportunistic" // none by DANE: TLS if there is any
	Encrypt       Duty = "encrypt"       // TLS, with any certificate
	Authenticate  Duty = "authenticate"  // TLS, with a certificate that Match takes
	Delay         Duty = "delay"         // no mail goes to this host now
)

// Result is what was found for one MX host.
type Result struct {
	Host    dns.Name
	Base    dns.Name // the host name whose records count, by which the client calls the server too (RFC 7672 §2.2.3)
	State   State
	Records []Record // where Secure
	Stale   bool     // they had expired, and nothing newer could be had
	Err     error    // where Trouble: that of the resolver
}

// Duty gives what the sender owes.
func (r Result) Duty() Duty {
	switch {
	case r.State == Trouble:
		return Delay
	case r.State != Secure:
		return Opportunistic
	case len(usable(r.Records)) == 0:
		return Encrypt // RFC 7672 §2.2
	}
	return Authenticate
}

// String says it in a sentence.
func (r Result) String() string {
	switch {
	case r.State == Trouble:
		return fmt.Sprintf("%s: whether there are TLSA records cannot be told, so mail waits: %v", r.Host, r.Err)
	case r.State == Insecure:
		return fmt.Sprintf("%s: no DANE: its zone is not signed", r.Host)
	case r.State == Denied:
		return fmt.Sprintf("%s: no DANE: it is proved that there are no TLSA records", r.Host)
	case r.Duty() == Encrypt:
		return fmt.Sprintf("%s: none of %d TLSA records at %s can be used: TLS with any certificate", r.Host, len(r.Records), r.Base)
	}
	return fmt.Sprintf("%s: TLS with a certificate that one of %d TLSA records at %s means", r.Host, len(r.Records), r.Base)
}

// Lookup asks for the TLSA records of an MX host; port 0 is 25. Resolver must validate, or
// nothing is ever Secure. A host without addresses is Denied or Insecure.
//
// The addresses come first: where they are not secure, TLSA records are not even asked for,
// since broken name servers of unsigned zones would hold mail back (RFC 7672 §2.2.2). A host
// that is an alias may have records at its end, else at its own name (RFC 7672 §2.2.3).
func Lookup(ctx context.Context, r dns.Resolver, host dns.Name, port uint16) Result {
	result := Result{Host: host, Base: host, State: Insecure}
	bases, err := bases(ctx, r, host)
	for _, base := range bases {
		if err != nil {
			break
		}
		var name dns.Name
		if name, err = Name(base, port); err != nil {
			// No name is longer than that of a host with room for the port: there is no record.
			err = nil
			result.State = Denied
			continue
		}
		var set dns.Set[dns.TLSA]
		if set, err = dns.LookupTLSA(ctx, r, name); err != nil {
			break
		}
		switch {
		case !set.Authentic: // an alias that leads out of the signed zones
		case len(set.Records) == 0:
			result.State = Denied
		default:
			return secure(result, base, set)
		}
	}
	if err != nil {
		result.State, result.Err = Trouble, fmt.Errorf("look for the TLSA records of %s: %w", host, err)
	}
	return result
}

func secure(r Result, base dns.Name, set dns.Set[dns.TLSA]) Result {
	r.State, r.Base, r.Stale = Secure, base, set.Stale
	for _, t := range set.Records {
		r.Records = append(r.Records, Record{t.Usage, t.Selector, t.Matching, string(t.Data)})
	}
	return r
}

// bases gives the names whose TLSA records count, the first that has any; none where the
// addresses are not secure.
func bases(ctx context.Context, r dns.Resolver, host dns.Name) ([]dns.Name, error) {
	set, err := dns.LookupAddrs(ctx, r, host)
	switch {
	case err != nil:
		return nil, err
	case set.Authentic && len(set.Aliases) > 0:
		return []dns.Name{set.Canonical, host}, nil
	case set.Authentic:
		return []dns.Name{host}, nil
	case len(set.Aliases) == 0:
		return nil, nil
	}
	// The end is not secure; the alias itself may be, and have records (RFC 7672 §2.2.2).
	q := dns.Question{Name: host, Type: dns.TypeCNAME}
	answer, err := r.Resolve(ctx, q)
	switch {
	case err != nil:
		return nil, err
	case answer.Rcode != dns.NoError && answer.Rcode != dns.NXDomain:
		return nil, &dns.Error{Question: q, Trouble: dns.ServerFailed, Detail: answer.Rcode.String()}
	case answer.Authentic:
		return []dns.Name{host}, nil
	}
	return nil, nil
}
