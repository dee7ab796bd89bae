package edge

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/reputation"
)

// smtpPort: RFC 5321 §4.5.4.2.
const smtpPort = 25

// SynWatcher sees the knocks at a host where nobody listens, and records each as a Contact
// without a session. The kernel answers a SYN with RST (RFC 9293 §3.5.2) and gives a copy
// of it to raw sockets; on Linux these need root or CAP_NET_RAW, and they see what the
// firewall lets in. Such a knock may carry anybody's address.
type SynWatcher struct {
	Host      dns.Name
	Addresses []netip.AddrPort // may be changed before Run

	record func(reputation.Contact)
	log    *events
}

// Watch gives the watcher of a host that refuses.
func (g *Gate) Watch(name dns.Name) *SynWatcher {
	g.prepare()
	w := &SynWatcher{Host: name, record: g.recorder.put, log: g.log}
	for _, h := range g.Plan.Hosts {
		if h.Name != name {
			continue
		}
		w.Addresses = append(w.Addresses, h.Listen...)
		if len(h.Listen) == 0 {
			for _, a := range h.Addresses {
				w.Addresses = append(w.Addresses, netip.AddrPortFrom(a, smtpPort))
			}
		}
	}
	return w
}

// Run watches until ctx ends. An address that cannot be watched is logged, and is no error:
// mail goes on without it.
func (w *SynWatcher) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, at := range w.Addresses {
		at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		conn, err := listenRaw(at)
		if err != nil {
			w.log.unwatched(w.Host, at, err)
			continue
		}
		w.log.watched(w.Host, at)
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		running.Go(func() {
			defer stop()
			defer conn.Close()
			w.watch(conn, at.Port())
		})
	}
	running.Wait()
	<-ctx.Done()
	return nil
}

// listenRaw opens a raw socket that sees little more than SYNs to one address and port.
func listenRaw(at netip.AddrPort) (*net.IPConn, error) {
	network := "ip6:tcp"
	if at.Addr().Is4() {
		network = "ip4:tcp"
	}
	conn, err := net.ListenIP(network, &net.IPAddr{IP: at.Addr().AsSlice(), Zone: at.Addr().Zone()})
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", at, err)
	}
	filterSYN(conn, at)
	return conn, nil
}

// TCP's flags (RFC 9293 §3.1).
const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpACK = 0x10

	tcpFirst = tcpFIN | tcpSYN | tcpRST | tcpACK // of these, a first SYN has SYN alone
)

// Offsets of TCP's header (RFC 9293 §3.1), and its least length.
const (
	tcpDestination = 2
	tcpDataOffset  = 12
	tcpFlags       = 13
	tcpHeader      = 20
)

// filterSYN has the kernel drop what is no SYN to the port: the address may be a busy one.
// It saves work, and nothing depends on it, so its errors do not matter: firstSYN looks at
// each segment again.
func filterSYN(conn *net.IPConn, at netip.AddrPort) {
	var program []bpf.Instruction
	load := func(offset uint32, size int) bpf.Instruction { return bpf.LoadAbsolute{Off: offset, Size: size} }
	if at.Addr().Is4() { // a raw IPv4 socket's packets begin with the IP header
		program = append(program, bpf.LoadMemShift{Off: 0})
		load = func(offset uint32, size int) bpf.Instruction { return bpf.LoadIndirect{Off: offset, Size: size} }
	}
	program = append(program,
		load(tcpDestination, 2),
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(at.Port()), SkipTrue: 4},
		load(tcpFlags, 1),
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: tcpFirst},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: tcpSYN, SkipTrue: 1},
		bpf.RetConstant{Val: maxSegment},
		bpf.RetConstant{Val: 0},
	)
	raw, err := bpf.Assemble(program)
	if err != nil {
		return
	}
	if at.Addr().Is4() {
		ipv4.NewPacketConn(conn).SetBPF(raw)
	} else {
		ipv6.NewPacketConn(conn).SetBPF(raw)
	}
}

// maxSegment is enough for the longest IPv4 and TCP headers, 60 octets each.
const maxSegment = 128

// firstSYN gives the destination port of a segment that asks for a new connection.
func firstSYN(segment []byte) (port uint16, ok bool) {
	if len(segment) < tcpHeader {
		return 0, false
	}
	header := int(segment[tcpDataOffset]>>4) * 4
	if header < tcpHeader || header > len(segment) || segment[tcpFlags]&tcpFirst != tcpSYN {
		return 0, false
	}
	return binary.BigEndian.Uint16(segment[tcpDestination:]), true
}

// watch reads until the socket is closed.
func (w *SynWatcher) watch(conn *net.IPConn, port uint16) {
	var seen knocks
	buf := make([]byte, maxSegment)
	for {
		n, from, err := conn.ReadFromIP(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			time.Sleep(time.Millisecond) // whatever it is, it shall not spin
			continue
		}
		w.saw(buf[:n], from, port, &seen)
	}
}

// saw judges one segment.
func (w *SynWatcher) saw(segment []byte, from *net.IPAddr, port uint16, seen *knocks) {
	defer w.log.survive("read a knock at a decoy")
	if to, ok := firstSYN(segment); !ok || to != port {
		return
	}
	client, ok := netip.AddrFromSlice(from.IP)
	if !ok {
		return
	}
	now := time.Now()
	if client = client.Unmap(); seen.note(client, now) {
		w.record(reputation.Contact{Client: client, Host: w.Host, Stage: mail.StageConnect, When: now})
	}
}

// Bounds of what a flood of SYNs, with forged sources perhaps, can make us record.
const (
	knockWindow = 10 * time.Second
	maxKnocks   = 500 // clients in a window
)

// knocks remembers who knocked in the current window, so that each client is recorded
// once in it, however often it tries.
type knocks struct {
	begun   time.Time
	clients map[netip.Addr]struct{}
}

// note reports whether the knock is worth a record.
func (k *knocks) note(client netip.Addr, now time.Time) bool {
	if k.clients == nil || now.Sub(k.begun) >= knockWindow {
		k.begun, k.clients = now, map[netip.Addr]struct{}{}
	}
	if _, known := k.clients[client]; known || len(k.clients) >= maxKnocks {
		return false
	}
	k.clients[client] = struct{}{}
	return true
}
