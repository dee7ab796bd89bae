package smtp_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/mail"
	"mxward/internal/smtp"
	"mxward/internal/smtp/smtptest"
)

// TestServerTimeouts: each row ends in a silence, and after the time that is given in 421.
func TestServerTimeouts(t *testing.T) {
	for _, test := range []struct {
		name, script string
		after        time.Duration
		stage        mail.Stage
	}{
		{"a command that does not come (RFC 5321 §4.5.3.2.7)", opening, 5 * time.Minute, mail.StageHello},
		{"half a command", opening + `C= "MAIL FROM:<"`, 5 * time.Minute, mail.StageHello},
		{"a block of a message that does not come (RFC 5321 §4.5.3.2.5)", transaction + "C: DATA\nS: 354 …\nC: text", 3 * time.Minute, mail.StageData},
		{"the rest of a chunk that does not come", transaction + `C= "BDAT 10 LAST\r\nhello"`, 3 * time.Minute, mail.StageData},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := &keeper{}
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				talk(t, &smtp.Server{}, k, test.script+"\nS: 421 4.4.2 …\nS.")
				if took := time.Since(began).Round(time.Second); took != test.after {
					t.Errorf("421 came after %s, want %s", took, test.after)
				}
				if e := k.end(t); e.Stage != test.stage || e.Err == nil || len(k.messages) > 0 {
					t.Errorf("got the end %+v and %d messages", e, len(k.messages))
				}
			})
		})
	}
}

// TestServerWholeTimes: a client that says something now and then is let go in the end.
func TestServerWholeTimes(t *testing.T) {
	for _, test := range []struct {
		name, script, drop string
		after              time.Duration
	}{
		{"a message", transaction + "C: DATA\nS: 354 …", "x", time.Hour},
		{"a session", opening, "x", 2 * time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := net.Pipe()
				srv := &smtp.Server{Handler: &keeper{}, Hostname: "mx.example.com"}
				go srv.ServeConn(server)
				began := time.Now()
				smtptest.Script(t, client, 'C', test.script)
				var wg sync.WaitGroup
				wg.Go(func() {
					for {
						time.Sleep(2 * time.Minute)
						if _, err := io.WriteString(client, test.drop); err != nil {
							return
						}
					}
				})
				smtptest.Script(t, client, 'C', "S: 421 4.4.2 …\nS.")
				defer wg.Wait()
				if took := time.Since(began).Round(time.Second); took != test.after {
					t.Errorf("421 came after %s, want %s", took, test.after)
				}
			})
		})
	}
}

func TestServerBareLineHint(t *testing.T) {
	converse(t, &smtp.Server{}, &keeper{}, opening+`
		C= "NOOP\n"
		S: 421 4.4.2 timed out, closing; a line ends in CRLF, not in LF
		S.`)
}

func TestServerEarlyTalk(t *testing.T) {
	for _, test := range []struct {
		name   string
		pace   time.Duration
		speaks time.Duration
		want   bool
	}{
		{"at once", 0, 0, true},
		{"at once, to a paced greeting", time.Second, 0, true},
		{"into a paced greeting", time.Second, 7 * time.Second, true},
		{"after a paced greeting", time.Second, 29 * time.Second, false}, // "220 mx.example.com ESMTP\r\n" has 26 octets
		{"after the greeting", 0, time.Second, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &keeper{greeting: smtp.Greeting{Pace: test.pace}}
				client, server := net.Pipe()
				srv := &smtp.Server{Handler: k, Hostname: "mx.example.com"}
				var wg sync.WaitGroup
				wg.Go(func() { srv.ServeConn(server) })
				wg.Go(func() {
					time.Sleep(test.speaks)
					if _, err := io.WriteString(client, "EHLO client.example.net\r\nQUIT\r\n"); err != nil {
						t.Error(err)
					}
				})
				smtptest.Script(t, client, 'C', "S: 220 …\nS* 250\nS: 221 …\nS.")
				wg.Wait()
				if got := k.end(t).EarlyTalk; got != test.want {
					t.Errorf("EarlyTalk is %v, want %v", got, test.want)
				}
			})
		})
	}
}

