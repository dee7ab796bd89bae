package main

import (
	"os"
	"syscall"
)

// noNetwork puts a program where there is no network, not even loopback.
func noNetwork() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
	}
	return attr
}
