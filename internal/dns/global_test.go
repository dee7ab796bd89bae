package dns

import (
	"net/netip"
	"testing"
)

func TestGlobal(t *testing.T) {
	for addr, want := range map[string]bool{
		"192.0.2.1": true, "198.51.100.1": true, "203.0.113.1": true, "2001:db8::1": true, // documentation stands for the world
		"100.63.255.255": true, "100.64.0.1": false, "0.1.2.3": false, "240.0.0.1": false, "255.255.255.255": false,
		"10.0.0.1": false, "172.16.0.1": false, "192.168.0.1": false, "127.0.0.1": false, "169.254.0.1": false, "224.0.0.1": false,
		"192.0.0.8": false, "198.18.0.1": false, "198.19.255.255": false, "198.20.0.1": true,
		"::": false, "::1": false, "fe80::1": false, "fd00::1": false, "fec0::1": false, "100::1": false, "ff02::1": false,
		"::ffff:10.0.0.1": false, "::ffff:192.0.2.1": true, "::192.0.2.1": false, // mapped, and compatible
		"64:ff9b::192.0.2.1": true, "64:ff9b::10.0.0.1": false, "64:ff9b::7f00:1": false, "64:ff9b:1::192.0.2.1": false, // NAT64
		"2002:c000:201::1": true, "2002:a00:1::1": false, "2002:7f00:1::1": false, // 6to4
	} {
		if got := Global(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %t", addr, got)
		}
	}
}
