//go:build !linux

package resolver

import (
	"net"
	"net/netip"
)

// openUDP opens a connected socket for one question: the kernel picks a random port and
// only lets through what comes from the server (RFC 5452 §4.5, §9.1).
func openUDP(server netip.AddrPort) (net.Conn, error) {
	return net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
}
