package smtp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/mail"
	"mxward/internal/smtp"
	"mxward/internal/smtp/smtptest"
)

// certificate gives a TLS configuration with a certificate of its own.
func certificate(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"mx.example.com"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func unverified() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// TestStartTLS: both ends of this package, and what each knows afterwards.
func TestStartTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &smtptest.Host{TLS: certificate(t)}
		defer host.Close()
		cfg := clientConfig()
		cfg.TLS = unverified()
		c := connect(t, host, cfg)
		defer c.Close()
		if state, ok := c.TLSState(); !ok || state.Version < tls.VersionTLS12 {
			t.Errorf("TLSState is %v, %v", state.Version, ok)
		}
		if _, ok := c.Extension("STARTTLS"); ok {
			t.Error("STARTTLS is offered again")
		}
		for range 2 {
			if got := brief(c.Send(t.Context(), envelope(t, "a@example.net", "b@example.com"), strings.NewReader("x\r\n"))); got != "delivered dot 250 2.0.0 kept" {
				t.Errorf("got %s", got)
			}
		}
		if m := host.Messages(); len(m) != 2 || !m[1].TLS {
			t.Errorf("the host has %+v", m)
		}
		if text := host.Transcripts()[0]; !strings.HasSuffix(text, "C: STARTTLS\nS: 220 2.0.0 go ahead\n") {
			t.Errorf("the transcript is %q", text)
		}
	})
}

// TestServerStartTLSForgets: after the handshake nothing holds that was said before
// (RFC 3207 §4.2), and what an attacker put behind STARTTLS is gone (CVE-2011-0411).
func TestServerStartTLSForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		client, server := net.Pipe()
		srv := &smtp.Server{Handler: k, Hostname: "mx.example.com", TLS: certificate(t)}
		var wg sync.WaitGroup
		wg.Go(func() { srv.ServeConn(server) })
		smtptest.Script(t, client, 'C', transaction+`
			C: STARTTLS now
			S: 501 5.5.4 …
			C: STARTTLS
			C: EHLO injected.example.net
			C: MAIL FROM:<injected@example.net>
			S: 220 2.0.0 go ahead`)
		secured := tls.Client(client, unverified())
		if err := secured.Handshake(); err != nil {
			t.Fatal(err)
		}
		smtptest.Script(t, secured, 'C', `
			C: MAIL FROM:<a@example.net>
			S: 503 5.5.1 say EHLO first
			C: RCPT TO:<b@example.com>
			S: 503 5.5.1 say MAIL first
			C: EHLO client.example.net
			S: 250-mx.example.com
			S: 250-PIPELINING
			S: 250-SIZE 52428800
			S: 250-8BITMIME
			S: 250-SMTPUTF8
			S: 250-ENHANCEDSTATUSCODES
			S: 250-CHUNKING
			S: 250 DSN
			C: STARTTLS
			S: 503 5.5.1 TLS is on already`+farewell)
		secured.Close()
		wg.Wait()
		if len(k.hellos) != 2 || k.hellos[0].TLS != nil || k.hellos[1].TLS == nil || k.hellos[1].Protocol(false) != "ESMTPS" {
			t.Errorf("got the hellos %+v", k.hellos)
		}
		if len(k.envs) != 1 {
			t.Errorf("got the envelopes %+v", k.envs)
		}
	})
}

// TestClientStartTLSInjection: what a host, or somebody on the way, says in plain text
// behind its 220 must not be read as if it had come under TLS.
func TestClientStartTLSInjection(t *testing.T) {
	against(t, `
		S: 220 mx
		C: EHLO client.example.net
		S: 250-mx
		S: 250 STARTTLS
		C: STARTTLS
		S: 220 go ahead
		S: 250-injected
		S: 250 PIPELINING`, func(t *testing.T, conn net.Conn) {
		cfg := clientConfig()
		cfg.TLS = unverified()
		_, err := smtp.Handshake(t.Context(), conn, cfg)
		if err == nil || !strings.Contains(err.Error(), "starttls: protocol error: the host went on in plain text") {
			t.Errorf("got %v", err)
		}
	})
}

func TestClientStartTLSFails(t *testing.T) {
	const offered = `
		S: 220 mx
		C: EHLO client.example.net
		S: 250-mx
		S: 250 STARTTLS
		C: STARTTLS
	`
	for _, test := range []struct {
		script, then, want string
		after              time.Duration
	}{
		{offered + "S: 454 4.7.0 not now", "", "starttls: the host said 454 4.7.0 not now", 0},
		{offered + "S: 220 go", "this is no TLS\r\n", "starttls: tls handshake: …", 0},
		{offered + "S: 220 go", "", "starttls: tls handshake: …", time.Minute}, // silence
	} {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			var wg sync.WaitGroup
			wg.Go(func() {
				smtptest.Script(t, server, 'S', test.script)
				if test.then != "" {
					// Not before the client has begun: it would take it for an injection.
					smtptest.Script(t, server, 'S', `C= "\x16"`)
				}
				wg.Go(func() { _, _ = io.WriteString(server, test.then) })
				_, _ = io.Copy(io.Discard, server) // the handshake
			})
			cfg := clientConfig()
			cfg.TLS = unverified()
			began := time.Now()
			_, err := smtp.Handshake(t.Context(), client, cfg)
			if err == nil || !matches(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if e, ok := err.(*smtp.Error); !ok || e.Stage != mail.StageStartTLS {
				t.Errorf("got %#v", err)
			}
			if took := time.Since(began); took != test.after {
				t.Errorf("took %s, want %s", took, test.after)
			}
			wg.Wait()
		})
	}
}

// TestServerTLSHandshakeFails: who promises TLS and does not come is let go.
func TestServerTLSHandshakeFails(t *testing.T) {
	for _, said := range []string{"", "C: EHLO client.example.net\n"} {
		synctest.Test(t, func(t *testing.T) {
			k := &keeper{}
			began := time.Now()
			var rest int64
			client, server := net.Pipe()
			srv := &smtp.Server{Handler: k, Hostname: "mx.example.com", TLS: certificate(t)}
			var wg sync.WaitGroup
			wg.Go(func() { srv.ServeConn(server) })
			smtptest.Script(t, client, 'C', opening+"C: STARTTLS\nS: 220 …")
			wg.Go(func() { smtptest.Script(t, client, 'C', said) })
			rest, _ = io.Copy(io.Discard, client)
			wg.Wait()
			if took := time.Since(began); said == "" && took.Round(time.Second) != time.Minute {
				t.Errorf("took %s", took)
			}
			if e := k.end(t); e.Err == nil || !strings.Contains(e.Err.Error(), "tls handshake") {
				t.Errorf("got the end %+v, after %d octets", e, rest)
			}
		})
	}
}
