package tlsa

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"mxward/internal/dns"
)

// maxChain bounds the certificates of a server that are looked at.
const maxChain = 16

// ErrMismatch: no record means the server's certificate.
var ErrMismatch = errors.New("no TLSA record matches the certificate")

// Match says which of the records means the chain that a server sent, its own certificate
// first. The zero Record and nil mean that none can be used, so that any chain will do
// (RFC 7672 §2.2). The error wraps ErrMismatch and says why for each record.
//
// Names are those by which the server may call itself: the base of the records, and where the
// MX records are secure the domain too (RFC 7672 §3.2.2). They and the dates count for DANE-TA
// alone: a DANE-EE record means the key whatever else the certificate says (RFC 7671 §5.1).
func Match(records []Record, chain []*x509.Certificate, now time.Time, names ...dns.Name) (Record, error) {
	count := usable(records)
	if len(count) == 0 {
		return Record{}, nil
	}
	if len(chain) == 0 || len(chain) > maxChain {
		return Record{}, fmt.Errorf("%w: the server sent %d certificates", ErrMismatch, len(chain))
	}
	// DANE-EE first: it costs no signatures.
	slices.SortStableFunc(count, func(a, b Record) int { return int(b.Usage) - int(a.Usage) })
	var why []string
	for _, r := range count {
		err := r.match(chain, now, names)
		if err == nil {
			return r, nil
		}
		why = append(why, fmt.Sprintf("%d %d %d: %v", r.Usage, r.Selector, r.Matching, err))
	}
	return Record{}, fmt.Errorf("%w: %s", ErrMismatch, strings.Join(slices.Compact(why), "; "))
}

func (r Record) match(chain []*x509.Certificate, now time.Time, names []dns.Name) error {
	if r.Usage == DANEEE {
		if !r.matches(chain[0]) {
			return errors.New("the server has another certificate or key")
		}
		return nil
	}
	anchors := r.anchors(chain)
	if len(anchors) == 0 {
		if r.matches(chain[0]) {
			return errors.New("it means the server's own certificate, which DANE-TA cannot: publish it with usage 3")
		}
		return errors.New("the authority that it means is not in the chain that the server sent (RFC 7671 §5.2.2)")
	}
	if err := verify(chain, anchors, now); err != nil {
		return err
	}
	for _, name := range names {
		if chain[0].VerifyHostname(name.String()) == nil {
			return nil
		}
	}
	return fmt.Errorf("the certificate is for %v, not for %v (RFC 7671 §5.2)", chain[0].DNSNames[:min(5, len(chain[0].DNSNames))], names)
}

// anchors gives the authorities that a DANE-TA record means: above the server's own
// certificate in the chain, or in the record itself where it is whole (RFC 7671 §5.2.2,
// §5.2.3), so that the server need not send it.
func (r Record) anchors(chain []*x509.Certificate) []*x509.Certificate {
	var anchors []*x509.Certificate
	for _, c := range chain[1:] {
		if r.matches(c) {
			anchors = append(anchors, c)
		}
	}
	if len(anchors) > 0 || r.Matching != Full {
		return anchors
	}
	if r.Selector == Cert {
		if c, err := x509.ParseCertificate([]byte(r.Data)); err == nil {
			anchors = append(anchors, c)
		}
		return anchors
	}
	for _, c := range chain {
		if a := bareAnchor([]byte(r.Data), c); a != nil {
			anchors = append(anchors, a)
		}
	}
	return anchors
}

// bareAnchor makes an authority of a bare public key, if it has signed the certificate: by
// its key alone, so it has the name of the issuer and no dates.
func bareAnchor(spki []byte, signed *x509.Certificate) *x509.Certificate {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil
	}
	algorithm := signed.SignatureAlgorithm
	a := &x509.Certificate{
		Version: 3, Raw: append([]byte("bare key"), signed.RawIssuer...),
		RawSubject: signed.RawIssuer, Subject: signed.Issuer, RawIssuer: signed.RawIssuer, SubjectKeyId: signed.AuthorityKeyId,
		RawSubjectPublicKeyInfo: spki, PublicKey: key, PublicKeyAlgorithm: keyAlgorithm(algorithm),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, MaxPathLen: -1,
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
	}
	if signed.CheckSignatureFrom(a) != nil {
		return nil
	}
	return a
}

func keyAlgorithm(a x509.SignatureAlgorithm) x509.PublicKeyAlgorithm {
	switch a {
	case x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
		return x509.ECDSA
	case x509.PureEd25519:
		return x509.Ed25519
	}
	return x509.RSA
}

// verify looks for a way from the server's certificate to one of the anchors.
func verify(chain, anchors []*x509.Certificate, now time.Time) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, a := range anchors {
		roots.AddCert(a)
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// Config gives the TLS configuration for the host: a copy of base that takes the chain that
// the duty wants and no other. Names are those of Match beside r.Base. base may be nil. A
// result whose duty is to delay takes no chain at all.
func (r Result) Config(base *tls.Config, names ...dns.Name) *tls.Config {
	c := base.Clone()
	if c == nil {
		c = &tls.Config{}
	}
	c.ServerName = r.Base.String()                     // RFC 7672 §8.1
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12) // RFC 8996
	if r.Duty() == Opportunistic {
		return c
	}
	names = append([]dns.Name{r.Base}, names...)
	c.InsecureSkipVerify = true // VerifyConnection verifies, in its own way
	c.VerifyConnection = func(state tls.ConnectionState) error {
		if r.State != Secure {
			return r.Err
		}
		_, err := Match(r.Records, state.PeerCertificates, time.Now(), names...)
		return err
	}
	return c
}
