package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mxward/internal/dns/dnstest"
)

// patience is how long a relay waits for a server of the zoo.
const patience = 5 * time.Second

// outside puts the animal's servers on real sockets, at their own addresses in a network
// namespace, and runs do there: programs that it starts see this small internet and nothing else.
func (a animal) outside(t *testing.T, do func() error) error {
	t.Helper()
	var n dnstest.Net
	a.worldOn(t, &n)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread, and with it the namespace, ends with the goroutine
		done <- inNamespace(&n, a.noTCP, do)
	}()
	return <-done
}

func inNamespace(n *dnstest.Net, noTCP string, do func() error) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	hosts := n.Hosts()
	if err := plug(hosts); err != nil {
		return err
	}
	// An IPv6 address may not be ready yet; it is before anybody asks.
	anyway := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
		return errors.Join(err, failed)
	}}
	var open []io.Closer
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	for addr, host := range hosts {
		at := netip.AddrPortFrom(addr, 53)
		if !listens(host) {
			continue
		}
		udp, err := anyway.ListenPacket(context.Background(), "udp", at.String())
		if err != nil {
			return err
		}
		open = append(open, udp)
		go relayUDP(udp.(*net.UDPConn), n, at)
		if addr.String() == noTCP {
			continue
		}
		tcp, err := anyway.Listen(context.Background(), "tcp", at.String())
		if err != nil {
			return err
		}
		open = append(open, tcp)
		go relayTCP(tcp, n, at)
	}
	return do()
}

func listens(h dnstest.Host) bool {
	return h.Behaviour != dnstest.Silent && h.Behaviour != dnstest.Refusing && h.Behaviour != dnstest.NoRoute
}

// plug gives the namespace its addresses. What is sent to any other goes into a cable whose far
// end throws it away: nobody is there. At a closed port the kernel says so by itself.
func plug(hosts map[netip.Addr]dnstest.Host) error {
	script := []string{
		"link set lo up", "link add cable type veth peer name void",
		"link set cable arp off up", "link set void arp off up",
		"addr add 192.0.2.255/32 dev cable", "route add default dev cable",
		"addr add 2001:db8::ffff/128 dev cable nodad", "-6 route add default dev cable",
	}
	for addr, host := range hosts {
		switch host.Behaviour {
		case dnstest.Silent:
		case dnstest.NoRoute:
			script = append(script, "route add unreachable "+addr.String())
		default:
			script = append(script, "addr add "+netip.PrefixFrom(addr, addr.BitLen()).String()+" dev lo")
		}
	}
	for _, line := range script {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	return nil
}

// relayUDP hands each packet to the zoo's server at that address, and what it says back.
func relayUDP(conn *net.UDPConn, n *dnstest.Net, at netip.AddrPort) {
	for {
		packet := make([]byte, 64<<10)
		size, from, err := conn.ReadFromUDPAddrPort(packet)
		if err != nil {
			return
		}
		go func() {
			server, err := n.Dial(context.Background(), "udp", at.String())
			if err != nil {
				return
			}
			defer server.Close()
			_ = server.SetReadDeadline(time.Now().Add(patience))
			answer := make([]byte, 64<<10)
			if _, err := server.Write(packet[:size]); err != nil {
				return
			}
			if size, err := server.Read(answer); err == nil {
				_, _ = conn.WriteToUDPAddrPort(answer[:size], from)
			}
		}()
	}
}

func relayTCP(l net.Listener, n *dnstest.Net, at netip.AddrPort) {
	for {
		client, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		go func() {
			defer client.Close()
			server, err := n.Dial(context.Background(), "tcp", at.String())
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
			_, _ = io.Copy(client, server)
		}()
	}
}
