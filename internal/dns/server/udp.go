package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"mxward/internal/dns"
)

// Limits of reading from a socket.
const (
	maxUDPQuery   = 4096 // a question is far shorter; what is longer is not read
	maxReadErrors = 100  // in a row, then the socket is given up
	readErrorWait = 10 * time.Millisecond
	// unread is the room in the kernel for packets that have not been read, as far as it
	// gives so much: its own is that of some 250 questions, which a burst fills in
	// milliseconds. What would wait longer than this lets it is late anyway.
	unread = 1 << 20 // bytes
)

// ServeUDP answers what comes to pc, until Shutdown. It gives nil after Shutdown, and an
// error if pc fails. It owns pc from the call on, and closes it: nobody else may use it.
//
// An answer leaves through pc. On a host with several addresses pc should be bound to one
// of them, not to the wildcard address, or an answer may leave from another address than
// the one that was asked, and the client will not take it.
func (s *Server) ServeUDP(pc net.PacketConn) error {
	if udp, ok := pc.(interface{ SetReadBuffer(int) error }); ok {
		_ = udp.SetReadBuffer(unread) // it is read all the same
	}
	var socket udpSocket = &single{pc: pc}
	if b := newBatch(pc, &s.inFlight); b != nil {
		socket = b
	}
	defer socket.Close()
	turnstile, err := newTurnstile()
	if err != nil {
		return err
	}
	defer turnstile.Close()
	ctx, done, ok := s.begin(socket, socket.stop)
	if !ok {
		return nil
	}
	defer done()
	var answering sync.WaitGroup
	defer answering.Wait() // before the socket closes
	l := &udpLoop{server: s, ctx: ctx, socket: socket, answering: &answering, turnstile: turnstile}
	for failures := 0; ; {
		err := socket.turn(l)
		if err == nil {
			failures = 0
			continue
		}
		if s.isClosing() {
			return nil
		}
		if failures++; errors.Is(err, net.ErrClosed) || failures > maxReadErrors {
			return err
		}
		logSocketTrouble(s.logger(), "read", pc.LocalAddr(), err)
		time.Sleep(readErrorWait)
	}
}

// udpSocket is a socket as a loop uses it: a single or a batch.
type udpSocket interface {
	// turn waits for packets and passes them to the loop; after stop it gives an error.
	turn(l *udpLoop) error
	// send may be called by many at once.
	send(out []byte, to netip.AddrPort) error
	// stop makes turn return, now and ever after; what is in flight can still be sent.
	stop()
	Close() error
}

// udpLoop reads from one socket.
type udpLoop struct {
	server    *Server
	ctx       context.Context
	socket    udpSocket
	answering *sync.WaitGroup
	room      waitingRoom
	turnstile *turnstile
}

// single is a socket whose packets are read one by one, on any system.
type single struct {
	pc      net.PacketConn
	in, out []byte
}

func (o *single) turn(l *udpLoop) error {
	if o.in == nil {
		o.in, o.out = make([]byte, maxUDPQuery+1), make([]byte, 0, maxUDPReply)
	}
	n, from, err := readPacket(o.pc, o.in)
	if err != nil {
		return err
	}
	if out, ok := l.packet(o.out[:0], o.in[:n], from); ok {
		l.server.counts.queries.Add(1)
		l.send(out, from)
	}
	return nil
}

func (o *single) send(out []byte, to netip.AddrPort) error { return writePacket(o.pc, out, to) }
func (o *single) stop()                                    { _ = o.pc.SetReadDeadline(time.Now()) }
func (o *single) Close() error                             { return o.pc.Close() }

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
	w := waiting{packet: append([]byte(nil), p...), from: from, came: time.Now()}
	if verdict == pass {
		if outlook, _ := l.foretell(w); outlook != dns.OutlookGood {
			l.room.add(w, outlook, l)
			return nil, false
		}
	}
	l.find(w, verdict == slip)
	return nil, false
}

// find lets a goroutine find the answer, and send it.
func (l *udpLoop) find(w waiting, slipped bool) {
	s := l.server
	l.answering.Go(func() {
		defer s.giveBack()
		if out := s.answer(l.ctx, w.packet, false, w.from, slipped); out != nil {
			l.send(out, w.from)
		}
	})
}

func (l *udpLoop) send(out []byte, to netip.AddrPort) {
	if err := l.socket.send(out, to); err != nil {
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
