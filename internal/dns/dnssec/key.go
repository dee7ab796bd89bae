package dnssec

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // SHA-256
	_ "crypto/sha512" // SHA-384, SHA-512
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// Limits of RSA keys. Smaller ones can be factored and Go refuses them, larger ones cost
// too much; RFC 8624 §3 wants 2048 bits. Such keys count as unknown.
const (
	minRSABits      = 1024
	maxRSABits      = 4096
	maxExponentBits = 64
)

const protocolDNSSEC = 3 // RFC 4034 §2.1.2

// Key is one DNSKEY record, parsed once.
type Key struct {
	Record    *wire.DNSKEY
	Tag       uint16
	Algorithm uint8
	public    crypto.PublicKey // nil where algorithm or size is not supported
}

// Supported reports whether signatures by the key can be checked.
func (k Key) Supported() bool { return k.public != nil }

// Revoked is the bit of RFC 5011 §7.
func (k Key) Revoked() bool { return k.Record.Flags&wire.REVOKE != 0 }

// signs reports whether the key may sign a zone (RFC 4034 §2.1.1).
func (k Key) signs() bool {
	return k.Record.Flags&wire.ZONE != 0 && k.Record.Protocol == protocolDNSSEC && !k.Revoked()
}

// ParseKeys reads the DNSKEY records among some; those beyond maxKeys are left out.
func ParseKeys(records []dns.RR) []Key {
	var keys []Key
	for _, rr := range records {
		if k, ok := rr.(*wire.DNSKEY); ok && len(keys) < maxKeys {
			keys = append(keys, parseKey(k))
		}
	}
	return keys
}

func parseKey(rr *wire.DNSKEY) Key {
	k := Key{Record: rr, Algorithm: rr.Algorithm}
	raw, err := base64.StdEncoding.DecodeString(rr.PublicKey)
	if err != nil {
		return k
	}
	k.Tag = keyTag(rdata(rr, raw))
	switch rr.Algorithm {
	case wire.RSASHA256, wire.RSASHA512:
		if pub, ok := parseRSA(raw); ok {
			k.public = pub
		}
	case wire.ECDSAP256SHA256:
		if pub, ok := parseECDSA(elliptic.P256(), raw); ok {
			k.public = pub
		}
	case wire.ECDSAP384SHA384:
		if pub, ok := parseECDSA(elliptic.P384(), raw); ok {
			k.public = pub
		}
	case wire.ED25519:
		if len(raw) == ed25519.PublicKeySize {
			k.public = ed25519.PublicKey(raw)
		}
	}
	return k
}

func rdata(rr *wire.DNSKEY, public []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, rr.Flags)
	return append(append(b, rr.Protocol, rr.Algorithm), public...)
}

// keyTag is RFC 4034, appendix B.
func keyTag(rdata []byte) uint16 {
	var sum uint32
	for i, b := range rdata {
		if i&1 == 0 {
			sum += uint32(b) << 8
		} else {
			sum += uint32(b)
		}
	}
	return uint16(sum + sum>>16&0xffff)
}

// rsaKey has room for exponents that rsa.PublicKey has none for.
type rsaKey struct{ n, e *big.Int }

// parseRSA reads RFC 3110 §2.
func parseRSA(b []byte) (rsaKey, bool) {
	if len(b) < 3 {
		return rsaKey{}, false
	}
	size, b := int(b[0]), b[1:]
	if size == 0 {
		size, b = int(binary.BigEndian.Uint16(b)), b[2:]
	}
	if size == 0 || size >= len(b) {
		return rsaKey{}, false
	}
	k := rsaKey{n: new(big.Int).SetBytes(b[size:]), e: new(big.Int).SetBytes(b[:size])}
	ok := k.n.BitLen() >= minRSABits && k.n.BitLen() <= maxRSABits && k.n.Bit(0) == 1 &&
		k.e.BitLen() >= 2 && k.e.BitLen() <= maxExponentBits && k.e.Bit(0) == 1
	return k, ok
}

