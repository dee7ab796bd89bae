package smtptest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"mxward/internal/mail"
	"mxward/internal/smtp"
)

// Behaviour is what a Host does with its clients.
type Behaviour string

// The behaviours without a stage.
const (
	Accept        Behaviour = "accept"          // keeps every message
	Greeting421   Behaviour = "greet with 421"  // and closes
	Greeting554   Behaviour = "greet with 554"  // and closes
	GreylistOnce  Behaviour = "greylist once"   // 451 at RCPT for a sender and recipient first seen
	HangAtConnect Behaviour = "hang at connect" // Dial waits; a listener accepts and is silent
)

// HangAt says nothing any more from the stage on: greeting, hello, starttls, mail, rcpt,
// data, dot or quit. The stage is reached when the client's command has come, at dot when
// the whole message has. With TLS, starttls and quit are not seen.
func HangAt(s mail.Stage) Behaviour { return "hang at " + Behaviour(s) }

// DropAt closes the connection at the stage, without a word; at connect, too.
func DropAt(s mail.Stage) Behaviour { return "drop at " + Behaviour(s) }

// TempfailAt answers 451 at the stage (454 at starttls, 421 at the greeting).
func TempfailAt(s mail.Stage) Behaviour { return "tempfail at " + Behaviour(s) }

// PermfailAt answers 550 at the stage (554 at the greeting).
func PermfailAt(s mail.Stage) Behaviour { return "permfail at " + Behaviour(s) }

// at gives the stage of a behaviour of the kind.
func (b Behaviour) at(kind string) (mail.Stage, bool) {
	s, ok := strings.CutPrefix(string(b), kind+" at ")
	return mail.Stage(s), ok
}

// Message is what a Host has accepted.
type Message struct {
	Envelope mail.Envelope // with the recipients that were accepted
	Body     string
	Hello    string // the client's name
	Remote   string // the client's address
	TLS      bool
}

// Host is a mail host that behaves as it is told. The zero Host accepts everything; Set,
// Down and Up change that while it runs. Its clients come by Dial, Listen or Serve.
type Host struct {
	Name   string      // default mx.example.com
	TLS    *tls.Config // nil: no STARTTLS
	Logger *slog.Logger

	mu          sync.Mutex
	behaviour   Behaviour
	down        bool
	closed      bool
	seen        map[string]bool // for GreylistOnce
	messages    []Message
	transcripts []*transcript
	conns       map[net.Conn]struct{}
	listeners   map[string]net.Listener // by address; nil while down
	active      sync.WaitGroup
}

// Set changes the behaviour for what clients say from now on.
func (h *Host) Set(b Behaviour) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.behaviour = b
}

func (h *Host) current() Behaviour {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.behaviour
}

// Messages gives what was accepted so far, the oldest first.
func (h *Host) Messages() []Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Message(nil), h.messages...)
}

// Transcripts gives the dialogues so far, one for each connection: lines of "C: " and
// "S: ". What goes under TLS is not in it.
func (h *Host) Transcripts() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]string, 0, len(h.transcripts))
	for _, t := range h.transcripts {
		all = append(all, t.String())
	}
	return all
}

// Down makes the host refuse connections, and cuts off those that there are.
func (h *Host) Down() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = true
	for addr, ln := range h.listeners {
		if ln != nil {
			ln.Close()
			h.listeners[addr] = nil
		}
	}
	for c := range h.conns {
		c.Close()
	}
}

// Up ends Down. What Listen gave listens on the same addresses again.
func (h *Host) Up() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("put a mail host up: %w", net.ErrClosed)
	}
	h.down = false
	for addr, ln := range h.listeners {
		if ln != nil {
			continue
		}
		if err := h.listen(addr); err != nil {
			return err
		}
	}
	return nil
}

// Close ends everything and waits for it.
func (h *Host) Close() {
	h.Down()
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.active.Wait()
}

// Listen listens on a TCP address and gives the one it got. While the host is down nobody
// listens there: connections are refused by the kernel.
func (h *Host) Listen(addr string) (string, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return "", fmt.Errorf("listen for a mail host: %w", err)
	}
	addr = ln.Addr().String()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		ln.Close()
		return "", fmt.Errorf("listen for a mail host: %w", net.ErrClosed)
	}
	if h.down {
		ln.Close()
		ln = nil
	}
	if h.listeners == nil {
		h.listeners = map[string]net.Listener{}
	}
	h.listeners[addr] = ln
	if ln != nil {
		h.active.Go(func() { _ = h.accept(ln) })
	}
	return addr, nil
}

