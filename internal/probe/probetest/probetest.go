// Package probetest is mail hosts that do as they are told, without sockets: what a visitor can
// meet. Tests use it, also inside a bubble of testing/synctest.
package probetest

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// What stands in Host.Says in place of a reply.
const (
	Hang = "hang" // it says nothing more
	Drop = "drop" // it hangs up
)

// Host is one mail host. The zero value greets, and takes no mail of strangers' domains.
type Host struct {
	Name string // by which it calls itself; "" is mx1.example.com
	// Says are replies, without the last CRLF, that differ, by "greeting" or the command's first
	// word; "EHLO2" is the one under TLS.
	Says map[string]string
	Slow map[string]time.Duration // before a reply
	Pace time.Duration            // before each octet
	TLS  *tls.Config              // nil: no STARTTLS
	// Garbled: it says rubbish in place of a TLS handshake.
	Garbled bool
	Err     error // why nobody can connect; ErrLost for silence

	mu   sync.Mutex
	said []string
}

// ErrLost stands for packets that get lost.
var ErrLost = syscall.ETIMEDOUT

// Said gives the commands that came.
func (h *Host) Said() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.said...)
}

// Net is hosts by address. Where nobody is, packets get lost.
type Net map[string]*Host

// Dial has the signature of net.Dialer.DialContext.
func (n Net) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	at := netip.MustParseAddrPort(address)
	h := n[at.Addr().String()]
	switch {
	case h == nil || h.Err == ErrLost:
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
	case h.Err != nil:
		return nil, &net.OpError{Op: "dial", Net: network, Err: h.Err}
	}
	near, far := net.Pipe()
	go h.serve(far)
	return placed{near}, nil
}

// Serve speaks to whoever connects to a listener, until that is closed.
func (h *Host) Serve(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go h.serve(conn)
	}
}

// placed is a connection from somewhere.
type placed struct{ net.Conn }

func (placed) LocalAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort("203.0.113.99:1024"))
}

// serve speaks until the visitor or the script ends it.
func (h *Host) serve(conn net.Conn) {
	defer func() { conn.Close() }()
	lines := bufio.NewReader(conn)
	secured := false
	if !h.reply(conn, "greeting", "220 "+h.name()+" ESMTP") {
		return
	}
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		h.note(line)
		verb, _, _ := strings.Cut(line, " ")
		usual := "250 ok"
		switch verb {
		case "EHLO":
			usual = "250-" + h.name() + " greets you\r\n250 8BITMIME"
			if h.TLS != nil && !secured {
				usual += "\r\n250 STARTTLS"
				usual = strings.Replace(usual, "250 8BITMIME", "250-8BITMIME", 1)
			}
			if secured {
				verb = "EHLO2"
			}
		case "STARTTLS":
			usual = "220 go ahead"
		case "RCPT":
			usual = "554 5.7.1 relay access denied"
		case "QUIT":
			usual = "221 bye"
		}
		if !h.reply(conn, verb, usual) || verb == "QUIT" {
			return
		}
		if said := h.Says[verb]; verb == "STARTTLS" && (said == "" || strings.HasPrefix(said, "220")) {
			if h.Garbled {
				go func() { _, _ = io.Copy(io.Discard, conn) }()
				_, _ = conn.Write([]byte("this is no TLS at all, and long enough\r\n"))
				return
			}
			over := tls.Server(conn, h.TLS)
			if over.Handshake() != nil {
				return
			}
			conn, lines, secured = over, bufio.NewReader(over), true
		}
	}
}

func (h *Host) note(line string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, line)
}

func (h *Host) name() string {
	if h.Name == "" {
		return "mx1.example.com"
	}
	return h.Name
}

// reply says what is due; false is the end.
func (h *Host) reply(conn net.Conn, at, usual string) bool {
	time.Sleep(h.Slow[at])
	text := usual
	if said, ok := h.Says[at]; ok {
		text = said
	}
	switch text {
	case Drop:
		return false
	case Hang:
		_, _ = conn.Read(make([]byte, 1)) // until the visitor goes
		return false
	}
	text += "\r\n"
	if h.Pace == 0 {
		_, err := conn.Write([]byte(text))
		return err == nil
	}
	for i := range text {
		time.Sleep(h.Pace)
		if _, err := conn.Write([]byte{text[i]}); err != nil {
			return false
		}
	}
	return true
}

// Authority makes certificates.
type Authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes one that nobody knows but who asks for its Roots.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-24 * 3650 * time.Hour), NotAfter: time.Now().Add(24 * 3650 * time.Hour),
	}
	a.cert, a.key = a.sign(template, nil, nil)
	return a
}

// Roots are the authority alone.
func (a *Authority) Roots() *x509.CertPool {
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return roots
}

// Stranger is another authority.
func (a *Authority) Stranger() *Authority { return NewAuthority(a.t) }

// Cert is the authority's own.
func (a *Authority) Cert() *x509.Certificate { return a.cert }

// Server is the TLS of a host with a certificate for the names that ends after so long; the
// authority's own certificate comes with it.
func (a *Authority) Server(lasts time.Duration, names ...string) *tls.Config {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: names, NotBefore: time.Now().Add(lasts - 90*24*time.Hour), NotAfter: time.Now().Add(lasts),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	leaf, key := a.sign(template, a.cert, a.key)
	return &tls.Config{MinVersion: tls.VersionTLS10, Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw, a.cert.Raw}, PrivateKey: key, Leaf: leaf}}}
}

// Chosen is the TLS of a host that has a certificate for each of the names, and shows whoever asks
// by one (SNI) that one's; whoever asks by none, or another, the first.
func (a *Authority) Chosen(lasts time.Duration, names ...string) *tls.Config {
	a.t.Helper()
	all := map[string]*tls.Config{}
	for _, name := range names {
		all[name] = a.Server(lasts, name)
	}
	first := all[names[0]].Clone()
	first.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) { return all[hello.ServerName], nil }
	return first
}

func (a *Authority) sign(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}
