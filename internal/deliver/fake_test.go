package deliver

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mxward/internal/mail"
)

// What a fake host does at a stage instead of its usual reply.
const (
	drop    = "drop"    // closes the connection
	hang    = "hang"    // says nothing for ever
	refused = "refused" // at connect only
	swallow = "swallow" // at the dot: takes the message, then closes
)

// fake is a mail host of few words. Its fields may be changed through fakeNet.change.
type fake struct {
	says       map[mail.Stage]string // a reply, or one of the words above
	rcpt       map[string]string     // the same for single recipients
	lmtp       bool
	pipelining bool
	cert       *tls.Certificate // offers STARTTLS
	badTLS     bool             // and spoils the handshake
	maxMails   int              // transactions, then 421 at MAIL
	maxRcpts   int              // recipients, then 452
	quiet      time.Duration    // an idle connection is closed after this

	dialled, sessions, quits int
	mails                    []string // "recipient recipient", one for each message
}

// fakeNet is the network of a test.
type fakeNet struct {
	mu    sync.Mutex
	hosts map[string]*fake // by Dial's address
}

func (n *fakeNet) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func (n *fakeNet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	h := n.hosts[address]
	var how string
	if h != nil {
		h.dialled++
		how = h.says[mail.StageConnect]
	}
	n.mu.Unlock()
	switch {
	case h == nil || how == hang:
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
	case how == refused:
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	ours, theirs := net.Pipe()
	go n.serve(h, theirs)
	return ours, nil
}

// talk is one connection of a fake host.
type talk struct {
	net  *fakeNet
	host *fake
	conn net.Conn
	in   *bufio.Reader
	over bool
}

func (n *fakeNet) serve(h *fake, conn net.Conn) {
	t := &talk{net: n, host: h, conn: conn, in: bufio.NewReader(conn)}
	defer conn.Close() // without TLS's last words, for which nobody listens on a pipe
	n.change(func() { h.sessions++ })
	t.say(mail.StageGreeting, "220 fake")
	var rcpts []string
	mails := 0
	for !t.over {
		n.mu.Lock()
		quiet := h.quiet
		n.mu.Unlock()
		if quiet > 0 {
			conn.SetReadDeadline(time.Now().Add(quiet))
		}
		line, err := t.in.ReadString('\n')
		if err != nil {
			return
		}
		conn.SetReadDeadline(time.Time{})
		verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " ")
		switch verb {
		case "EHLO", "LHLO":
			t.hello()
		case "STARTTLS":
			t.startTLS()
		case "MAIL":
			if mails++; h.maxMails > 0 && mails > h.maxMails {
				t.line("421 4.7.0 enough")
				return
			}
			rcpts = nil
			t.say(mail.StageMail, "250 2.1.0 ok")
		case "RCPT":
			_, to, _ := strings.Cut(line, "<")
			to, _, _ = strings.Cut(to, ">")
			if t.rcpt(to, len(rcpts)) {
				rcpts = append(rcpts, to)
			}
		case "DATA":
			t.data(rcpts)
		case "RSET", "NOOP":
			t.line("250 2.0.0 ok")
		case "QUIT":
			n.change(func() { h.quits++ })
			t.line("221 2.0.0 bye")
			return
		default:
			t.line("500 5.5.2 what?")
		}
	}
}

// say gives the reply of a stage and reports whether it was positive.
func (t *talk) say(stage mail.Stage, usual string) bool {
	t.net.mu.Lock()
	word := t.host.says[stage]
	t.net.mu.Unlock()
	if word == "" {
		word = usual
	}
	return t.speak(word)
}

func (t *talk) speak(word string) bool {
	switch word {
	case drop, swallow:
		t.over = true
		return false
	case hang:
		io.Copy(io.Discard, t.in)
		t.over = true
		return false
	}
	t.line(word)
	return word[0] == '2' || word[0] == '3'
}

func (t *talk) line(s string) {
	if _, err := io.WriteString(t.conn, strings.ReplaceAll(s, "\n", "\r\n")+"\r\n"); err != nil {
		t.over = true
	}
}

func (t *talk) hello() {
	lines := []string{"fake"}
	if t.host.pipelining {
		lines = append(lines, "PIPELINING")
	}
	if _, secure := t.conn.(*tls.Conn); !secure && (t.host.cert != nil || t.host.badTLS) {
		lines = append(lines, "STARTTLS")
	}
	lines = append(lines, "8BITMIME")
	t.say(mail.StageHello, "250-"+strings.Join(lines[:len(lines)-1], "\n250-")+"\n250 "+lines[len(lines)-1])
}

func (t *talk) startTLS() {
	if !t.say(mail.StageStartTLS, "220 2.0.0 go") {
		return
	}
	if t.host.badTLS {
		io.ReadFull(t.in, make([]byte, 5))
		io.WriteString(t.conn, "this is not TLS, but something else entirely\r\n")
		t.over = true
		return
	}
	secure := tls.Server(t.conn, &tls.Config{Certificates: []tls.Certificate{*t.host.cert}})
	if err := secure.Handshake(); err != nil {
		t.over = true
		return
	}
	t.conn, t.in = secure, bufio.NewReader(secure)
}

func (t *talk) rcpt(to string, before int) bool {
	t.net.mu.Lock()
	word := t.host.rcpt[to]
	t.net.mu.Unlock()
	switch {
	case word != "":
		return t.speak(word)
	case t.host.maxRcpts > 0 && before >= t.host.maxRcpts:
		return t.speak("452 4.5.3 too many recipients")
	}
	return t.say(mail.StageRcpt, "250 2.1.5 ok")
}

func (t *talk) data(rcpts []string) {
	if len(rcpts) == 0 {
		t.line("503 5.5.1 no recipients")
		return
	}
	if !t.say(mail.StageData, "354 go ahead") {
		return
	}
	for {
		line, err := t.in.ReadString('\n')
		if err != nil {
			t.over = true
			return
		}
		if line == ".\r\n" {
			break
		}
	}
	t.net.mu.Lock()
	word := t.host.says[mail.StageDot]
	if word == "" || word == swallow {
		t.host.mails = append(t.host.mails, strings.Join(rcpts, " "))
	}
	t.net.mu.Unlock()
	if !t.host.lmtp {
		t.say(mail.StageDot, "250 2.0.0 kept")
		return
	}
	for _, r := range rcpts { // RFC 2033 §4.2
		t.net.mu.Lock()
		word := t.host.rcpt["dot "+r]
		t.net.mu.Unlock()
		if word == "" {
			word = "250 2.0.0 kept"
		}
		t.speak(word)
	}
}

func certificate(t testing.TB) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"other.example.org"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
