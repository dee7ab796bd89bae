package resolver

import (
	"net"
	"os"
	"slices"
	"sync"
	"time"

	wire "github.com/miekg/dns"
)

// peer is the client's end of a UDP socket whose other end sends any number of datagrams
// for each one that it gets.
type peer struct {
	say      func(query []byte) [][]byte
	in       chan []byte
	mu       sync.Mutex
	deadline time.Time
	changed  chan struct{}
}

func newPeer(say func([]byte) [][]byte) *peer {
	return &peer{say: say, in: make(chan []byte, 100), changed: make(chan struct{})}
}

func (p *peer) Write(b []byte) (int, error) {
	for _, datagram := range p.say(b) {
		p.in <- datagram
	}
	return len(b), nil
}

func (p *peer) Read(b []byte) (int, error) {
	for {
		p.mu.Lock()
		deadline, changed := p.deadline, p.changed
		p.mu.Unlock()
		timer := time.NewTimer(time.Until(deadline))
		select {
		case datagram := <-p.in:
			timer.Stop()
			return copy(b, datagram), nil
		case <-timer.C:
			return 0, os.ErrDeadlineExceeded
		case <-changed:
			timer.Stop()
		}
	}
}

func (p *peer) SetDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = t
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

func (p *peer) Close() error                       { return nil }
func (p *peer) LocalAddr() net.Addr                { return &net.UDPAddr{} }
func (p *peer) RemoteAddr() net.Addr               { return &net.UDPAddr{} }
func (p *peer) SetReadDeadline(t time.Time) error  { return p.SetDeadline(t) }
func (p *peer) SetWriteDeadline(t time.Time) error { return nil }

func pack(m *wire.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

// answerTo makes an authoritative reply with one record.
func answerTo(query []byte, record string) []byte {
	var q wire.Msg
	if err := q.Unpack(query); err != nil {
		panic(err)
	}
	reply := new(wire.Msg).SetReply(&q)
	reply.Authoritative = true
	reply.Answer = records(record)
	return pack(reply)
}

// mangled gives a copy with one byte changed.
func mangled(b []byte, at int, change func(byte) byte) []byte {
	c := slices.Clone(b)
	c[at] = change(c[at])
	return c
}
