package dnssec

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// TestLargeExponent: keys whose exponent Go's package rsa does not take are valid all the
// same.
func TestLargeExponent(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(private.Primes[0], one), new(big.Int).Sub(private.Primes[1], one))
	e := big.NewInt(1<<32 + 1)
	d := new(big.Int).ModInverse(e, phi)
	for ; d == nil; d = new(big.Int).ModInverse(e, phi) {
		e.Add(e, big.NewInt(2))
	}
	digest := sha256.Sum256([]byte("data"))
	prefix, _ := hex.DecodeString(digestInfo[crypto.SHA256])
	block := slices.Concat([]byte{0, 1}, slices.Repeat([]byte{0xff}, 128-3-len(prefix)-len(digest)), []byte{0}, prefix, digest[:])
	sig := new(big.Int).Exp(new(big.Int).SetBytes(block), d, private.N).FillBytes(make([]byte, 128))
	key := Key{Algorithm: wire.RSASHA256, public: rsaKey{private.N, e}}
	if !key.verify([]byte("data"), sig) {
		t.Error("a good signature is refused")
	}
	if key.verify([]byte("date"), sig) {
		t.Error("another text has the same signature")
	}
	for i := range sig {
		sig[i] ^= 1
		if key.verify([]byte("data"), sig) {
			t.Errorf("a signature with a wrong bit in octet %d is taken", i)
		}
		sig[i] ^= 1
	}
	if key.verify([]byte("data"), sig[1:]) || key.verify([]byte("data"), nil) {
		t.Error("a short signature is taken")
	}
	// Package rsa and our arithmetic agree where both can do it.
	common, err := rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest[:])
	if err != nil || !(rsaKey{private.N, big.NewInt(65537)}).verify(crypto.SHA256, digest[:], common) {
		t.Errorf("a usual exponent: %v", err)
	}
}

// TestKeySizes: RSA keys that are too small or too large count as unknown, and a zone that
// has only such keys as unsigned (RFC 6840 §5.2).
func TestKeySizes(t *testing.T) {
	zone := dns.MustName("example.org")
	for bits, want := range map[int]bool{512: false, 1016: false, 1024: true, 2048: true, 4096: true, 4104: false} {
		n := slices.Repeat([]byte{0xff}, bits/8)
		rr := &wire.DNSKEY{
			Hdr:   wire.RR_Header{Name: "example.org.", Rrtype: wire.TypeDNSKEY, Class: wire.ClassINET},
			Flags: wire.ZONE, Protocol: protocolDNSSEC, Algorithm: wire.RSASHA256,
			PublicKey: base64.StdEncoding.EncodeToString(append([]byte{3, 1, 0, 1}, n...)),
		}
		k := parseKey(rr)
		if k.Supported() != want {
			t.Errorf("%d bits: supported is %v", bits, k.Supported())
		}
		_, _, err := Trust(zone, []dns.RR{digestOf(zone, k)}, Set{Name: zone, Type: dns.Type(wire.TypeDNSKEY), Records: []dns.RR{rr}}, time.Now(), &Work{})
		if errors.Is(err, ErrUnsupported) == want {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
	for name, raw := range map[string][]byte{
		"empty": nil, "no modulus": {1, 3}, "a long exponent": append(append([]byte{9}, slices.Repeat([]byte{0xff}, 9)...), slices.Repeat([]byte{0xff}, 256)...),
		"an even exponent": append([]byte{1, 4}, slices.Repeat([]byte{0xff}, 256)...), "exponent 1": append([]byte{1, 1}, slices.Repeat([]byte{0xff}, 256)...),
		"length in three octets, cut": {0, 1}, "length beyond the end": {0, 0xff, 0xff, 1},
	} {
		if _, ok := parseRSA(raw); ok {
			t.Errorf("%s: taken", name)
		}
	}
}
