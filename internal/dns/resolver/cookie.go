package resolver

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"
	"time"

	wire "github.com/miekg/dns"
)

// The lengths of cookies: RFC 7873 §4.
const (
	clientCookieSize = 8
	minServerCookie  = 8
	maxServerCookie  = 32
	maxCookie        = clientCookieSize + maxServerCookie
)

// clientFor is how long a client cookie serves before our address is looked at again.
const clientFor = time.Minute

// cookies gives our cookie for a server, and what it sent us last, empty for nothing.
func (s *servers) cookies(server netip.AddrPort, conn net.Conn) (client [clientCookieSize]byte, theirs string) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state(server)
	if !st.clientUntil.After(now) {
		st.client, st.clientUntil = s.clientCookie(server, conn.LocalAddr()), now.Add(clientFor)
	}
	return st.client, st.cookie
}

// clientCookie makes the cookie for one server as seen from one of our addresses, so that
// nobody can follow us from server to server or from network to network (RFC 9018 §3). The
// hash is keyed by a secret of this process, and its inputs have one length.
func (s *servers) clientCookie(server netip.AddrPort, local net.Addr) [clientCookieSize]byte {
	s.secretOnce.Do(func() { rand.Read(s.secret[:]) }) // never fails: crypto/rand
	var in [64]byte
	copy(in[:], s.secret[:])
	remote := server.Addr().As16()
	copy(in[32:], remote[:])
	if udp, ok := local.(*net.UDPAddr); ok {
		copy(in[48:], udp.IP.To16())
	} else if tcp, ok := local.(*net.TCPAddr); ok {
		copy(in[48:], tcp.IP.To16())
	}
	sum := sha256.Sum256(in[:])
	return [clientCookieSize]byte(sum[:])
}

// baked remembers the server's cookie, or that it has none.
func (s *servers) baked(server netip.AddrPort, cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.m[server]; st != nil || cookie != "" {
		s.state(server).cookie = cookie
	}
}

// flattens notes a server that does not repeat the case of letters.
func (s *servers) flattens(server netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state(server).flat = time.Now().Add(flatFor)
}

// wantsWhole notes a server that fails where it is asked for a part of a name.
func (s *servers) wantsWhole(server netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state(server).whole = time.Now().Add(wholeFor)
}

// manners is how a server wants to be asked.
type manners struct{ edns, mixed, parts bool }

func (s *servers) manners(server netip.AddrPort) manners {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.m[server]
	if st == nil {
		return manners{true, true, true}
	}
	now := time.Now()
	return manners{!st.noEDNS.After(now), !st.flat.After(now), !st.whole.After(now)}
}

// cookieIn gives the cookie option of a message, nil if it has none.
func cookieIn(m *wire.Msg) []byte {
	opt := m.IsEdns0()
	if opt == nil {
		return nil
	}
	for _, o := range opt.Option {
		if c, ok := o.(*wire.EDNS0_COOKIE); ok {
			if b, err := hex.DecodeString(c.Cookie); err == nil {
				return b
			}
		}
	}
	return nil
}

// serverCookie gives the server's part of the cookie, if it has a lawful length.
func serverCookie(m *wire.Msg) string {
	c := cookieIn(m)
	if len(c) < clientCookieSize+minServerCookie || len(c) > maxCookie {
		return ""
	}
	return string(c[clientCookieSize:])
}

// tastes reports whether the reply's cookie is what it has to be: it begins with ours, and
// over UDP a server that has sent one before sends one again (RFC 7873 §5.3).
func (q *query) tastes(m *wire.Msg) bool {
	if len(q.client) == 0 || m.Truncated { // a truncated reply ends before its OPT record
		return true
	}
	c := cookieIn(m)
	if c == nil {
		return !q.known || q.proto == "tcp"
	}
	return bytes.HasPrefix(c, q.client)
}
