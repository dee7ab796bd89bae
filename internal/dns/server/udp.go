package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits of reading from a socket.
const (
	maxUDPQuery   = 4096 // a question is far shorter; what is longer is not read
	maxReadErrors = 100  // in a row, then the socket is given up
	readErrorWait = 10 * time.Millisecond
)

// ServeUDP answers what comes to pc, until Shutdown, and closes pc. It gives nil after
// Shutdown, and an error if pc fails.
//
// An answer leaves through pc. On a host with several addresses pc should be bound to one
// of them, not to the wildcard address, or an answer may leave from another address than
// the one that was asked, and the client will not take it.
func (s *Server) ServeUDP(pc net.PacketConn) error {
	defer pc.Close()
	ctx, done, ok := s.begin(pc, func() { _ = pc.SetReadDeadline(time.Now()) })
	if !ok {
		return nil
	}
	defer done()
	var answering sync.WaitGroup
	defer answering.Wait() // before pc closes
	l := &udpLoop{server: s, ctx: ctx, pc: pc, answering: &answering}
	read := l.one
	if b := newBatch(l); b != nil {
		read = b.turn
	}
	for failures := 0; ; {
		err := read()
		if err == nil {
			failures = 0
			continue
		}
		if s.isClosing() {
			return nil
		}
		if errors.Is(err, errNoBatches) {
			read = l.one
			continue
		}
		if failures++; errors.Is(err, net.ErrClosed) || failures > maxReadErrors {
			return err
		}
		logSocketTrouble(s.logger(), "read", pc.LocalAddr(), err)
		time.Sleep(readErrorWait)
	}
}

// errNoBatches: the kernel does not know the system calls for several packets.
var errNoBatches = errors.New("no batches")

// udpLoop reads from one socket.
type udpLoop struct {
	server    *Server
	ctx       context.Context
	pc        net.PacketConn
	answering *sync.WaitGroup
	in, out   []byte // of one
}

// one reads and answers one packet.
func (l *udpLoop) one() error {
	if l.in == nil {
		l.in, l.out = make([]byte, maxUDPQuery+1), make([]byte, 0, maxUDPReply)
	}
	n, from, err := readPacket(l.pc, l.in)
	if err != nil {
		return err
	}
	if out, ok := l.packet(l.out[:0], l.in[:n], from); ok {
		l.server.counts.queries.Add(1)
		l.send(out, from)
	}
	return nil
}

// maxUDPReply is room for a reply and for what turns out to be too long for one.
const maxUDPReply = 4096

// packet decides what happens to one packet, without ever waiting: it gives the reply if
// there is one ready, and else lets another goroutine find and send it.
func (l *udpLoop) packet(out, p []byte, from netip.AddrPort) (reply []byte, ready bool) {
	s := l.server
	if len(p) > maxUDPQuery || from.Port() == 0 {
		s.counts.ignored.Add(1)
		return nil, false
	}
	verdict := pass
	if s.LimitLoopback || !from.Addr().IsLoopback() {
		verdict = s.limiter.check(from.Addr(), time.Now())
	}
	if verdict != pass {
		s.counts.limited.Add(1)
	}
	if verdict == drop {
		return nil, false
	}
	if verdict == pass {
		if out, ok := s.quick(out, p, from); ok {
			return out, true
		}
	}
	if !s.take() {
		return nil, false
	}
	p = append([]byte(nil), p...)
	l.answering.Go(func() {
		defer s.giveBack()
		if out := s.answer(l.ctx, p, false, from, verdict == slip); out != nil {
			l.send(out, from)
		}
	})
	return nil, false
}

func (l *udpLoop) send(out []byte, to netip.AddrPort) {
	if err := writePacket(l.pc, out, to); err != nil {
		logSendFailed(l.server.logger(), to, err)
	}
}

func readPacket(pc net.PacketConn, buf []byte) (int, netip.AddrPort, error) {
	if udp, ok := pc.(*net.UDPConn); ok {
		n, from, err := udp.ReadFromUDPAddrPort(buf)
		return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), err
	}
	n, from, err := pc.ReadFrom(buf)
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	return n, addrPortOf(from), nil
}

func writePacket(pc net.PacketConn, out []byte, to netip.AddrPort) error {
	if udp, ok := pc.(*net.UDPConn); ok {
		_, err := udp.WriteToUDPAddrPort(out, to)
		return err
	}
	_, err := pc.WriteTo(out, net.UDPAddrFromAddrPort(to))
	return err
}

func addrPortOf(a net.Addr) netip.AddrPort {
	if a, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
