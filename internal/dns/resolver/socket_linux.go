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

// udpSocket is a socket in the runtime's poller.
type udpSocket struct {
	file *os.File // so that its descriptor is closed after the last use, and not before
	raw  syscall.RawConn
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
	var to unix.RawSockaddrAny
	size := putAddr(&to, server)
	if errno := socket.connect(&to, size); errno != 0 {
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
	s := &udpSocket{file: os.NewFile(uintptr(fd), "udp")}
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, err
	}
	return s, nil
}

// reset takes the socket apart from its server, which gives its port back, and reads away
// what came in meanwhile: with the next question it would only look like an attack.
func (s *udpSocket) reset() bool {
	nobody := unix.RawSockaddrAny{Addr: unix.RawSockaddr{Family: unix.AF_UNSPEC}} // connect(2)
	if errno := s.connect(&nobody, unsafe.Sizeof(nobody.Addr)); errno != 0 {
		return false
	}
	empty := false
	err := s.raw.Control(func(fd uintptr) {
		var b [1]byte
		for range maxLeftovers {
			if _, errno := transfer(unix.SYS_RECVFROM, fd, b[:]); errno == unix.EAGAIN {
				empty = true
				return
			}
		}
	})
	return err == nil && empty && s.file.SetDeadline(time.Time{}) == nil
}

// connect changes whom the socket talks to. Like the other calls here it does not wait, so
// the scheduler is not told: with that, the runtime's monitor would be awake all the time.
func (s *udpSocket) connect(to *unix.RawSockaddrAny, size uintptr) (errno syscall.Errno) {
	err := s.raw.Control(func(fd uintptr) {
		for {
			if _, _, errno = unix.RawSyscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(to)), size); errno != unix.EINTR {
				return
			}
		}
	})
	if err != nil {
		return unix.EBADF
	}
	return errno
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

// converse sends a datagram and reads the first that comes. It sends when it has begun to
// wait: so there is no need to look first whether an answer is there already.
func (c *udpConn) converse(out, in []byte) (n int, err error) {
	sent := false
	return c.wait(func(fd uintptr) (int, syscall.Errno) {
		if sent {
			return transfer(unix.SYS_RECVFROM, fd, in)
		}
		sent = true
		if _, errno := transfer(unix.SYS_SENDTO, fd, out); errno != 0 && errno != unix.EAGAIN { // no room: it is lost, as on the way
			return 0, errno
		}
		return 0, unix.EAGAIN
	})
}

// Read reads one datagram. A file would take an empty one for its end.
func (c *udpConn) Read(b []byte) (int, error) {
	return c.wait(func(fd uintptr) (int, syscall.Errno) { return transfer(unix.SYS_RECVFROM, fd, b) })
}

// wait repeats a call whenever there may be something to read, until it says more than that
// there is nothing.
func (c *udpConn) wait(call func(fd uintptr) (int, syscall.Errno)) (n int, err error) {
	var errno syscall.Errno
	err = c.socket.raw.Read(func(fd uintptr) bool {
		n, errno = call(fd)
		return errno != unix.EAGAIN
	})
	if err != nil {
		return 0, err
	}
	if errno != 0 {
		return 0, os.NewSyscallError("udp", errno)
	}
	return n, nil
}

// Write implements net.Conn.
func (c *udpConn) Write(b []byte) (n int, err error) {
	var errno syscall.Errno
	if err := c.socket.raw.Control(func(fd uintptr) { n, errno = transfer(unix.SYS_SENDTO, fd, b) }); err != nil {
		return 0, err
	}
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
	var local netip.AddrPort
	_ = c.socket.raw.Control(func(fd uintptr) {
		sa, _ := unix.Getsockname(int(fd))
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			local = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
		case *unix.SockaddrInet6:
			local = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
		}
	})
	return net.UDPAddrFromAddrPort(local)
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
