package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"

	"mxward/internal/site"
)

// certificate reads the host's certificate, or makes one. MX hosts are met with
// opportunistic TLS (RFC 7435), so a self-signed certificate serves until the plan has a
// better one; it lives as long as the process.
func certificate(h site.Host) (tls.Certificate, error) {
	if h.Cert != "" {
		cert, err := tls.LoadX509KeyPair(h.Cert, h.Key)
		if err != nil {
			return cert, fmt.Errorf("read the certificate of %s: %w", h.Name, err)
		}
		return cert, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a key for %s: %w", h.Name, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate for %s: %w", h.Name, err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: h.Name.String()},
		DNSNames:     []string{h.Name.String()},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate for %s: %w", h.Name, err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
