//go:build !linux

package server

import "net"

// batch exists on Linux alone.
type batch struct{ single }

func newBatch(net.PacketConn) *batch { return nil }
