package probe

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/mailauth/tlsa"
	"mxward/internal/probe/probetest"
)

// TestDemandSTS: what a sender that heeds MTA-STS would make of a host.
func TestDemandSTS(t *testing.T) {
	policy := func(mode mtasts.Mode, mx string) *mtasts.Survey {
		p, err := mtasts.ParsePattern(mx)
		if err != nil {
			t.Fatal(err)
		}
		return &mtasts.Survey{Fetched: mtasts.Fetched{Policy: mtasts.Policy{Mode: mode, MX: []mtasts.Pattern{p}}}}
	}
	for _, row := range []struct {
		why       string
		survey    *mtasts.Survey
		names     string // of the certificate; "" for no TLS
		satisfied bool
		want      string
	}{
		{"no policy", &mtasts.Survey{RecordErr: &mtasts.Error{Class: mtasts.ErrNone}}, "", true, "MTA-STS: no policy"},
		{"nobody can tell", &mtasts.Survey{RecordErr: &mtasts.Error{Class: mtasts.ErrTemporary, Fault: "ask"}}, host, false, "MTA-STS: unknown: "},
		{"a policy that cannot be had", &mtasts.Survey{PolicyErr: &mtasts.Error{Class: mtasts.ErrPermanent, Fault: "no"}}, host, true, "MTA-STS: unusable: "},
		{"met", policy(mtasts.Enforce, host), host, true, "MTA-STS (enforce): the policy names the host, and its certificate is valid"},
		{"taken back", policy(mtasts.None, "mx9.example.com"), "", true, "MTA-STS (none): "},
		{"another host", policy(mtasts.Enforce, "mx9.example.com"), host, false, "MTA-STS (enforce): not met: the policy does not name the host"},
		{"another name", policy(mtasts.Testing, host), "www.example.com", false, "MTA-STS (testing): not met: the certificate: it is for"},
		{"no TLS", policy(mtasts.Enforce, host), "", false, "MTA-STS (enforce): not met: there was no TLS: the host does not offer it"},
	} {
		t.Run(row.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := probetest.NewAuthority(t)
				s := visitTo(t, hostOf(ca, row.names), Prober{Roots: ca.Roots()})
				d := DemandSTS(row.survey, s, s.Began)
				if d.Satisfied != row.satisfied || !strings.HasPrefix(d.String(), row.want) {
					t.Errorf("%t, %s", d.Satisfied, d)
				}
			})
		})
	}
}

func hostOf(ca *probetest.Authority, names string) *probetest.Host {
	if names == "" {
		return &probetest.Host{}
	}
	return &probetest.Host{TLS: ca.Server(60*24*time.Hour, names)}
}

// TestDemandDANE: what a sender that heeds DANE would make of a host.
func TestDemandDANE(t *testing.T) {
	name := dns.MustName(host)
	other := tlsa.Record{Usage: tlsa.DANEEE, Selector: tlsa.SPKI, Matching: tlsa.SHA256, Data: strings.Repeat("x", 32)}
	for _, row := range []struct {
		why       string
		state     tlsa.State
		record    func(ca, leaf *x509.Certificate) tlsa.Record
		plain     bool
		satisfied bool
		want      string
	}{
		{"denied", tlsa.Denied, nil, true, true, "DANE: no demand: denied"},
		{"trouble", tlsa.Trouble, nil, false, false, "DANE: not met: no answer"},
		{"met", tlsa.Secure, func(_, leaf *x509.Certificate) tlsa.Record { return tlsa.Of(leaf, 3, 1, 1) }, false, true, "DANE: one of 1 TLSA records means the certificate"},
		{"met by an authority", tlsa.Secure, func(ca, _ *x509.Certificate) tlsa.Record { return tlsa.Of(ca, 2, 0, 1) }, false, true, "DANE: one of 1"},
		{"another key", tlsa.Secure, func(_, _ *x509.Certificate) tlsa.Record { return other }, false, false, "DANE: not met: "},
		{"unusable", tlsa.Secure, func(_, leaf *x509.Certificate) tlsa.Record { return tlsa.Of(leaf, 1, 1, 1) }, false, true, "DANE: none of 1 TLSA records can be used"},
		{"unusable, and no TLS", tlsa.Secure, func(_, leaf *x509.Certificate) tlsa.Record { return tlsa.Of(leaf, 1, 1, 1) }, true, false, "DANE: not met: there was no TLS"},
	} {
		t.Run(row.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := probetest.NewAuthority(t)
				h := hostOf(ca, host)
				r := tlsa.Result{Host: name, Base: name, State: row.state}
				if row.record != nil {
					r.Records = []tlsa.Record{row.record(ca.Cert(), h.TLS.Certificates[0].Leaf)}
				}
				if row.state == tlsa.Trouble {
					r.Err = errors.New("no answer")
				}
				if row.plain {
					h.TLS = (*tls.Config)(nil)
				}
				s := visitTo(t, h, Prober{})
				d := DemandDANE(r, s, s.Began)
				if d.Satisfied != row.satisfied || !strings.HasPrefix(d.String(), row.want) || d.Records == nil {
					t.Errorf("%t, %s", d.Satisfied, d)
				}
			})
		})
	}
}
