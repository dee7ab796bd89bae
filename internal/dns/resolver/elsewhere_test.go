package resolver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/server"
)

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// rbldnsd answers as rbldnsd does: NXDOMAIN for every name that is not listed, those above
// a listed one among them, and never an OPT record.
func rbldnsd(listed string) func(query []byte) [][]byte {
	return func(query []byte) [][]byte {
		var m wire.Msg
		if err := m.Unpack(query); err != nil {
			panic(err)
		}
		var r wire.Msg
		r.SetReply(&m)
		r.Authoritative = true
		if strings.EqualFold(m.Question[0].Name, listed) {
			r.Answer = records(m.Question[0].Name + " 2100 IN A 127.0.0.2")
		} else {
			r.Rcode = wire.RcodeNameError
			r.Ns = records("bl.example.com. 300 IN SOA ns.bl.example.com. hostmaster.bl.example.com. 1 3600 900 604800 300")
		}
		return [][]byte{pack(&r)}
	}
}

// A list behind rbldnsd on this host: names above a listed one are denied, and it is found
// nevertheless, whatever was asked before.
func TestStubOfRbldnsd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "", "", "")
		w.Resolver.Stubs = []Stub{{dns.MustName("bl.example.com"), []netip.AddrPort{at("127.0.0.1:5353")}}}
		w.Resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "127.0.0.1:5353" {
				return newPeer(rbldnsd("2.0.0.127.bl.example.com.")), nil
			}
			return w.Dial(ctx, network, address)
		}
		w.want("0.0.127.bl.example.com A", dns.NXDomain)
		w.want("127.bl.example.com A", dns.NXDomain)
		w.want("2.0.0.127.bl.example.com A", dns.NoError, "A 127.0.0.2")
		w.want("1.0.0.127.bl.example.com A", dns.NXDomain)
		if n := w.Total(); n != 0 {
			t.Errorf("%d questions went to the root and below", n)
		}
	})
}

// Each row is a question, and who is asked: the longest zone among stubs, forwards, local
// data and the world.
func TestElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "example 300 NS ns.example\nns.example 300 A 192.0.2.10\n", "", "")
		w.zone("192.0.2.10", "example.com", soa+"@ 300 NS ns\nns 300 A 192.0.2.10\nwww 300 A 192.0.2.80\ntolocal 300 CNAME db.internal.example.\n")
		w.zone("192.0.2.20", "internal.example", soa+"@ 300 NS ns\nns 300 A 192.0.2.20\nwww 300 A 192.0.2.81\nsub 300 NS ns.sub\nns.sub 300 A 192.0.2.21\ntocom 300 CNAME www.example.com.\n")
		w.zone("192.0.2.21", "sub.internal.example", soa+"@ 300 NS ns\nns 300 A 192.0.2.21\nwww 300 A 192.0.2.82\n")
		w.Set("192.0.2.30", dnstest.Host{Recursion: true, Resolver: &dns.Mux{Zones: map[dns.Name]dns.Resolver{
			dns.MustName("example.org"): dnstest.Zone(t, "example.org", soa+"@ 300 NS ns\nns 300 A 192.0.2.30\nwww 300 A 192.0.2.83\ntocom 300 CNAME www.example.com.\nwww.stub 300 A 192.0.2.84\n"),
		}}})
		w.zone("192.0.2.40", "stub.example.org", soa+"@ 300 NS ns\nns 300 A 192.0.2.40\nwww 300 A 192.0.2.85\n")
		r := w.Resolver
		r.Stubs = []Stub{
			{dns.MustName("internal.example"), []netip.AddrPort{at("192.0.2.20:53")}},
			{dns.MustName("stub.example.org"), []netip.AddrPort{at("192.0.2.40:5300")}},
		}
		r.Forwards = []Forward{{Zone: dns.MustName("example.org"), Servers: []netip.AddrPort{at("192.0.2.30:53")}}}
		r.Local = []Data{
			{dns.MustName("db.internal.example"), records("db.internal.example. 60 IN A 192.0.2.90", "db.internal.example. 60 IN TXT mine")},
			{dns.MustName("toworld.example"), records("toworld.example. 60 IN CNAME www.example.com.")},
		}
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		w.want("www.internal.example A", dns.NoError, "A 192.0.2.81")
		w.want("www.sub.internal.example A", dns.NoError, "A 192.0.2.82") // a referral below a stub is followed
		w.want("gone.internal.example A", dns.NXDomain)
		w.want("tocom.internal.example A", dns.NoError, "CNAME www.example.com.", "A 192.0.2.80")
		w.want("www.example.org A", dns.NoError, "A 192.0.2.83")
		w.want("tocom.example.org A", dns.NoError, "CNAME www.example.com.", "A 192.0.2.80")
		w.want("gone.example.org A", dns.NXDomain)
		w.want("www.example.org MX", dns.NoError)
		w.want("www.stub.example.org A", dns.NoError, "A 192.0.2.85") // the stub's zone is longer than the forward's
		w.want("db.internal.example A", dns.NoError, "A 192.0.2.90")
		w.want("db.internal.example MX", dns.NoError) // no such records here, and nobody is asked
		w.want("toworld.example A", dns.NoError, "CNAME www.example.com.", "A 192.0.2.80")
		w.want("tolocal.example.com A", dns.NoError, "CNAME db.internal.example.", "A 192.0.2.90")
		w.Forget()
		w.want("www.internal.example A", dns.NoError, "A 192.0.2.81")
		w.want("www.example.org A", dns.NoError, "A 192.0.2.83")
		if n := w.Total(); n != 0 {
			t.Errorf("what was known was asked again: %d questions", n)
		}
	})
}