// digestInfo are the bytes before the digest in a padded block (RFC 8017 §9.2, note 1).
var digestInfo = map[crypto.Hash]string{
	crypto.SHA256: "3031300d060960864801650304020105000420",
	crypto.SHA512: "3051300d060960864801650304020305000440",
}

// verify is RSASSA-PKCS1-v1_5 (RFC 8017 §8.2.2). Package rsa does it for common exponents.
func (k rsaKey) verify(h crypto.Hash, digest, sig []byte) bool {
	if len(sig) != (k.n.BitLen()+7)/8 {
		return false
	}
	if k.e.BitLen() < 32 {
		return rsa.VerifyPKCS1v15(&rsa.PublicKey{N: k.n, E: int(k.e.Int64())}, h, digest, sig) == nil
	}
	s := new(big.Int).SetBytes(sig)
	if s.Cmp(k.n) >= 0 {
		return false
	}
	prefix, _ := hex.DecodeString(digestInfo[h])
	tail := slices.Concat([]byte{0}, prefix, digest)
	want := slices.Concat([]byte{0, 1}, bytes.Repeat([]byte{0xff}, len(sig)-2-len(tail)), tail)
	return bytes.Equal(s.Exp(s, k.e, k.n).FillBytes(make([]byte, len(sig))), want)
}

// parseECDSA reads RFC 6605 §4: the two coordinates.
func parseECDSA(curve elliptic.Curve, raw []byte) (*ecdsa.PublicKey, bool) {
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, append([]byte{4}, raw...))
	return pub, err == nil
}

// verify reports whether sig is the key's over data. The key is a supported one.
func (k Key) verify(data, sig []byte) bool {
	h := map[uint8]crypto.Hash{
		wire.RSASHA256: crypto.SHA256, wire.RSASHA512: crypto.SHA512,
		wire.ECDSAP256SHA256: crypto.SHA256, wire.ECDSAP384SHA384: crypto.SHA384,
	}[k.Algorithm]
	var digest []byte
	if h != 0 {
		hash := h.New()
		hash.Write(data)
		digest = hash.Sum(nil)
	}
	switch pub := k.public.(type) {
	case rsaKey:
		return pub.verify(h, digest, sig)
	case *ecdsa.PublicKey:
		size := (pub.Curve.Params().BitSize + 7) / 8
		if len(sig) != 2*size { // RFC 6605 §4
			return false
		}
		r, s := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
		return ecdsa.Verify(pub, digest, r, s)
	case ed25519.PublicKey:
		return ed25519.Verify(pub, data, sig)
	}
	return false
}

// supportedAlgorithm says which algorithms this package checks.
func supportedAlgorithm(a uint8) bool {
	switch a {
	case wire.RSASHA256, wire.RSASHA512, wire.ECDSAP256SHA256, wire.ECDSAP384SHA384, wire.ED25519:
		return true
	}
	return false
}

func digestHash(t uint8) crypto.Hash {
	switch t {
	case wire.SHA256:
		return crypto.SHA256
	case wire.SHA384:
		return crypto.SHA384
	}
	return 0
}

// usable gives the DS records of zone whose algorithm and digest are supported.
func usable(zone dns.Name, records []dns.RR) []*wire.DS {
	var found []*wire.DS
	for _, rr := range records {
		ds, ok := rr.(*wire.DS)
		if ok && dns.NameOf(ds.Hdr.Name) == zone && supportedAlgorithm(ds.Algorithm) && digestHash(ds.DigestType) != 0 {
			found = append(found, ds)
		}
	}
	return found
}

// Supported reports whether one at least of the DS records of zone can be followed. If
// none can, the zone counts as unsigned (RFC 6840 §5.2).
func Supported(zone dns.Name, ds []dns.RR) bool { return len(usable(zone, ds)) > 0 }

// Unsupported gives the extended DNS error for DS records that are not Supported: that of
// the digests if an algorithm is known.
func Unsupported(ds []dns.RR) uint16 {
	for _, rr := range ds {
		if d, ok := rr.(*wire.DS); ok && supportedAlgorithm(d.Algorithm) {
			return CodeUnsupportedDigest
		}
	}
	return CodeUnsupportedAlgorithm
}