// listen needs h.mu.
func (h *Host) listen(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for a mail host: %w", err)
	}
	h.listeners[addr] = ln
	h.active.Go(func() { _ = h.accept(ln) })
	return nil
}

// Serve takes the clients of a listener until it is closed. While the host is down they
// are cut off.
func (h *Host) Serve(ln net.Listener) error { return h.accept(ln) }

func (h *Host) accept(ln net.Listener) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		h.begin(c)
	}
}

// Dial gives a connection in memory. It fails as a TCP connection does where the host is
// down, and waits for the end of ctx at HangAtConnect.
func (h *Host) Dial(ctx context.Context) (net.Conn, error) {
	h.mu.Lock()
	down, behaviour := h.down || h.closed, h.behaviour
	h.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
	case down:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case behaviour == HangAtConnect:
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
	}
	client, server := net.Pipe()
	h.begin(server)
	return client, nil
}

// begin serves a connection in the background.
func (h *Host) begin(c net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.down || h.closed {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, as near to a refusal as can be
		}
		c.Close()
		return
	}
	t := &transcript{Conn: c, host: h}
	h.transcripts = append(h.transcripts, t)
	if h.conns == nil {
		h.conns = map[net.Conn]struct{}{}
	}
	h.conns[c] = struct{}{}
	h.active.Go(func() {
		h.serve(t)
		c.Close()
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.conns, c)
	})
}

func (h *Host) serve(t *transcript) {
	switch h.current() {
	case HangAtConnect:
		t.hang()
		return
	case DropAt(mail.StageConnect):
		return
	}
	name := h.Name
	if name == "" {
		name = "mx.example.com"
	}
	srv := &smtp.Server{Hostname: name, Handler: &visit{host: h, conn: t}, TLS: h.TLS, MaxRecipients: 1000, Logger: h.Logger}
	srv.ServeConn(t)
}

// visit is the Session of one connection.
type visit struct {
	host  *Host
	conn  *transcript
	hello smtp.Hello
	env   mail.Envelope
}

// misbehave does what the host is told to do at a stage; ok is false where it did.
func (v *visit) misbehave(s mail.Stage) (r mail.Reply, ok bool) {
	b := v.host.current()
	if at, is := b.at("hang"); is && at == s {
		v.conn.hang()
	} else if at, is := b.at("drop"); is && at == s {
		v.conn.Conn.Close()
	} else if at, is := b.at("tempfail"); is && at == s {
		return mail.NewReply(451, 3, 0, "not now"), false
	} else if at, is := b.at("permfail"); is && at == s {
		return mail.NewReply(550, 7, 1, "not ever"), false
	} else {
		return mail.Reply{}, true
	}
	return mail.NewReply(421, 3, 0, "gone"), false
}

// NewSession is of smtp.Handler.
func (v *visit) NewSession(context.Context, smtp.Conn) (smtp.Session, smtp.Greeting) {
	greet := func(code int, text string) (smtp.Session, smtp.Greeting) {
		return v, smtp.Greeting{Reply: mail.Reply{Code: code, Text: text}}
	}
	switch v.host.current() {
	case Greeting421, TempfailAt(mail.StageGreeting):
		return greet(421, "not now")
	case Greeting554, PermfailAt(mail.StageGreeting):
		return greet(554, "not ever")
	}
	v.misbehave(mail.StageGreeting)
	return greet(220, "")
}

// Hello is of smtp.Session, as are the following.
func (v *visit) Hello(_ context.Context, h smtp.Hello) mail.Reply {
	if r, ok := v.misbehave(mail.StageHello); !ok {
		return r
	}
	v.hello = h
	return mail.NewReply(250, 0, 0, "")
}

func (v *visit) Mail(_ context.Context, env mail.Envelope) mail.Reply {
	if r, ok := v.misbehave(mail.StageMail); !ok {
		return r
	}
	v.env = env
	return mail.NewReply(250, 1, 0, "sender ok")
}

func (v *visit) Rcpt(_ context.Context, rcpt mail.Recipient) mail.Reply {
	if r, ok := v.misbehave(mail.StageRcpt); !ok {
		return r
	}
	if v.host.current() == GreylistOnce && v.host.first(v.env.From, rcpt.Address) {
		return mail.NewReply(451, 7, 1, "greylisted, try again")
	}
	v.env.Recipients = append(v.env.Recipients, rcpt)
	return mail.NewReply(250, 1, 5, "recipient ok")
}

