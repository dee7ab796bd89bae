package dns

import (
	"cmp"
	"context"
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	wire "github.com/miekg/dns"
)

// Set is the answer to a typed lookup.
type Set[T any] struct {
	Records []T

	// Exists is false only if the DNS says that the name does not exist (NXDOMAIN). An
	// existing name may have no Records (NODATA).
	Exists bool
	// Canonical is where the records are: the name asked, or the end of its alias chain.
	Canonical Name
	// Aliases are the CNAME owners that were followed, the name asked first; empty if none.
	Aliases []Name
	// Authentic is true if DNSSEC validated the whole answer.
	Authentic bool
	// Stale is true if the answer had expired and nothing newer could be had (RFC 8767).
	// There are Records then. It may serve, but must decide nothing for good.
	Stale bool
	// TTL is the least of the answer's TTLs; 0 where there are no records.
	TTL time.Duration
}

// MX is one MX record (RFC 5321 §5.1). Host is Root for a null MX (RFC 7505).
type MX struct {
	Preference uint16
	Host       Name
}

// LookupMX asks for the MX records of name, sorted by preference, then by host. The error
// is Resolve's.
func LookupMX(ctx context.Context, r Resolver, name Name) (Set[MX], error) {
	set, err := lookup(ctx, r, Question{Name: name, Type: TypeMX}, func(rr RR) (MX, bool) {
		mx, ok := rr.(*wire.MX)
		if !ok {
			return MX{}, false
		}
		return MX{mx.Preference, NameOf(mx.Mx)}, true
	})
	slices.SortFunc(set.Records, func(a, b MX) int {
		return cmp.Or(cmp.Compare(a.Preference, b.Preference), strings.Compare(a.Host.text, b.Host.text))
	})
	return set, err
}

// LookupTXT asks for TXT records; the strings of one record are joined without a
// separator (RFC 7208 §3.3 and its kin). They are the octets that stand in the record,
// which may be any.
func LookupTXT(ctx context.Context, r Resolver, name Name) (Set[string], error) {
	return lookup(ctx, r, Question{Name: name, Type: TypeTXT}, func(rr RR) (string, bool) {
		txt, ok := rr.(*wire.TXT)
		if !ok {
			return "", false
		}
		return octets(strings.Join(txt.Txt, "")), true
	})
}

// octets undoes the escapes that the wire library leaves in texts: \" and \DDD (RFC 1035 §5.1).
func octets(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		if i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 10, 8); err == nil {
				b = append(b, byte(n))
				i += 3
				continue
			}
		}
		i++
		b = append(b, s[i])
	}
	return string(b)
}

// LookupPTR asks for the names of an address.
func LookupPTR(ctx context.Context, r Resolver, a netip.Addr) (Set[Name], error) {
	return lookup(ctx, r, Question{Name: ReverseName(a), Type: TypePTR}, func(rr RR) (Name, bool) {
		ptr, ok := rr.(*wire.PTR)
		if !ok {
			return Name{}, false
		}
		return NameOf(ptr.Ptr), true
	})
}

// LookupAddrs asks for A and AAAA at once. It gives an error only where that could change
// the answer: one family found is enough, but "none" needs both families' word.
func LookupAddrs(ctx context.Context, r Resolver, name Name) (Set[netip.Addr], error) {
	six := make(chan addrs, 1)
	go func() { six <- addrsOf(ctx, r, name, TypeAAAA) }()
	four := addrsOf(ctx, r, name, TypeA)
	return bothAddrs(four, <-six)
}

// LookupAllAddrs is LookupAddrs for who needs both families: where one could not be asked for, that is
// an error, beside the addresses of the other.
func LookupAllAddrs(ctx context.Context, r Resolver, name Name) (Set[netip.Addr], error) {
	six := make(chan addrs, 1)
	go func() { six <- addrsOf(ctx, r, name, TypeAAAA) }()
	four, v6 := addrsOf(ctx, r, name, TypeA), <-six
	set, err := bothAddrs(four, v6)
	if err == nil && set.Exists {
		err = cmp.Or(four.err, v6.err)
	}
	return set, err
}

// LookupAddrsInTurn is LookupAddrs where questions count, or for a name that probably does not
// exist: AAAA is asked after A, and only where that does not deny the name.
func LookupAddrsInTurn(ctx context.Context, r Resolver, name Name) (Set[netip.Addr], error) {
	four := addrsOf(ctx, r, name, TypeA)
	if four.err == nil && !four.set.Exists {
		return four.set, nil // NXDOMAIN holds for every type (RFC 2308 §2.1)
	}
	return bothAddrs(four, addrsOf(ctx, r, name, TypeAAAA))
}

// addrs is what came of the question for one family.
type addrs struct {
	set Set[netip.Addr]
	err error
}