// TestServerEarlyTalkTCP asks the kernel instead of waiting.
func TestServerEarlyTalkTCP(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{}
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := io.WriteString(client, "QUIT\r\n"); err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept() // and so the octets are there before the server looks
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	srv := &smtp.Server{Handler: k, Hostname: "mx.example.com"}
	done := make(chan struct{})
	go func() { defer close(done); srv.ServeConn(server) }()
	smtptest.Script(t, client, 'C', "S: 220 …\nS: 221 …\nS.")
	<-done
	if !k.end(t).EarlyTalk {
		t.Error("EarlyTalk is not set")
	}
}

// TestServerPace: each octet has its pause, the replies stay in order, and one reply takes
// four minutes at most.
func TestServerPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{greeting: smtp.Greeting{Pace: time.Second}}
		client, server := net.Pipe()
		srv := &smtp.Server{Handler: k, Hostname: "mx.example.com"}
		go srv.ServeConn(server)
		began := time.Now()
		smtptest.Script(t, client, 'C', "S: 220 mx.example.com ESMTP")
		if took := time.Since(began).Round(time.Second); took != 26*time.Second {
			t.Errorf("the greeting took %s, want a second for each of 26 octets", took)
		}
		began = time.Now()
		smtptest.Script(t, client, 'C', "C: NOOP\nC: NOOP\nC: QUIT\nS: 250 …\nS: 250 …\nS: 221 …\nS.")
		want := time.Duration(2*len("250 2.0.0 ok\r\n")+len("221 2.0.0 bye\r\n")) * time.Second
		if took := time.Since(began).Round(time.Second); took != want {
			t.Errorf("the replies took %s, want %s", took, want)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{greeting: smtp.Greeting{Pace: 30 * time.Second}}
		began := time.Now()
		talk(t, &smtp.Server{}, k, "S: 220 mx.example.com ESMTP")
		if took := time.Since(began); took > 4*time.Minute {
			t.Errorf("the greeting took %s, want at most 4 minutes", took)
		}
	})
}

// TestServerPaceGone: a client that leaves is not talked to any longer.
func TestServerPaceGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{greeting: smtp.Greeting{Pace: time.Second}}
		client, server := net.Pipe()
		srv := &smtp.Server{Handler: k, Hostname: "mx.example.com"}
		began := time.Now()
		time.AfterFunc(3500*time.Millisecond, func() { client.Close() })
		go func() { _, _ = io.Copy(io.Discard, client) }()
		srv.ServeConn(server)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the session took %s", took)
		}
		if e := k.end(t); e.Err == nil {
			t.Error("the end has no error")
		}
	})
}

// memoryListener is a net.Listener of pipes.
type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error { l.once.Do(func() { close(l.closed) }); return nil }

func (l *memoryListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25} }

func (l *memoryListener) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

// TestServerShutdown: an idle client is told, one in a transaction may finish, nobody new
// comes in, and a second Shutdown is the same.
func TestServerShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln, k := newMemoryListener(), &keeper{}
		srv := &smtp.Server{Handler: k, Hostname: "mx.example.com"}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(ln) }()

		idle, busy := ln.dial(), ln.dial()
		smtptest.Script(t, idle, 'C', opening)
		smtptest.Script(t, busy, 'C', transaction+"C: DATA\nS: 354 …")
		synctest.Wait()
		down := make(chan error, 2)
		for range 2 {
			go func() { down <- srv.Shutdown(t.Context()) }()
		}
		smtptest.Script(t, idle, 'C', "S: 421 4.3.2 …\nS.")
		if err := <-served; !errors.Is(err, smtp.ErrServerClosed) {
			t.Errorf("Serve gave %v", err)
		}
		smtptest.Script(t, busy, 'C', "C: text\nC: .\nS: 250 2.0.0 kept\nS: 421 4.3.2 …\nS.")
		for range 2 {
			if err := <-down; err != nil {
				t.Errorf("Shutdown gave %v", err)
			}
		}
		if len(k.messages) != 1 || len(k.ends) != 2 {
			t.Errorf("%d messages and %d ends, want 1 and 2", len(k.messages), len(k.ends))
		}
		if err := srv.Serve(newMemoryListener()); !errors.Is(err, smtp.ErrServerClosed) {
			t.Errorf("Serve after Shutdown gave %v", err)
		}
		client, server := net.Pipe()
		go srv.ServeConn(server)
		smtptest.Script(t, client, 'C', "S: 421 4.3.2 …\nS.")
	})
}