// first reports whether the two are seen together for the first time.
func (h *Host) first(from mail.Path, to mail.Address) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := from.Wire() + to.String()
	if h.seen == nil {
		h.seen = map[string]bool{}
	}
	was := h.seen[key]
	h.seen[key] = true
	return !was
}

func (v *visit) Data(_ context.Context, body io.Reader) mail.Reply {
	if r, ok := v.misbehave(mail.StageData); !ok {
		return r
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return mail.NewReply(451, 3, 0, "lost")
	}
	if r, ok := v.misbehave(mail.StageDot); !ok {
		return r
	}
	m := Message{Envelope: v.env, Body: string(text), Hello: v.hello.Name, TLS: v.hello.TLS != nil}
	if a := v.conn.RemoteAddr(); a != nil {
		m.Remote = a.String()
	}
	v.host.mu.Lock()
	defer v.host.mu.Unlock()
	v.host.messages = append(v.host.messages, m)
	return mail.NewReply(250, 0, 0, "kept")
}

func (v *visit) End(smtp.End) {}

// transcript is a connection that writes down what is said, and misbehaves where a Session
// has no say: at STARTTLS and QUIT.
type transcript struct {
	net.Conn
	host  *Host
	ahead []byte // received, and not yet read by the server

	mu      sync.Mutex
	text    strings.Builder
	side    byte // whose line is unfinished; 0: none
	secured int  // 1: STARTTLS was said, 2: and answered
}

// String gives the dialogue so far.
func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// maxTranscript is what is written down of one connection, octets.
const maxTranscript = 1 << 20

func (t *transcript) note(side byte, p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.text.Len() > maxTranscript || t.secured == 2 {
		return
	}
	for line := range strings.Lines(string(p)) {
		if t.side != side {
			if t.side != 0 {
				t.text.WriteByte('\n')
			}
			t.text.WriteByte(side)
			t.text.WriteString(": ")
		}
		t.side = side
		if strings.HasSuffix(line, "\n") {
			line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r") + "\n"
			t.side = 0
		}
		t.text.WriteString(line)
	}
}

// Read is of net.Conn. Where the host is to hang or to drop it gives one line at a time:
// the server then sends its reply to each before it reads the next, so that a client that
// pipelines sees the stage that was meant.
func (t *transcript) Read(p []byte) (int, error) {
	for {
		if len(t.ahead) == 0 {
			buf := make([]byte, len(p))
			n, err := t.Conn.Read(buf)
			t.note('C', buf[:n])
			if n == 0 {
				return 0, err
			}
			t.ahead = buf[:n]
		}
		n := copy(p, t.ahead)
		if end := bytes.IndexByte(t.ahead[:n], '\n'); end >= 0 && t.host.stepwise() {
			n = end + 1
		}
		answer := t.intercept(string(t.ahead[:n]))
		t.ahead = t.ahead[n:]
		if answer == "" {
			return n, nil
		}
		if _, err := io.WriteString(t, answer); err != nil {
			return 0, err
		}
	}
}

func (h *Host) stepwise() bool {
	_, hang := h.current().at("hang")
	_, drop := h.current().at("drop")
	return hang || drop
}

// intercept does what is told for STARTTLS and QUIT, which clients say alone. It gives the
// answer where the server must not see the command.
func (t *transcript) intercept(said string) string {
	stage := map[string]mail.Stage{"STARTTLS\r\n": mail.StageStartTLS, "QUIT\r\n": mail.StageQuit}[strings.ToUpper(said)]
	if stage == "" {
		return ""
	}
	switch t.host.current() {
	case HangAt(stage):
		t.hang()
	case DropAt(stage):
		t.Conn.Close()
	case TempfailAt(stage):
		return "454 4.7.0 not now\r\n"
	case PermfailAt(stage):
		return "550 5.7.0 not ever\r\n"
	}
	if stage == mail.StageStartTLS && t.host.TLS != nil {
		t.mu.Lock()
		t.secured = 1
		t.mu.Unlock()
	}
	return ""
}

// Write is of net.Conn.
func (t *transcript) Write(p []byte) (int, error) {
	t.note('S', p)
	t.mu.Lock()
	if t.secured == 1 {
		t.secured = 2
	}
	t.mu.Unlock()
	return t.Conn.Write(p)
}

// SyscallConn lets the server ask the kernel for early talk.
func (t *transcript) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := t.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// hang waits until the client is gone, or the host is closed.
func (t *transcript) hang() {
	_ = t.Conn.SetReadDeadline(time.Time{})
	_, _ = io.Copy(io.Discard, t.Conn)
	t.Conn.Close()
}
