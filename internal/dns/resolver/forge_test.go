package resolver

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// forgers puts a peer in the way of everything that goes to com's server over UDP. Over TCP
// the real server is there, or what tcp gives.
func (w *world) forgers(say func(q []byte) [][]byte, tcp error) {
	w.zone(comAddr, "com", soa+"@ NS ns\nns A 192.0.2.2\nwww 60 A 192.0.2.80\n* 60 A 192.0.2.81\n")
	w.Resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		switch {
		case !strings.HasPrefix(address, comAddr+":"):
			return w.Dial(ctx, network, address)
		case network == "udp":
			return newPeer(say), nil
		case tcp != nil:
			return nil, &net.OpError{Op: "dial", Net: network, Err: tcp}
		}
		return w.Dial(ctx, network, address)
	}
}

// forgersAt puts a peer in the place of one server, over UDP.
func (w *world) forgersAt(at string, say func(q []byte) [][]byte) {
	w.Resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if network == "udp" && strings.HasPrefix(address, at+":") {
			return newPeer(say), nil
		}
		return w.Dial(ctx, network, address)
	}
}

const (
	good   = "www.com. 60 A 192.0.2.80"
	forged = "www.com. 60 A 203.0.113.66"
)

// Unreadable datagrams before the real reply do no harm, whatever they are.
func TestStrays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "", "", "")
		w.forgers(func(q []byte) [][]byte {
			forged := answerTo(q, forged)
			return [][]byte{
				{}, {1, 2, 3}, // no DNS
				append(forged[:len(forged):len(forged)], 0),      // bytes after the end
				forged[:len(forged)-1],                           // cut
				mangled(forged, 7, func(byte) byte { return 2 }), // a count that lies
				answerTo(q, good),
			}
		}, nil)
		w.want("www.com A", dns.NoError, "A 192.0.2.80")
		if s := w.Resolver.Stats(); s.Strays != 5 || s.NearMisses != 0 || s.TCP != 0 {
			t.Errorf("%+v, want 5 datagrams dropped, no near miss", s)
		}
	})
}

// Each row is a datagram as somebody sends who guesses. One is enough: the question goes
// on over TCP, and what comes over UDP then, be it right, is of no interest.
func TestNearMiss(t *testing.T) {
	for _, tt := range []struct {
		why string
		bad func(forged []byte) []byte
	}{
		{"another ID", func(b []byte) []byte { return mangled(b, 0, func(b byte) byte { return b + 1 }) }},
		{"a question", func(b []byte) []byte { return mangled(b, 2, func(b byte) byte { return b &^ 0x80 }) }},
		{"another opcode", func(b []byte) []byte { return mangled(b, 2, func(b byte) byte { return b | 0x28 }) }},
		{"another name", func(b []byte) []byte { return mangled(b, headerSize+1, func(byte) byte { return 'z' }) }},
		{"another type", func(b []byte) []byte { return mangled(b, headerSize+10, func(byte) byte { return 16 }) }},
		{"no question", func(b []byte) []byte { return mangled(b, 5, func(byte) byte { return 0 }) }},
		{"another case", func(b []byte) []byte {
			for i := range 7 {
				b = mangled(b, headerSize+1+i, func(b byte) byte {
					if b < 'A' {
						return b
					}
					return b ^ 0x20
				})
			}
			return b
		}},
		{"a long one", func([]byte) []byte { return make([]byte, maxDatagram+1) }},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "", "", "")
				w.forgers(func(q []byte) [][]byte { return [][]byte{tt.bad(answerTo(q, forged)), answerTo(q, forged)} }, nil)
				w.want("www.com A", dns.NoError, "A 192.0.2.80")
				asked := w.Asked(comAddr)
				if len(asked) != 1 || asked[0].Network != "tcp" {
					t.Errorf("asked: %v, want once over TCP", asked)
				}
				if s := w.Resolver.Stats(); s.Strays != 1 || s.NearMisses != 1 || s.TCP != 1 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// A flood of guesses, while TCP is closed: the question is asked once more from a new port,
// reads a bounded number of datagrams, and believes only the one that fits.
func TestForgeryFlood(t *testing.T) {
	for _, tt := range []struct {
		why     string
		guesses int
		trouble dns.Trouble
	}{
		{"the reply is among them", 60, 0},
		{"the reply never comes", maxStrays, dns.Malformed},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "", "", "")
				ids := map[[2]byte]bool{}
				w.forgers(func(q []byte) [][]byte {
					ids[[2]byte(q)] = true
					var all [][]byte
					for i := range tt.guesses {
						all = append(all, mangled(answerTo(q, forged), 1, func(b byte) byte { return b + 1 + byte(i) }))
					}
					if tt.trouble == 0 {
						all = append(all, answerTo(q, good))
					}
					return all
				}, syscall.ECONNREFUSED)
				if tt.trouble == 0 {
					w.want("www.com A", dns.NoError, "A 192.0.2.80")
				} else {
					w.wantTrouble("www.com A", tt.trouble)
				}
				s := w.Resolver.Stats()
				if s.NearMisses < 20 || s.Strays > maxStrays+1 || s.Packets > 6 || len(ids) != 2 {
					t.Errorf("%+v, %d IDs", s, len(ids))
				}
			})
		})
	}
}

