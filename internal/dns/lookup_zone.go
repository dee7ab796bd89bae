package dns

import (
	"context"
	"encoding/base64"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"time"

	wire "github.com/miekg/dns"
)

// SOA is the record at a zone's apex (RFC 1035 §3.3.13).
type SOA struct {
	MName, RName                    Name
	Serial                          uint32
	Refresh, Retry, Expire, Minimum time.Duration
}

// DS is one DS record (RFC 4034 §5.1), without the digest itself.
type DS struct {
	KeyTag     uint16
	Algorithm  uint8
	DigestType uint8
}

// Key is one DNSKEY record (RFC 4034 §2.1), without the key itself.
type Key struct {
	KeyTag    uint16
	Algorithm uint8
	Entry     bool // the SEP flag
	RSABits   int  // the length of an RSA key's modulus; 0 of another
}

// CAA is one CAA record (RFC 8659 §4.1).
type CAA struct {
	Critical   bool
	Tag, Value string
}

// LookupNS asks for the name servers of a zone, sorted.
func LookupNS(ctx context.Context, r Resolver, name Name) (Set[Name], error) {
	set, err := lookup(ctx, r, Question{Name: name, Type: TypeNS}, func(rr RR) (Name, bool) {
		ns, ok := rr.(*wire.NS)
		if !ok {
			return Name{}, false
		}
		return NameOf(ns.Ns), true
	})
	slices.SortFunc(set.Records, Name.compare)
	return set, err
}

// LookupSOA asks for the SOA record of a zone.
func LookupSOA(ctx context.Context, r Resolver, name Name) (Set[SOA], error) {
	return lookup(ctx, r, Question{Name: name, Type: TypeSOA}, func(rr RR) (SOA, bool) {
		soa, ok := rr.(*wire.SOA)
		if !ok {
			return SOA{}, false
		}
		seconds := func(n uint32) time.Duration { return time.Duration(n) * time.Second }
		return SOA{
			MName: NameOf(soa.Ns), RName: NameOf(soa.Mbox), Serial: soa.Serial,
			Refresh: seconds(soa.Refresh), Retry: seconds(soa.Retry), Expire: seconds(soa.Expire), Minimum: seconds(soa.Minttl),
		}, true
	})
}

// LookupKeys asks for the DNSKEY records of a zone.
func LookupKeys(ctx context.Context, r Resolver, name Name) (Set[Key], error) {
	return lookup(ctx, r, Question{Name: name, Type: TypeDNSKEY, DNSSEC: true}, func(rr RR) (Key, bool) {
		key, ok := rr.(*wire.DNSKEY)
		if !ok {
			return Key{}, false
		}
		return readKey(key), true
	})
}

func readKey(key *wire.DNSKEY) Key {
	return Key{KeyTag: key.KeyTag(), Algorithm: key.Algorithm, Entry: key.Flags&wire.SEP != 0, RSABits: rsaBits(key)}
}

// rsaBits gives the length of an RSA key's modulus, which stands behind the exponent and that
// one's length (RFC 3110 §2).
func rsaBits(key *wire.DNSKEY) int {
	switch key.Algorithm {
	case wire.RSAMD5, wire.RSASHA1, wire.RSASHA1NSEC3SHA1, wire.RSASHA256, wire.RSASHA512:
	default:
		return 0
	}
	raw, err := base64.StdEncoding.DecodeString(key.PublicKey)
	if err != nil || len(raw) < 3 {
		return 0
	}
	exponent, raw := int(raw[0]), raw[1:]
	if exponent == 0 {
		exponent, raw = int(raw[0])<<8|int(raw[1]), raw[2:]
	}
	if exponent > len(raw) {
		return 0
	}
	return new(big.Int).SetBytes(raw[exponent:]).BitLen()
}

// LookupCDS asks for the DS records that a zone wants its parent to have (RFC 7344 §3.1).
func LookupCDS(ctx context.Context, r Resolver, name Name) (Set[DS], error) {
	return lookup(ctx, r, Question{Name: name, Type: TypeCDS}, func(rr RR) (DS, bool) {
		cds, ok := rr.(*wire.CDS)
		if !ok {
			return DS{}, false
		}
		return readDS(&cds.DS), true
	})
}

// LookupCDNSKEY asks for the keys whose DS records a zone wants its parent to have (RFC 7344 §3.2).
func LookupCDNSKEY(ctx context.Context, r Resolver, name Name) (Set[Key], error) {
	return lookup(ctx, r, Question{Name: name, Type: TypeCDNSKEY}, func(rr RR) (Key, bool) {
		key, ok := rr.(*wire.CDNSKEY)
		if !ok {
			return Key{}, false
		}
		return readKey(&key.DNSKEY), true
	})
}

// Hashing is how a zone's proofs are hashed: one NSEC3PARAM record (RFC 5155 §4).
type Hashing struct {
	Iterations uint16
	Salt       string // hexadecimal digits
}

// LookupHashing asks how the proofs of a zone are hashed.
func LookupHashing(ctx context.Context, r Resolver, name Name) (Set[Hashing], error) {
	return lookup(ctx, r, Question{Name: name, Type: TypeNSEC3PARAM}, func(rr RR) (Hashing, bool) {
		param, ok := rr.(*wire.NSEC3PARAM)
		if !ok {
			return Hashing{}, false
		}
		return Hashing{param.Iterations, param.Salt}, true
	})
}

// LookupSPF asks for records of SPF's own type, which receivers do not look at (RFC 7208 §3.1).
func LookupSPF(ctx context.Context, r Resolver, name Name) (Set[string], error) {
	return lookup(ctx, r, Question{Name: name, Type: TypeSPF}, func(rr RR) (string, bool) {
		txt, ok := rr.(*wire.SPF)
		if !ok {
			return "", false
		}
		return octets(strings.Join(txt.Txt, "")), true
	})
}

// LookupCAA asks for the CAA records of exactly this name.
func LookupCAA(ctx context.Context, r Resolver, name Name) (Set[CAA], error) {
	return lookup(ctx, r, Question{Name: name, Type: TypeCAA}, func(rr RR) (CAA, bool) {
		caa, ok := rr.(*wire.CAA)
		if !ok {
			return CAA{}, false
		}
		return CAA{Critical: caa.Flag&0x80 != 0, Tag: strings.ToLower(caa.Tag), Value: octets(caa.Value)}, true
	})
}

func readDS(ds *wire.DS) DS { return DS{ds.KeyTag, ds.Algorithm, ds.DigestType} }

func readAddr(rr RR) (netip.Addr, bool) {
	var raw []byte
	switch rr := rr.(type) {
	case *wire.A:
		raw = rr.A.To4()
	case *wire.AAAA:
		raw = rr.AAAA.To16()
	}
	return netip.AddrFromSlice(raw)
}

func (n Name) compare(other Name) int { return strings.Compare(n.text, other.text) }
