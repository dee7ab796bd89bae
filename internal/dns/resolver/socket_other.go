//go:build !linux

package resolver

import (
	"net"
	"net/netip"
)

// udpSockets gives each question a connected socket: the kernel picks a random port and only
// lets through what comes from the server (RFC 5452 §4.5, §9.1).
type udpSockets struct{}

// open gives a socket that is connected to a server.
func (*udpSockets) open(server netip.AddrPort) (net.Conn, error) {
	return net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
}