// Each question goes out with an ID and a case of its own.
func TestRandomQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "", "", "")
		ids, names := map[string]bool{}, map[string]bool{}
		w.forgers(func(q []byte) [][]byte {
			ids[string(q[:2])] = true
			names[string(q[headerSize:headerSize+30])] = true
			return [][]byte{answerTo(q, "a-long-name-with-many-letters-"+"x.com. 0 A 192.0.2.80")}
		}, nil)
		for range 100 {
			w.want("a-long-name-with-many-letters-x.com A", dns.NoError, "A 192.0.2.80")
		}
		if len(ids) < 95 || len(names) < 95 { // one in 10^12 runs and fewer
			t.Errorf("%d IDs and %d spellings in 100 questions", len(ids), len(names))
		}
	})
}

// A server that gives the question back in lower case is asked over TCP, and the next time
// without random case; one without TCP as well is asked once more over UDP.
func TestFlatServer(t *testing.T) {
	for _, tcp := range []error{nil, syscall.ECONNREFUSED} {
		t.Run(fmt.Sprint("TCP: ", tcp), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "", "", "")
				mixed := 0
				w.forgers(func(q []byte) [][]byte {
					if !bytes.Equal(q, flat(q)) {
						mixed++
					}
					return [][]byte{flat(answerTo(q, "many-letters-of-a-name-n1.com. 60 A 192.0.2.81"))}
				}, tcp)
				if tcp == nil { // over TCP in lower case too
					dial := w.Resolver.Dial
					w.Resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
						if network != "tcp" {
							return dial(ctx, network, address)
						}
						near, far := net.Pipe()
						go serveFlat(far)
						return near, nil
					}
				}
				w.want("many-letters-of-a-name-n1.com A", dns.NoError, "A 192.0.2.81")
				if s := w.Resolver.Stats(); mixed == 0 || s.NearMisses != 1 {
					t.Fatalf("mixed case in %d questions, %+v", mixed, s)
				}
				before := w.Resolver.Stats()
				w.Resolver.Flush(dns.MustName("many-letters-of-a-name-n1.com"))
				w.want("many-letters-of-a-name-n1.com A", dns.NoError, "A 192.0.2.81")
				if s := w.Resolver.Stats(); s.NearMisses != before.NearMisses || s.Packets != before.Packets+1 {
					t.Errorf("it was not remembered: %+v after %+v", s, before)
				}
			})
		})
	}
}

// flat puts the question of a message into lower case.
func flat(b []byte) []byte {
	b = slices.Clone(b)
	for i := headerSize; b[i] != 0; i++ {
		b[i] = lowerLetter(b[i])
	}
	return b
}

// serveFlat answers one question over TCP in lower case.
func serveFlat(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, 1024)
	n, err := conn.Read(buf)
	if err != nil {
		return
	}
	a := flat(answerTo(buf[2:n], "many-letters-of-a-name-n1.com. 60 A 192.0.2.81"))
	_, _ = conn.Write(append([]byte{byte(len(a) >> 8), byte(len(a))}, a...))
}

