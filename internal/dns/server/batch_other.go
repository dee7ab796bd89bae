//go:build !linux

package server

import (
	"net"
	"sync/atomic"
)

// batch exists on Linux alone.
type batch struct{ single }

func newBatch(net.PacketConn, *atomic.Int64) *batch { return nil }