// A switch to forward everything: no root server is ever asked, and whatever is wrong with
// the resolver, the error names it.
func TestForwardEverything(t *testing.T) {
	for _, tt := range []struct {
		why     string
		how     dnstest.Behaviour
		trouble dns.Trouble // 0: the answer
	}{
		{"it answers", dnstest.Honest, 0},
		{"over TCP where the answer is cut", dnstest.Truncating, 0},
		{"silence is our side's trouble", dnstest.Silent, dns.NoNetwork},
		{"so is a closed port", dnstest.Refusing, dns.NoNetwork},
		{"and no route", dnstest.NoRoute, dns.NoNetwork},
		{"it fails", dnstest.Failing, dns.ServerFailed},
		{"it refuses us", dnstest.Lame, dns.ServerFailed},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "", "", "")
				w.Set("127.0.0.53", dnstest.Host{Recursion: true, Behaviour: tt.how, Resolver: dnstest.Zone(t, "example.com", exampleZone)})
				w.Resolver.Forwards = []Forward{{Zone: dns.Root, Servers: []netip.AddrPort{at("127.0.0.53:53")}}}
				if tt.trouble == 0 {
					if a := w.want("www.example.com A", dns.NoError, "A 192.0.2.80"); a.Authentic {
						t.Error("AD of a stranger was believed")
					}
				} else if e := w.wantTrouble("www.example.com A", tt.trouble); !strings.Contains(e.Detail, "forward zone .") || len(e.Attempts) == 0 || e.Attempts[0].Server != at("127.0.0.53:53") {
					t.Errorf("the error does not name the resolver: %v", e)
				}
				if n := len(w.Asked(rootAddr)); n != 0 {
					t.Errorf("the root was asked %d times", n)
				}
			})
		})
	}
}

// A forward's second resolver is asked where the first is silent, and first from then on.
func TestForwardSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "", "", "")
		w.Set("192.0.2.31", dnstest.Host{Recursion: true, Resolver: dnstest.Zone(t, "example.com", exampleZone)})
		w.Resolver.Forwards = []Forward{{Zone: dns.Root, Servers: []netip.AddrPort{at("192.0.2.30:53"), at("192.0.2.31:53")}}}
		w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
	})
}

// Stubs that fail: the class is theirs, and the error names them.
func TestStubTrouble(t *testing.T) {
	for _, tt := range []struct {
		why     string
		how     dnstest.Behaviour
		trouble dns.Trouble
	}{
		{"silence, though the world answers or not", dnstest.Silent, dns.NoReply},
		{"a closed port", dnstest.Refusing, dns.NoReply},
		{"no route to it", dnstest.NoRoute, dns.NoNetwork},
		{"it serves another zone", dnstest.Lame, dns.ServerFailed},
		{"no DNS", dnstest.Garbage, dns.Malformed},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "", "", "")
				w.Set("127.0.0.2", dnstest.Host{Behaviour: tt.how, Resolver: dnstest.Zone(t, "bl.example.com", soa+"@ 300 NS ns\nns 300 A 127.0.0.2\n")})
				w.Resolver.Stubs = []Stub{{dns.MustName("bl.example.com"), []netip.AddrPort{at("127.0.0.2:5353")}}}
				var e *dns.Error
				spent := took(func() { e = w.wantTrouble("2.0.0.127.bl.example.com A", tt.trouble) })
				if !strings.Contains(e.Detail, "stub zone bl.example.com") || len(e.Attempts) == 0 || e.Attempts[0].Server != at("127.0.0.2:5353") {
					t.Errorf("the error does not name the stub: %v", e)
				}
				if spent > 3*time.Second+100*time.Millisecond {
					t.Errorf("it took %v", spent)
				}
			})
		})
	}
}

