//go:build unix

package smtp

import (
	"net"
	"syscall"
)

// peek asks the kernel whether something was received, without waiting and without taking
// it. asked is false where the connection is none of the kernel's.
func peek(c net.Conn) (waiting, asked bool) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false, false
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false, false
	}
	var octet [1]byte
	err = rc.Read(func(fd uintptr) bool {
		n, _, err := syscall.Recvfrom(int(fd), octet[:], syscall.MSG_PEEK)
		waiting = err == nil && n > 0
		return true
	})
	return waiting, err == nil
}
