//go:build !linux

package server

import (
	"errors"
	"syscall"
)

const canSharePort = false

func sharePort(_, _ string, _ syscall.RawConn) error { return errors.ErrUnsupported }