// Owners come back in lower case, though the server compresses them into our question.
func TestCaseStaysInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := exampleWorld(t)
		answer := w.want("www.example.com A", dns.NoError, "A 192.0.2.80")
		if owner := answer.Answer[0].Header().Name; owner != "www.example.com." {
			t.Errorf("owner %s", owner)
		}
		answer = w.want("example.com MX", dns.NoError, "MX 10 mx.example.com.")
		if owner := answer.Answer[0].Header().Name; owner != "example.com." {
			t.Errorf("owner %s", owner)
		}
	})
}

// baker is a server with cookies (RFC 7873 §5.2), as far as its fields let it.
type baker struct {
	t      *testing.T
	server []byte // its cookie
	got    [][]byte
	strict int // so many questions get BADCOOKIE, whatever they hold
	spoil  func(cookie []byte) []byte
}

func (b *baker) answer(q []byte) [][]byte {
	var m wire.Msg
	if err := m.Unpack(q); err != nil {
		b.t.Error(err)
	}
	cookie := cookieIn(&m)
	b.got = append(b.got, cookie)
	if len(cookie) < clientCookieSize {
		b.t.Errorf("a question with the cookie %x", cookie)
		return nil
	}
	reply := new(wire.Msg).SetReply(&m)
	reply.Authoritative = true
	reply.SetEdns0(ednsSize, false)
	ours := append(slices.Clone(cookie[:clientCookieSize]), b.server...)
	if b.spoil != nil {
		ours = b.spoil(ours)
	}
	if ours != nil {
		reply.IsEdns0().Option = append(reply.IsEdns0().Option, &wire.EDNS0_COOKIE{Code: wire.EDNS0COOKIE, Cookie: hex.EncodeToString(ours)})
	}
	if b.strict--; b.strict >= 0 {
		reply.Rcode = wire.RcodeBadCookie
	} else {
		reply.Answer = records(m.Question[0].Name + " 60 A 192.0.2.80")
	}
	return [][]byte{pack(reply)}
}

func TestCookies(t *testing.T) {
	for _, tt := range []struct {
		why        string
		strict     int                        // of the first questions
		spoil      func(cookie []byte) []byte // from the second question on
		udp        int                        // datagrams for two questions
		tcp, known bool
	}{
		{"a cookie is sent back", 0, nil, 2, false, true},
		{"BADCOOKIE: once more with the new one", 1, nil, 3, false, true},
		{"BADCOOKIE again: TCP", 2, nil, 3, true, true},
		{"a cookie that is not ours: somebody guesses", 0, func(c []byte) []byte { return mangled(c, 0, func(b byte) byte { return b + 1 }) }, 2, true, false},
		{"no cookie where there was one", 0, func([]byte) []byte { return nil }, 2, true, false},
		{"a cookie cut short", 0, func(c []byte) []byte { return c[:4] }, 2, true, false},
		{"our cookie alone", 0, func(c []byte) []byte { return c[:clientCookieSize] }, 2, false, false},
		{"a cookie that is too long is not remembered", 0, func(c []byte) []byte { return append(c, make([]byte, 40)...) }, 2, false, false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "", "", "")
				b := &baker{t: t, server: []byte("of the server"), strict: tt.strict}
				w.forgers(b.answer, nil)
				if _, err := w.ask("www.com A"); err != nil {
					t.Fatal(err)
				}
				b.spoil = tt.spoil
				if _, err := w.ask("mx.com A"); err != nil {
					t.Fatal(err)
				}
				if len(b.got) != tt.udp {
					t.Fatalf("%d datagrams, want %d", len(b.got), tt.udp)
				}
				first, last := b.got[0], b.got[len(b.got)-1]
				if len(first) != clientCookieSize || !bytes.Equal(last[:clientCookieSize], first) {
					t.Errorf("client cookies %x and %x", first, last)
				}
				if string(last[clientCookieSize:]) != "of the server" && tt.strict < 2 { // TCP's reply had none
					t.Errorf("the second question has %x", last)
				}
				if tcp := w.Resolver.Stats().TCP > 0; tcp != tt.tcp {
					t.Errorf("TCP: %v", tcp)
				}
				if _, c := w.Resolver.servers.cookies(candidateFor(comAddr), localAt{}); (c != "") != tt.known {
					t.Errorf("remembered: %q", c)
				}
			})
		})
	}
}

