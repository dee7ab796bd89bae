package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// GenerateRSA makes a private key of 2048, 3072 or 4096 bits. A record for 2048 fits into a
// DNS answer over UDP; the larger ones may not.
func GenerateRSA(bits int) (*rsa.PrivateKey, error) {
	if !slices.Contains([]int{2048, 3072, 4096}, bits) {
		return nil, fmt.Errorf("an RSA key of %d bits: expected 2048, 3072 or 4096", bits)
	}
	return rsa.GenerateKey(rand.Reader, bits)
}

// GenerateEd25519 makes a private key. Many receivers cannot verify its signatures: sign
// with an RSA key as well (RFC 8463 §3).
func GenerateEd25519() (ed25519.PrivateKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	return private, err
}

// KeyOf gives the record to publish for a private key: *rsa.PrivateKey, ed25519.PrivateKey,
// or another Signer with such a public key.
func KeyOf(private crypto.Signer) (Key, error) {
	switch public := private.Public().(type) {
	case *rsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return Key{}, fmt.Errorf("write the public key: %w", err)
		}
		return Key{Version: true, Type: RSA, Public: der}, nil
	case ed25519.PublicKey:
		return Key{Version: true, Type: Ed25519, Public: public}, nil
	default:
		return Key{}, fmt.Errorf("DKIM has no keys of the type %T: use RSA or Ed25519", public)
	}
}

// The types of PEM blocks.
const (
	pemPKCS8 = "PRIVATE KEY"
	pemPKCS1 = "RSA PRIVATE KEY"
)

// MarshalPrivate gives a private key as PEM, in PKCS #8, which opendkim, rspamd and OpenSSL
// read.
func MarshalPrivate(private crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("write the private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPKCS8, Bytes: der}), nil
}

// ParsePrivate reads a private key from PEM: PKCS #8, or PKCS #1 for RSA (RFC 8017), as
// opendkim-genkey wrote it for long.
func ParsePrivate(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("read a private key: no PEM block was found, expected -----BEGIN PRIVATE KEY-----")
	}
	var key any
	var err error
	switch block.Type {
	case pemPKCS8:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case pemPKCS1:
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("read a private key: expected a PEM block %q or %q, got %q", pemPKCS8, pemPKCS1, block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("read a private key: what stands in the PEM block %q is damaged, or none", block.Type)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("read a private key: expected RSA or Ed25519, got a key that cannot sign")
	}
	if _, err := KeyOf(signer); err != nil {
		return nil, err
	}
	return signer, nil
}
