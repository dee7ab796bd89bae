package server

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// ListenUDP opens n UDP sockets at one address, between which the kernel spreads clients
// (SO_REUSEPORT), so that each core can have a reader of its own: give each to ServeUDP. The
// port may be 0; all get the same. Where the system cannot share a port it opens one.
func ListenUDP(ctx context.Context, network, address string, n int) ([]net.PacketConn, error) {
	if !canSharePort {
		n = 1
	}
	var config net.ListenConfig
	if n > 1 {
		config.Control = sharePort
	}
	var sockets []net.PacketConn
	for len(sockets) < max(n, 1) {
		pc, err := config.ListenPacket(ctx, network, address)
		if err != nil {
			errs := []error{fmt.Errorf("listen on %s %s: %w", network, address, err)}
			for _, open := range sockets {
				errs = append(errs, open.Close())
			}
			return nil, errors.Join(errs...)
		}
		sockets = append(sockets, pc)
		address = pc.LocalAddr().String()
	}
	return sockets, nil
}
