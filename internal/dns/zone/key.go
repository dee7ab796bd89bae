package zone

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// The algorithms that a zone can be signed with: those that RFC 9904 lets signers use, and
// RSA/SHA-512 and P-384 for the sake of validators.
const (
	RSASHA256       = wire.RSASHA256
	RSASHA512       = wire.RSASHA512
	ECDSAP256SHA256 = wire.ECDSAP256SHA256
	ECDSAP384SHA384 = wire.ECDSAP384SHA384
	ED25519         = wire.ED25519
)

// rsaBits is the length of RSA keys; RFC 3110 §4.1 and NIST's lower bound agree on it.
const rsaBits = 2048

// Key is a key pair that signs zones. It has no owner: the zone that it signs gives it one.
type Key struct {
	// Entry makes it a key signing key (the SEP flag, RFC 4034 §2.1.1): it signs the
	// DNSKEY records, and the parent's DS record points to it.
	Entry bool

	algorithm uint8
	signer    crypto.Signer
	public    string // as in the DNSKEY record
}

// NewKey makes a key from the system's random numbers.
func NewKey(algorithm uint8) (*Key, error) { return newKey(algorithm, rand.Reader) }

// SeededKey makes the same key for the same seed: for tests and for the lab, whose keys
// protect nothing.
func SeededKey(algorithm uint8, seed uint64) (*Key, error) {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte{algorithm}, seed))
	return newKey(algorithm, mathrand.NewChaCha8(sum))
}

func newKey(algorithm uint8, random io.Reader) (*Key, error) {
	k := &Key{algorithm: algorithm}
	var public []byte
	var err error
	switch algorithm {
	case ED25519: // RFC 8080 §3
		seed := make([]byte, ed25519.SeedSize)
		_, _ = io.ReadFull(random, seed) // neither source ever fails
		private := ed25519.NewKeyFromSeed(seed)
		k.signer, public = private, private.Public().(ed25519.PublicKey)
	case ECDSAP256SHA256:
		k.signer, public, err = ecdsaKey(elliptic.P256(), random)
	case ECDSAP384SHA384:
		k.signer, public, err = ecdsaKey(elliptic.P384(), random)
	case RSASHA256, RSASHA512:
		k.signer, public, err = rsaKey(random)
	default:
		err = errors.New("not an algorithm to sign with")
	}
	if err != nil {
		return nil, fmt.Errorf("make a key of algorithm %d: %w", algorithm, err)
	}
	k.public = base64.StdEncoding.EncodeToString(public)
	return k, nil
}

// ecdsaKey gives a key and its public half as RFC 6605 §4 writes it.
func ecdsaKey(curve elliptic.Curve, random io.Reader) (crypto.Signer, []byte, error) {
	scalar := make([]byte, curve.Params().BitSize/8)
	for {
		_, _ = io.ReadFull(random, scalar)
		private, err := ecdsa.ParseRawPrivateKey(curve, scalar)
		if err != nil {
			continue // zero, or not below the order: a chance of one in 2^32
		}
		point, err := private.PublicKey.Bytes()
		if err != nil {
			return nil, nil, err
		}
		return private, point[1:], nil // without the mark of an uncompressed point
	}
}

// rsaKey gives a key and its public half as RFC 3110 §2 writes it. The standard library
// makes no RSA keys from a seed.
func rsaKey(random io.Reader) (crypto.Signer, []byte, error) {
	if random == rand.Reader {
		private, err := rsa.GenerateKey(random, rsaBits)
		if err != nil {
			return nil, nil, err
		}
		return private, rsaPublic(&private.PublicKey), nil
	}
	const exponent = 65537
	e, one := big.NewInt(exponent), big.NewInt(1)
	p, q := prime(random), prime(random)
	private := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: exponent},
		Primes:    []*big.Int{p, q},
	}
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	if private.D = new(big.Int).ModInverse(e, phi); private.D == nil {
		return nil, nil, errors.New("the exponent has no inverse")
	}
	private.Precompute()
	if err := private.Validate(); err != nil {
		return nil, nil, err
	}
	return private, rsaPublic(&private.PublicKey), nil
}

func prime(random io.Reader) *big.Int {
	buf := make([]byte, rsaBits/16)
	_, _ = io.ReadFull(random, buf)
	buf[0] |= 0xc0 // so that the product has all its bits
	buf[len(buf)-1] |= 1
	p, two := new(big.Int).SetBytes(buf), big.NewInt(2)
	for !p.ProbablyPrime(10) {
		p.Add(p, two)
	}
	return p
}

func rsaPublic(k *rsa.PublicKey) []byte {
	e := big.NewInt(int64(k.E)).Bytes()
	return append(append([]byte{byte(len(e))}, e...), k.N.Bytes()...)
}

// DNSKEY gives the key's record in a zone.
func (k *Key) DNSKEY(origin dns.Name, ttl uint32) *wire.DNSKEY {
	flags := uint16(wire.ZONE)
	if k.Entry {
		flags |= wire.SEP
	}
	return &wire.DNSKEY{
		Hdr:   wire.RR_Header{Name: origin.FQDN(), Rrtype: wire.TypeDNSKEY, Class: wire.ClassINET, Ttl: ttl},
		Flags: flags, Protocol: 3, Algorithm: k.algorithm, PublicKey: k.public,
	}
}

// DS gives the record with which the parent vouches for the key, by SHA-256 (RFC 4509).
func (k *Key) DS(origin dns.Name, ttl uint32) *wire.DS {
	return k.DNSKEY(origin, ttl).ToDS(wire.SHA256)
}

// Sign signs one RRset in the name of a zone. The seconds of the two times count.
func (k *Key) Sign(set []dns.RR, origin dns.Name, inception, expiration time.Time) (*wire.RRSIG, error) {
	owner := set[0].Header().Name
	sig := &wire.RRSIG{
		Hdr:        wire.RR_Header{Ttl: set[0].Header().Ttl}, // RFC 4034 §3
		Algorithm:  k.algorithm,
		KeyTag:     k.DNSKEY(origin, 0).KeyTag(),
		SignerName: origin.FQDN(),
		Inception:  uint32(inception.Unix()),
		Expiration: uint32(expiration.Unix()),
	}
	if strings.HasPrefix(owner, "*") && !strings.HasPrefix(owner, "*.") {
		// The wire library takes it for a wildcard unless the star is escaped.
		escaped := wire.Copy(set[0])
		escaped.Header().Name = `\` + owner
		set = append([]dns.RR{escaped}, set[1:]...)
	}
	if err := sig.Sign(repeatable{k.signer}, set); err != nil {
		return nil, fmt.Errorf("sign %s %s: %w", owner, dns.Type(set[0].Header().Rrtype), err)
	}
	sig.Hdr.Name = owner
	return sig, nil
}

// repeatable signs without random numbers, so that a zone signed twice is the same zone:
// ECDSA then takes its nonce from key and message (RFC 6979 §3.2), and the other
// algorithms need none.
type repeatable struct{ crypto.Signer }

func (r repeatable) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return r.Signer.Sign(nil, digest, opts)
}