// secret is a resolver behind TLS.
type secret struct {
	zone        dns.Resolver
	config      *tls.Config
	pool        *x509.CertPool
	connections atomic.Int32
	hangUp      atomic.Bool // after each answer
}

func newSecret(t *testing.T, names ...string) *secret {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, name)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s := &secret{
		zone:   dnstest.Zone(t, "example.com", exampleZone),
		config: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		pool:   x509.NewCertPool(),
	}
	s.pool.AddCert(cert)
	return s
}

func (s *secret) dial(_ context.Context, network, _ string) (net.Conn, error) {
	if network != "tcp" {
		panic("a question in plain text")
	}
	s.connections.Add(1)
	near, far := net.Pipe()
	go s.serve(tls.Server(far, s.config), far)
	return near, nil
}

func (s *secret) serve(conn net.Conn, below net.Conn) {
	defer below.Close()
	var length [2]byte
	for {
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		srv := server.Server{Resolver: s.zone, Recursion: true}
		out := srv.Answer(context.Background(), query, true, at("192.0.2.255:1024"))
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(out))), out...)); err != nil || s.hangUp.Load() {
			return
		}
	}
}

// Over TLS: the certificate must be for the name or the address, one connection serves
// many questions, and one that the server has closed costs no answer.
func TestForwardTLS(t *testing.T) {
	for _, tt := range []struct {
		why   string
		certs []string
		name  string
		fails string
	}{
		{"by address", []string{"192.0.2.53"}, "", ""},
		{"by name", []string{"dns.example.net"}, "dns.example.net", ""},
		{"a certificate for another address", []string{"192.0.2.54"}, "", "192.0.2.53"},
		{"a certificate for another name", []string{"dns.example.org"}, "dns.example.net", "dns.example.net"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSecret(t, tt.certs...)
				f := Forward{Zone: dns.Root, Servers: []netip.AddrPort{at("192.0.2.53:853")}, TLS: true, RootCAs: s.pool}
				if tt.name != "" {
					f.ServerName = dns.MustName(tt.name)
				}
				r := &Resolver{Forwards: []Forward{f}, Dial: s.dial}
				if tt.fails != "" {
					_, err := r.Resolve(t.Context(), question("www.example.com A"))
					if dns.TroubleOf(err) != dns.ServerFailed || !strings.Contains(err.Error(), tt.fails) || !strings.Contains(err.Error(), "over tls: no TLS") {
						t.Errorf("%v", err)
					}
					return
				}
				for _, q := range []string{"www.example.com A", "gone.example.com A", "www.example.com MX"} {
					if _, err := r.Resolve(t.Context(), question(q)); err != nil {
						t.Errorf("%s: %v", q, err)
					}
				}
				if n := s.connections.Load(); n != 1 {
					t.Errorf("%d connections for three questions, want 1", n)
				}
				s.hangUp.Store(true)
				for _, q := range []string{"a.example.com A", "b.example.com A", "c.example.com A"} {
					if _, err := r.Resolve(t.Context(), question(q)); err != nil {
						t.Errorf("%s: %v", q, err)
					}
				}
				for len(r.elsewhere.forwards[dns.Root].secure[at("192.0.2.53:853")].idle) > 0 {
					time.Sleep(idleTLS)
					if c := r.elsewhere.forwards[dns.Root].secure[at("192.0.2.53:853")].take(); c != nil {
						t.Error("an idle connection is still open")
					}
				}
			})
		})
	}
}

// The idle connections have an end in number.
func TestIdleTLS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &tlsServer{}
		var far []net.Conn
		for range maxIdleTLS + 3 {
			near, other := net.Pipe()
			far = append(far, other)
			s.keep(near)
		}
		if len(s.idle) != maxIdleTLS {
			t.Errorf("%d are kept, want %d", len(s.idle), maxIdleTLS)
		}
		s.drop()
		for _, c := range far {
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("a dropped connection is open: %v", err)
			}
		}
	})
}
