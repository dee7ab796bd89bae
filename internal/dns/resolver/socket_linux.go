package resolver

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// openUDP opens a connected socket for one question: the kernel picks a random port and
// only lets through what comes from the server (RFC 5452 §4.5, §9.1). It is net.Dialer's
// without what a question has no use for, which costs more than the question.
func openUDP(server netip.AddrPort) (net.Conn, error) {
	domain, to := syscall.AF_INET, syscall.Sockaddr(nil)
	if a := server.Addr(); a.Is4() {
		to = &syscall.SockaddrInet4{Port: int(server.Port()), Addr: a.As4()}
	} else {
		domain, to = syscall.AF_INET6, &syscall.SockaddrInet6{Port: int(server.Port()), Addr: a.As16()}
	}
	fd, err := syscall.Socket(domain, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	for err = syscall.Connect(fd, to); err == syscall.EINTR; {
		err = syscall.Connect(fd, to)
	}
	if err != nil {
		syscall.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	c := &udpConn{File: os.NewFile(uintptr(fd), "udp"), to: server}
	if c.raw, err = c.SyscallConn(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// udpConn is a connected UDP socket in the runtime's poller.
type udpConn struct {
	*os.File
	raw syscall.RawConn
	to  netip.AddrPort
}

// Read reads one datagram. A file would take an empty one for its end.
func (c *udpConn) Read(b []byte) (n int, err error) {
	waited := c.raw.Read(func(fd uintptr) bool {
		for {
			n, err = syscall.Read(int(fd), b)
			if err != syscall.EINTR {
				return err != syscall.EAGAIN
			}
		}
	})
	if waited != nil {
		return 0, waited
	}
	if err != nil {
		return 0, os.NewSyscallError("read", err)
	}
	return n, nil
}

// LocalAddr implements net.Conn.
func (c *udpConn) LocalAddr() net.Addr {
	var local netip.AddrPort
	err := c.raw.Control(func(fd uintptr) {
		sa, err := syscall.Getsockname(int(fd))
		if err != nil {
			return
		}
		switch sa := sa.(type) {
		case *syscall.SockaddrInet4:
			local = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
		case *syscall.SockaddrInet6:
			local = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
		}
	})
	if err != nil && !errors.Is(err, os.ErrClosed) {
		return nil
	}
	return net.UDPAddrFromAddrPort(local)
}

// RemoteAddr implements net.Conn.
func (c *udpConn) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(c.to) }
