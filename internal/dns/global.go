package dns

import (
	"net/netip"
	"slices"
)

// The networks of IANA's special-purpose registries (RFC 6890) that net/netip takes for global:
// this network, carriers' NAT, protocol assignments, benchmarks, the future, and IPv6 that holds
// an IPv4 address (RFC 4291 §2.5.5.1), is translated locally (RFC 8215), thrown away or
// site-local. Those of documentation are not here.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"), netip.MustParsePrefix("fec0::/10"),
}

// Those that lead to an IPv4 address: NAT64 (RFC 6052 §2.1) and 6to4 (RFC 3056 §2).
var (
	nat64   = netip.MustParsePrefix("64:ff9b::/96")
	sixToV4 = netip.MustParsePrefix("2002::/16")
)

// Global reports whether packets from elsewhere can arrive at an address. No record of a
// stranger's makes us connect to another.
func Global(a netip.Addr) bool {
	a = a.Unmap()
	if a.Is6() {
		b := a.As16()
		switch {
		case nat64.Contains(a):
			return Global(netip.AddrFrom4([4]byte(b[12:])))
		case sixToV4.Contains(a):
			return Global(netip.AddrFrom4([4]byte(b[2:6])))
		}
	}
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}
