package resolver

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Limits of the sockets that wait for their next question; ours.
const (
	maxIdleSockets = 256 // of one family
	maxLeftovers   = 16  // datagrams of the last question that are read away; of more, the socket is closed
)

// udpSockets gives each question a connected socket: the kernel picks a random port and only
// lets through what comes from the server (RFC 5452 §4.5, §9.1). A socket that has been taken
// apart from its server has no port any more, and gets another with its next server. So it
// can serve again, which costs a third of what a new one does. The zero value is ready.
type udpSockets struct {
	mu   sync.Mutex
	idle [2][]*udpSocket // by family
}

// udpSocket is a socket in the runtime's poller. It has what its system calls need, so that
// nothing is allocated for a question.
type udpSocket struct {
	file *os.File // so that its descriptor is closed after the last use, and not before
	fd   uintptr
	raw  syscall.RawConn
	addr unix.RawSockaddrAny

	ready   func(fd uintptr) bool // exchange, for raw
	out, in []byte                // out: nil once it was sent
	n       int
	errno   syscall.Errno
}

// open gives a socket that is connected to a server.
func (s *udpSockets) open(server netip.AddrPort) (net.Conn, error) {
	family := familyOf(server.Addr())
	socket := s.take(family)
	if socket == nil {
		var err error
		if socket, err = newUDPSocket(family); err != nil {
			return nil, err
		}
	}
	if errno := socket.connect(putAddr(&socket.addr, server)); errno != 0 {
		s.put(family, socket)
		return nil, os.NewSyscallError("connect", errno)
	}
	return &udpConn{sockets: s, socket: socket, to: server}, nil
}

func (s *udpSockets) take(family int) *udpSocket {
	s.mu.Lock()
	defer s.mu.Unlock()
	idle := s.idle[family]
	if len(idle) == 0 {
		return nil
	}
	s.idle[family] = idle[:len(idle)-1]
	return idle[len(idle)-1]
}

// put keeps a socket for another question, without its server and its port.
func (s *udpSockets) put(family int, socket *udpSocket) {
	if !socket.reset() {
		socket.file.Close()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle[family]) >= maxIdleSockets {
		socket.file.Close()
		return
	}
	s.idle[family] = append(s.idle[family], socket)
}

func newUDPSocket(family int) (*udpSocket, error) {
	domain := [2]int{unix.AF_INET, unix.AF_INET6}[family]
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &udpSocket{file: os.NewFile(uintptr(fd), "udp"), fd: uintptr(fd)}
	s.ready = s.exchange
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, err
	}
	if err := s.file.SetDeadline(time.Time{}); err != nil { // the poller did not take it
		s.file.Close()
		return nil, os.NewSyscallError("epoll", unix.ENOMEM)
	}
	return s, nil
}

// reset takes the socket apart from its server, which gives its port back, and reads away
// what came in meanwhile: with the next question it would only look like an attack.
func (s *udpSocket) reset() bool {
	s.out, s.in = nil, nil
	s.addr.Addr.Family = unix.AF_UNSPEC // connect(2)
	if errno := s.connect(unsafe.Sizeof(s.addr.Addr)); errno != 0 {
		return false
	}
	var b [1]byte
	for range maxLeftovers {
		if _, errno := transfer(unix.SYS_RECVFROM, s.fd, b[:]); errno == unix.EAGAIN {
			return s.file.SetDeadline(time.Time{}) == nil
		}
	}
	return false
}

// connect makes addr whom the socket talks to. Like the other calls here it does not wait, so
// the scheduler is not told: with that, the runtime's monitor would be awake all the time.
func (s *udpSocket) connect(size uintptr) syscall.Errno {
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, s.fd, uintptr(unsafe.Pointer(&s.addr)), size)
		if errno != unix.EINTR {
			return errno
		}
	}
}

// exchange sends what is to be sent, and then reads; it reports whether there was something
// to read. It sends when the poller watches already: so there is no need to look first
// whether an answer is there.
func (s *udpSocket) exchange(fd uintptr) bool {
	if out := s.out; out != nil {
		s.out = nil
		if _, s.errno = transfer(unix.SYS_SENDTO, fd, out); s.errno == unix.EAGAIN {
			s.errno = unix.ENOBUFS // it was not sent: our trouble, not the server's silence
		}
		return s.errno != 0
	}
	s.n, s.errno = transfer(unix.SYS_RECVFROM, fd, s.in)
	return s.errno != unix.EAGAIN
}

// converse sends out, unless it is nil, and waits for a datagram.
func (s *udpSocket) converse(out, in []byte) (int, error) {
	s.out, s.in = out, in
	if err := s.raw.Read(s.ready); err != nil {
		return 0, err
	}
	if s.errno != 0 {
		return 0, os.NewSyscallError("udp", s.errno)
	}
	return s.n, nil
}

// transfer sends or receives a datagram without waiting.
func transfer(trap, fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// udpConn is a socket for the time of one question.
type udpConn struct {
	sockets *udpSockets
	to      netip.AddrPort

	mu     sync.Mutex
	socket *udpSocket // nil once it was given back
}

// converse sends a datagram and reads the first that comes.
func (c *udpConn) converse(out, in []byte) (int, error) { return c.socket.converse(out, in) }

// Read reads one datagram. A file would take an empty one for its end.
func (c *udpConn) Read(b []byte) (int, error) { return c.socket.converse(nil, b) }

// Write implements net.Conn.
func (c *udpConn) Write(b []byte) (int, error) {
	n, errno := transfer(unix.SYS_SENDTO, c.socket.fd, b)
	if errno != 0 {
		return 0, os.NewSyscallError("send", errno)
	}
	return n, nil
}

// SetDeadline has no effect on a socket that was given back: it may be another question's.
// Only reading waits.
func (c *udpConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket == nil {
		return net.ErrClosed
	}
	return c.socket.file.SetReadDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *udpConn) SetReadDeadline(t time.Time) error { return c.SetDeadline(t) }

// SetWriteDeadline implements net.Conn; nothing is ever waited for.
func (c *udpConn) SetWriteDeadline(time.Time) error { return nil }

// Close gives the socket back.
func (c *udpConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket == nil {
		return net.ErrClosed
	}
	c.sockets.put(familyOf(c.to.Addr()), c.socket)
	c.socket = nil
	return nil
}

// LocalAddr implements net.Conn.
func (c *udpConn) LocalAddr() net.Addr {
	sa, err := unix.Getsockname(int(c.socket.fd))
	if err != nil {
		return nil
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.UDPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrInet6:
		return &net.UDPAddr{IP: sa.Addr[:], Port: sa.Port}
	}
	return nil
}

// RemoteAddr implements net.Conn.
func (c *udpConn) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(c.to) }

// putAddr writes an address as the kernel wants it, and gives its size.
func putAddr(to *unix.RawSockaddrAny, a netip.AddrPort) (size uintptr) {
	if a.Addr().Is4() {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(to))
		*sa = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: a.Addr().As4()}
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:], a.Port())
		return unsafe.Sizeof(*sa)
	}
	sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(to))
	*sa = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: a.Addr().As16()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:], a.Port())
	return unsafe.Sizeof(*sa)
}