func addrsOf(ctx context.Context, r Resolver, name Name, family Type) (a addrs) {
	a.set, a.err = LookupAddrsOf(ctx, r, name, family)
	return a
}

func bothAddrs(four, six addrs) (Set[netip.Addr], error) {
	switch {
	case four.err == nil && six.err == nil:
		return mergeAddrs(four.set, six.set), nil
	case four.err == nil && len(four.set.Records) > 0:
		return four.set, nil
	case six.err == nil && len(six.set.Records) > 0:
		return six.set, nil
	case four.err == nil && !four.set.Exists:
		return four.set, nil // NXDOMAIN holds for every type (RFC 2308 §2.1)
	case six.err == nil && !six.set.Exists:
		return six.set, nil
	case four.err != nil:
		return four.set, four.err
	}
	return six.set, six.err
}

// LookupAddrsOf asks for the addresses of one family: TypeA or TypeAAAA.
func LookupAddrsOf(ctx context.Context, r Resolver, name Name, family Type) (Set[netip.Addr], error) {
	return lookup(ctx, r, Question{Name: name, Type: family}, readAddr)
}

func mergeAddrs(v4, v6 Set[netip.Addr]) Set[netip.Addr] {
	merged := v4
	merged.Records = slices.Concat(v6.Records, v4.Records)
	merged.Exists = v4.Exists || v6.Exists
	merged.Authentic = v4.Authentic && v6.Authentic
	merged.Stale = v4.Stale || v6.Stale
	switch {
	case len(v4.Records) == 0:
		merged.TTL, merged.Canonical, merged.Aliases = v6.TTL, v6.Canonical, v6.Aliases
	case len(v6.Records) > 0:
		merged.TTL = min(v4.TTL, v6.TTL)
	}
	return merged
}

// TLSA is one TLSA record (RFC 6698 §2.1), as it stands. Data is the octets, not their
// digits.
type TLSA struct {
	Usage, Selector, Matching uint8
	Data                      []byte
}

// LookupTLSA asks for the TLSA records of name, which begins with the port and the protocol.
func LookupTLSA(ctx context.Context, r Resolver, name Name) (Set[TLSA], error) {
	return lookup(ctx, r, Question{Name: name, Type: TypeTLSA}, func(rr RR) (TLSA, bool) {
		tlsa, ok := rr.(*wire.TLSA)
		if !ok {
			return TLSA{}, false
		}
		data, err := hex.DecodeString(tlsa.Certificate)
		return TLSA{tlsa.Usage, tlsa.Selector, tlsa.MatchingType, data}, err == nil
	})
}

// lookup asks one question and reads the records at the end of the alias chain.
func lookup[T any](ctx context.Context, r Resolver, q Question, read func(RR) (T, bool)) (Set[T], error) {
	answer, err := r.Resolve(ctx, q)
	if err != nil {
		return Set[T]{Canonical: q.Name}, err
	}
	if answer.Rcode != NoError && answer.Rcode != NXDomain {
		return Set[T]{Canonical: q.Name}, &Error{Question: q, Trouble: ServerFailed, Detail: answer.Rcode.String()}
	}
	set := Set[T]{Exists: answer.Rcode == NoError, Canonical: q.Name, Authentic: answer.Authentic}
	set.Canonical, set.Aliases = followAliases(answer.Answer, q)
	for _, rr := range answer.Answer {
		h := rr.Header()
		if Type(h.Rrtype) != q.Type || NameOf(h.Name) != set.Canonical {
			continue
		}
		value, ok := read(rr)
		if !ok {
			continue
		}
		ttl := time.Duration(h.Ttl) * time.Second
		if len(set.Records) == 0 || ttl < set.TTL {
			set.TTL = ttl
		}
		set.Records = append(set.Records, value)
	}
	set.Stale = answer.Extended == wire.ExtendedErrorCodeStaleAnswer || answer.Extended == wire.ExtendedErrorCodeStaleNXDOMAINAnswer
	if set.Stale && len(set.Records) == 0 {
		// Mail bounces where there is nothing: that has to be true now.
		return Set[T]{Canonical: q.Name}, &Error{Question: q, Trouble: ServerFailed, Detail: "there was nothing when it was known last, and nothing newer can be had"}
	}
	return set, nil
}

// followAliases walks the CNAMEs of one answer from the question's name to the end. A loop
// ends where it began to repeat.
func followAliases(section []RR, q Question) (Name, []Name) {
	next := map[Name]Name{}
	for _, rr := range section {
		if c, ok := rr.(*wire.CNAME); ok && q.Type != TypeCNAME {
			next[NameOf(c.Hdr.Name)] = NameOf(c.Target)
		}
	}
	name, followed := q.Name, []Name(nil)
	for range len(next) {
		target, ok := next[name]
		if !ok {
			break
		}
		followed = append(followed, name)
		name = target
	}
	return name, followed
}