// TestServerShutdownCutsOff: what does not end in time is cut off.
func TestServerShutdownCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln, k := newMemoryListener(), &keeper{}
		srv := &smtp.Server{Handler: k, Hostname: "mx.example.com"}
		go srv.Serve(ln)
		busy := ln.dial()
		smtptest.Script(t, busy, 'C', transaction+"C: DATA\nS: 354 …\nC: text")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		defer busy.Close()
		began := time.Now()
		if err := srv.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown gave %v, want the context's error", err)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("Shutdown took %s, want 10s", took)
		}
		synctest.Wait()
		if len(k.messages) != 0 || k.end(t).Err == nil {
			t.Errorf("%d messages, end %+v", len(k.messages), k.ends)
		}
	})
}

// TestServerShutdownWithoutServe must not hang.
func TestServerShutdownWithoutServe(t *testing.T) {
	if err := new(smtp.Server).Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// refusals is a Handler that wants to know who was turned away.
type refusals struct {
	*keeper
	mu   sync.Mutex
	from []string
}

func (r *refusals) Refused(c smtp.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.from = append(r.from, c.Remote.Addr().String())
}

func (r *refusals) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.from)
}

func TestServerLimits(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handler := &refusals{keeper: &keeper{}}
	srv := &smtp.Server{Handler: handler, Hostname: "mx.example.com", MaxSessions: 3, MaxPerClient: 2}
	go srv.Serve(ln)
	defer srv.Shutdown(t.Context())
	dial := func(from string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	first := dial("127.0.0.1")
	smtptest.Script(t, first, 'C', "S: 220 …")
	smtptest.Script(t, dial("127.0.0.1"), 'C', "S: 220 …")
	smtptest.Script(t, dial("127.0.0.1"), 'C', "S: 421 4.7.0 too many sessions from your address…\nS.")
	smtptest.Script(t, dial("127.0.0.2"), 'C', "S: 220 …")
	smtptest.Script(t, dial("127.0.0.3"), 'C', "S: 421 4.3.2 too many sessions…\nS.")
	if s := srv.Stats(); s.Sessions != 3 || s.Refused != 2 || s.Open != 3 {
		t.Errorf("got the counts %+v", s)
	}
	if got := handler.all(); len(got) != 2 || got[0] != "127.0.0.1" || got[1] != "127.0.0.3" {
		t.Errorf("the handler was told of %v", got)
	}
	// Whoever leaves makes room.
	smtptest.Script(t, first, 'C', "C: QUIT\nS: 221 …\nS.")
	for srv.Stats().Open == 3 {
		time.Sleep(time.Millisecond)
	}
	smtptest.Script(t, dial("127.0.0.1"), 'C', "S: 220 …")
}

// failingListener fails for a while, as when file descriptors run out.
type failingListener struct {
	*memoryListener
	left int
}

type temporary struct{ error }

func (temporary) Temporary() bool { return true }

func (l *failingListener) Accept() (net.Conn, error) {
	if l.left--; l.left >= 0 {
		return nil, temporary{errors.New("too many open files")}
	}
	return l.memoryListener.Accept()
}

func TestServerAcceptRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := &failingListener{newMemoryListener(), 10}
		srv := &smtp.Server{Handler: &keeper{}, Hostname: "mx.example.com"}
		go srv.Serve(ln)
		client := ln.dial()
		smtptest.Script(t, client, 'C', opening+farewell)
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestServerThousandRecipients: a client that writes everything before it reads must not
// stop the server, as long as the network holds the replies; over TCP it does.
func TestServerThousandRecipients(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{}
	srv := &smtp.Server{Handler: k, Hostname: "mx.example.com", MaxRecipients: 1000}
	go srv.Serve(ln)
	defer srv.Shutdown(t.Context())
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = io.WriteString(c, "EHLO x\r\nMAIL FROM:<>\r\n"+strings.Repeat("RCPT TO:<b@example.com>\r\n", 1000)+"DATA\r\n")
	if err != nil {
		t.Fatal(err)
	}
	in, lines := bufio.NewScanner(c), 0
	for in.Scan() {
		if lines++; strings.HasPrefix(in.Text(), "354") {
			break
		}
	}
	if lines != 1+8+1+1000+1 {
		t.Errorf("got %d lines of replies", lines)
	}
}
