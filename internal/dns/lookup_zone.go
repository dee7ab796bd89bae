package dns

import (
	"context"
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
		return Key{KeyTag: key.KeyTag(), Algorithm: key.Algorithm, Entry: key.Flags&wire.SEP != 0}, true
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