// A server that no longer has cookies, and takes no TCP, is asked without: once it has shown
// that, nothing of it is held against the next reply.
func TestCookieGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "", "", "")
		b := &baker{t: t, server: []byte("of the server")}
		gone, datagrams := false, 0
		w.forgers(func(q []byte) [][]byte {
			if !gone {
				return b.answer(q)
			}
			datagrams++
			return [][]byte{answerTo(q, nameOf(q)+" 60 A 192.0.2.80")}
		}, syscall.ECONNREFUSED)
		w.want("www.com A", dns.NoError, "A 192.0.2.80")
		gone = true
		w.want("mx.com A", dns.NoError, "A 192.0.2.80")
		w.want("mx2.com A", dns.NoError, "A 192.0.2.80")
		if datagrams != 3 {
			t.Errorf("%d datagrams for two questions, want 3", datagrams)
		}
	})
}

// nameOf gives the name that a packet asks for.
func nameOf(q []byte) string {
	name, _, err := wire.UnpackDomainName(q, headerSize)
	if err != nil {
		return "."
	}
	return name
}

// localAt is a connection from an address of ours.
type localAt struct {
	net.Conn
	addr net.Addr
}

func (c localAt) LocalAddr() net.Addr { return c.addr }

// Each server gets a cookie of its own, and so does each address of ours; a new address is
// noticed within a minute.
func TestClientCookies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s servers
		seen := map[[clientCookieSize]byte]bool{}
		for _, server := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"} {
			for _, local := range []net.Addr{&net.UDPAddr{IP: net.IPv4(192, 0, 2, 9)}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 10)}, nil} {
				time.Sleep(clientFor)
				c, _ := s.cookies(candidateFor(server), localAt{addr: local})
				if again, _ := s.cookies(candidateFor(server), localAt{addr: local}); again != c {
					t.Errorf("%s: %x, then %x", server, c, again)
				}
				seen[c] = true
			}
		}
		time.Sleep(clientFor)
		same, _ := s.cookies(candidateFor("192.0.2.1"), localAt{addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 7}})
		if len(seen) != 9 || !seen[same] {
			t.Errorf("%d different cookies, want 9; over TCP %x", len(seen), same)
		}
	})
}

// EDNS with options unknown to a server, which drops such questions: the second packet
// carries no cookie.
func TestCookieDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "", "", "")
		w.forgers(func(q []byte) [][]byte {
			var m wire.Msg
			if err := m.Unpack(q); err != nil || cookieIn(&m) != nil {
				return nil
			}
			return [][]byte{answerTo(q, good)}
		}, nil)
		w.want("www.com A", dns.NoError, "A 192.0.2.80")
		time.Sleep(time.Second)
	})
}

// A truncated reply is asked for again over TCP; where that fails, it is no answer.
func TestTruncatedWithoutTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "", "", "")
		w.forgers(func(q []byte) [][]byte {
			a := mangled(answerTo(q, good), 2, func(b byte) byte { return b | 2 })
			return [][]byte{mangled(a, 0, func(b byte) byte { return b + 1 }), a}
		}, syscall.ECONNREFUSED)
		e := w.wantTrouble("www.com A", dns.Malformed)
		if last := e.Attempts[len(e.Attempts)-1]; last.Said != "truncated, and it takes no TCP" {
			t.Errorf("%v", e.Attempts)
		}
	})
}

// Fragments (2013): only the first one holds port, ID and question, so a forged second one
// would fit. We ask for no more than one packet holds, and a larger reply comes over TCP.
func TestNoFragments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "", "", "")
		zone := soa + "@ NS ns\nns A 192.0.2.2\n"
		for i := range 30 {
			zone += fmt.Sprintf("big 60 TXT \"%d %s\"\n", i, strings.Repeat("x", 100))
		}
		w.zone(comAddr, "com", zone)
		largest := 0
		w.Resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := w.Dial(ctx, network, address)
			if network == "udp" && err == nil {
				conn = &measured{conn, &largest}
			}
			return conn, err
		}
		answer, err := w.ask("big.com TXT")
		if err != nil || len(answer.Answer) != 30 || largest > ednsSize || w.Resolver.Stats().TCP != 1 {
			t.Errorf("%d records, %v; the largest datagram has %d bytes", len(answer.Answer), err, largest)
		}
	})
}

type measured struct {
	net.Conn
	largest *int
}

func (m *measured) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	*m.largest = max(*m.largest, n)
	return n, err
}
