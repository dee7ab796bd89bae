package server

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const canSharePort = true

// sharePort lets sockets of one user have one port; others still cannot take it.
func sharePort(_, _ string, c syscall.RawConn) error {
	var err error
	if outer := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}); outer != nil {
		return outer
	}
	return err
}
