package health

import (
	"bufio"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// The limits of libc's own reader.
const (
	maxServers  = 3
	maxConfText = 64 << 10
)

// ParseResolvConf gives the resolvers that resolv.conf(5) names, the first three as libc
// does. A file that names none means one on this host.
func ParseResolvConf(text io.Reader) []netip.AddrPort {
	var servers []netip.AddrPort
	lines := bufio.NewScanner(io.LimitReader(text, maxConfText))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" || len(servers) == maxServers {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, netip.AddrPortFrom(a, 53))
		} else if at, ok := bracketed(fields[1]); ok {
			servers = append(servers, at)
		}
	}
	if len(servers) == 0 {
		servers = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53)}
	}
	return servers
}

// bracketed reads [address]:port, which OpenBSD's libc takes.
func bracketed(s string) (netip.AddrPort, bool) {
	rest, ok := strings.CutPrefix(s, "[")
	host, port, found := strings.Cut(rest, "]:")
	a, err := netip.ParseAddr(host)
	n, err2 := strconv.ParseUint(port, 10, 16)
	return netip.AddrPortFrom(a, uint16(n)), ok && found && err == nil && err2 == nil && n > 0
}
