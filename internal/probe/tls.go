package probe

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/fetch"
	"mxward/internal/mailauth/tlsa"
)

// handshake takes any certificate and any version: who they are and how old is judged afterwards.
func (v *visit) handshake() bool {
	began := time.Now()
	step := Step{Stage: StageTLS, Lines: []string{}}
	secured := tls.Client(v.conn, v.prober.tlsConfig(v.session.Host))
	err := errors.New("it went on in plain text after STARTTLS")
	if v.replies.Buffered() == 0 { // else who wrote it wants it read as if it came under TLS
		err = secured.HandshakeContext(v.ctx)
	}
	step.TookMS = since(began)
	step.fail(v.ctx, err)
	if step.Trouble == Closed {
		step.Trouble = BadTLS
	}
	v.session.Steps = append(v.session.Steps, step)
	if err != nil {
		return false
	}
	v.session.TLS = v.prober.shown(secured.ConnectionState(), v.session.Began)
	v.over(secured)
	return true
}

func (p *Prober) tlsConfig(host dns.Name) *tls.Config {
	c := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10}
	if !host.IsZero() {
		c.ServerName = host.String() // RFC 7672 §8.1
	}
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		c.CipherSuites = append(c.CipherSuites, suite.ID)
	}
	return c
}

func (p *Prober) shown(state tls.ConnectionState, at time.Time) *TLS {
	t := &TLS{Version: tls.VersionName(state.Version), Cipher: tls.CipherSuiteName(state.CipherSuite), Chain: [][]byte{}}
	for _, suite := range tls.InsecureCipherSuites() {
		t.Weak = t.Weak || suite.ID == state.CipherSuite
	}
	room := maxChainOctets
	for _, c := range state.PeerCertificates[:min(maxChain, len(state.PeerCertificates))] {
		if room -= len(c.Raw); room < 0 {
			break
		}
		t.Chain = append(t.Chain, c.Raw)
	}
	t.Trust = Trusted
	if err := trusted(state.PeerCertificates, p.Roots, at); err != nil {
		t.Trust, t.TrustError = Untrusted, err.Error()
		if fetch.Rootless(p.Roots) {
			t.Trust = NoRoots
		}
	}
	return t
}

// trusted looks for a way to an authority. Names and the dates of the host's own certificate are
// matters of their own.
func trusted(chain []*x509.Certificate, roots *x509.CertPool, at time.Time) error {
	if len(chain) == 0 {
		return errors.New("the host sent no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:min(maxChain, len(chain))] {
		between.AddCert(c)
	}
	leaf := chain[0]
	if at.After(leaf.NotAfter) {
		at = leaf.NotAfter
	}
	if at.Before(leaf.NotBefore) {
		at = leaf.NotBefore
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at})
	return err
}

// Certificates reads the chain.
func (t *TLS) Certificates() []*x509.Certificate {
	var chain []*x509.Certificate
	for _, der := range t.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return chain // it was read when it came: somebody has changed it since
		}
		chain = append(chain, c)
	}
	return chain
}

// Leaf is the host's own certificate; nil where there is none.
func (t *TLS) Leaf() *x509.Certificate {
	if chain := t.Certificates(); len(chain) > 0 {
		return chain[0]
	}
	return nil
}

// Old reports a version that RFC 8996 has taken out of use.
func (t *TLS) Old() bool {
	return t.Version == tls.VersionName(tls.VersionTLS10) || t.Version == tls.VersionName(tls.VersionTLS11)
}

// Dates says why the host's own certificate is not valid at a time, or gives nil.
func (t *TLS) Dates(at time.Time) error {
	leaf := t.Leaf()
	switch {
	case leaf == nil:
		return errors.New("the host sent no certificate")
	case at.After(leaf.NotAfter):
		return fmt.Errorf("it ended on %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case at.Before(leaf.NotBefore):
		return fmt.Errorf("it begins on %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// Name says why the host's own certificate is not for a name, or gives nil.
func (t *TLS) Name(host dns.Name) error {
	leaf := t.Leaf()
	if leaf == nil {
		return errors.New("the host sent no certificate")
	}
	if leaf.VerifyHostname(host.String()) == nil {
		return nil
	}
	const most = 5
	if len(leaf.DNSNames) == 0 {
		return errors.New("it is for no name")
	}
	return fmt.Errorf("it is for %q", leaf.DNSNames[:min(most, len(leaf.DNSNames))])
}

// PKIX says why the chain is not what MTA-STS wants of a host (RFC 8461 §4.2), or gives nil.
func (t *TLS) PKIX(host dns.Name, at time.Time) error {
	if t.Trust != Trusted {
		return errors.New(cmp.Or(t.TrustError, "the chain is not trusted"))
	}
	if err := t.Dates(at); err != nil {
		return err
	}
	return t.Name(host)
}

// ErrName: the TLSA records mean the chain, but it is for another name.
var ErrName = errors.New("the certificate has another name")

// DANE says why the TLSA records mean another chain, or gives nil. The error is ErrName where
// only the name is wrong, which counts for DANE-TA (RFC 7672 §3.2.2).
func (t *TLS) DANE(records []tlsa.Record, at time.Time, names ...dns.Name) error {
	chain := t.Certificates()
	_, err := tlsa.Match(records, chain, at, names...)
	if err == nil || len(chain) == 0 {
		return err
	}
	var own []dns.Name
	for _, text := range chain[0].DNSNames {
		if name, err := dns.ParseName(text); err == nil {
			own = append(own, name)
		}
	}
	if _, other := tlsa.Match(records, chain, at, own...); other == nil {
		return fmt.Errorf("%w: %w", ErrName, err)
	}
	return err
}