// matches reports whether the digest is that of the key (RFC 4034 §5.1.4).
func matches(ds *wire.DS, zone dns.Name, k Key) bool {
	raw, err := base64.StdEncoding.DecodeString(k.Record.PublicKey)
	if err != nil {
		return false
	}
	h := digestHash(ds.DigestType).New()
	h.Write(wireName(zone))
	h.Write(rdata(k.Record, raw))
	return strings.EqualFold(hex.EncodeToString(h.Sum(nil)), ds.Digest)
}

// Zone is a zone with keys that are trusted.
type Zone struct {
	Name dns.Name
	Keys []Key

	revoked bool // signatures by revoked keys count: those by which they revoke themselves
}

// Trust gives the keys of a zone if one of them that a DS record vouches for has signed
// them all (RFC 4035 §5.2). ErrUnsupported means that the zone counts as unsigned.
func Trust(zone dns.Name, ds []dns.RR, keys Set, now time.Time, work *Work) (*Zone, Verdict, error) {
	known := usable(zone, ds)
	if len(known) == 0 {
		return nil, Verdict{}, ErrUnsupported
	}
	if len(keys.Records) == 0 {
		return nil, Verdict{}, fault(CodeKeyMissing, "%s has a DS record and no DNSKEY", zone)
	}
	all := ParseKeys(keys.Records)
	vouched, zoneBit := vouchedFor(zone, known, all)
	if len(vouched) == 0 {
		if !zoneBit {
			return nil, Verdict{}, fault(CodeNoZoneKeyBit, "no DNSKEY of %s is a zone key", zone)
		}
		return nil, Verdict{}, fault(CodeKeyMissing, "no DNSKEY of %s matches its DS record%s", zone, tags(known))
	}
	if !slices.ContainsFunc(vouched, Key.Supported) {
		return nil, Verdict{}, ErrUnsupported
	}
	verdict, err := (&Zone{Name: zone, Keys: vouched}).Verify(keys, now, work)
	if err != nil {
		return nil, Verdict{}, err
	}
	if verdict.Expanded {
		return nil, Verdict{}, fault(CodeBogus, "the DNSKEY of %s comes from a wildcard", zone)
	}
	if !signable(all) {
		return nil, Verdict{}, ErrUnsupported
	}
	return &Zone{Name: zone, Keys: all}, verdict, nil
}

// signable reports whether the zone's data can be checked at all: it cannot where the keys
// that sign it, those without SEP if there are such, are all of an unsupported kind.
func signable(keys []Key) bool {
	data := slices.DeleteFunc(slices.Clone(keys), func(k Key) bool { return !k.signs() || k.Record.Flags&wire.SEP != 0 })
	return len(data) == 0 || slices.ContainsFunc(data, Key.Supported)
}

// vouchedFor gives the keys that a DS record matches; zoneBit is false if no key may sign.
func vouchedFor(zone dns.Name, ds []*wire.DS, keys []Key) (vouched []Key, zoneBit bool) {
	misses := 0
	for _, d := range ds[:min(len(ds), maxDS)] {
		for _, k := range keys {
			if !k.signs() {
				continue
			}
			zoneBit = true
			if k.Tag != d.KeyTag || k.Algorithm != d.Algorithm || misses >= maxDigests {
				continue
			}
			if matches(d, zone, k) {
				vouched = append(vouched, k)
			} else {
				misses++
			}
		}
	}
	return vouched, zoneBit || len(keys) == 0
}

// tags names the keys that DS records are for.
func tags(ds []*wire.DS) string {
	var all []string
	for _, d := range ds[:min(len(ds), maxDS)] {
		all = append(all, strconv.Itoa(int(d.KeyTag)))
	}
	return " (key tag " + strings.Join(all, ", ") + ")"
}

// isWork tells the end of the budget from a fault: it says nothing about the records.
func isWork(err error) bool { return errors.Is(err, ErrWork) }
