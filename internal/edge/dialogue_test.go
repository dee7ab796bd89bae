package edge

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
	"mxward/internal/smtp"
)

// TestDialogues plays whole sessions over the wire, in virtual time. In a script, "host"
// chooses the MX host of testPlan; "C:" sends a line; "S:" reads a reply whose last line
// begins so; "Q:" is the next message that must be in the queue, "from -> rcpt, rcpt
// [backup]"; "took" is the least time since the last C: line; "big" sends so many kilobytes;
// "bare" sends a line that ends in a bare LF. At the end nothing else is in the queue.
func TestDialogues(t *testing.T) {
	scripts, err := filepath.Glob("testdata/dialogues/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, name := range scripts {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) { play(t, string(text)) })
		})
	}
}

// player is one dialogue under way.
type player struct {
	*testing.T
	gate   *Gate
	memory *memory
	client net.Conn
	in     *bufio.Reader
	seen   int // messages of the queue
	began  time.Time
	ended  chan struct{}
}

func play(t *testing.T, script string) {
	g, m, _ := newGate(t)
	p := &player{T: t, gate: g, memory: m, began: time.Now(), ended: make(chan struct{})}
	for number, line := range strings.Split(script, "\n") {
		verb, rest, _ := strings.Cut(line, " ")
		if verb == "" || strings.HasPrefix(verb, "#") {
			continue
		}
		if err := p.step(verb, rest); err != nil {
			t.Errorf("line %d: %s: %v", number+1, line, err)
			break
		}
	}
	if p.client != nil {
		p.client.Close()
		<-p.ended
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	for _, msg := range m.messages[p.seen:] {
		t.Errorf("queued besides: %+v", msg)
	}
	if len(m.contacts) == 0 {
		t.Error("no contact was recorded")
	}
}

func (p *player) step(verb, rest string) error {
	switch verb {
	case "host":
		p.connect(rest)
	case "C:":
		p.began = time.Now()
		_, err := p.client.Write([]byte(rest + "\r\n"))
		return err
	case "bare":
		_, err := p.client.Write([]byte(rest + "\n"))
		return err
	case "big":
		return p.big(rest)
	case "S:":
		return p.read(rest)
	case "Q:":
		return p.queued(rest)
	case "took":
		least, err := time.ParseDuration(rest)
		if took := time.Since(p.began); err == nil && took < least {
			err = fmt.Errorf("it took %s", took)
		}
		return err
	default:
		return fmt.Errorf("no such verb")
	}
	return nil
}

func (p *player) connect(host string) {
	client, server := net.Pipe()
	s := &smtp.Server{Hostname: host, Handler: p.gate.Host(dns.MustName(host)), MaxSize: 1 << 20}
	go func() {
		defer close(p.ended)
		s.ServeConn(addressed{server, testClient, netip.MustParseAddrPort("192.0.2.99:25")})
	}()
	p.client, p.in = client, bufio.NewReader(client)
}

// addressed is a pipe with addresses.
type addressed struct {
	net.Conn
	remote, local netip.AddrPort
}

func (a addressed) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(a.remote) }
func (a addressed) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(a.local) }

func (p *player) big(kilobytes string) error {
	n, err := strconv.Atoi(kilobytes)
	if err != nil {
		return err
	}
	line := strings.Repeat("x", 78) + "\r\n"
	for range n * 1024 / len(line) {
		if _, err := p.client.Write([]byte(line)); err != nil {
			return err
		}
	}
	return nil
}

func (p *player) read(want string) error {
	for {
		line, err := p.in.ReadString('\n')
		if err != nil {
			return err
		}
		if len(line) > 512 { // RFC 5321 §4.5.3.1.5
			return fmt.Errorf("a reply line of %d octets", len(line))
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, want) {
			return fmt.Errorf("got %q", line)
		}
		return nil
	}
}

func (p *player) queued(want string) error {
	p.memory.mu.Lock()
	defer p.memory.mu.Unlock()
	if p.seen == len(p.memory.messages) {
		return fmt.Errorf("nothing more is queued")
	}
	msg := p.memory.messages[p.seen]
	p.seen++
	var to []string
	for _, r := range msg.Envelope.Recipients {
		to = append(to, r.Address.String())
	}
	got := msg.Envelope.From.String() + " -> " + strings.Join(to, ", ")
	if msg.Backup {
		got += " backup"
	}
	if got != want {
		return fmt.Errorf("queued %s", got)
	}
	return nil
}
