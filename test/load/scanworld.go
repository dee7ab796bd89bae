package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
)

// The lab internet of scan: its zones are made up when they are asked for, so that a million of
// them cost nothing. Domain number i is di.tN; who serves it, who takes its mail and what is
// wrong with it follow from the number. One socket answers for all addresses of 127/8.
//
//	127.1.0.1-2   root          127.2.p.x  name servers of provider p
//	127.1.1.1-4   t0 to t4      127.3.m.1-2  those of mail provider m
//	127.1.2.1-2   in-addr.arpa  127.9.x.x  nobody
const (
	scanTLDs      = 5
	scanNSOf      = 20 // providers of name servers, with Zipf's shares
	scanMailOf    = 15 // and of mail
	scanMostPairs = 32 // of name servers of the largest provider
	scanNoTCP     = 17 // the provider whose servers take no TCP
	scanNoEDNS    = 18 // and the one whose servers know no EDNS
	scanTTL       = 3600
)

const (
	rrA     = 1
	rrNS    = 2
	rrCNAME = 5
	rrSOA   = 6
	rrPTR   = 12
	rrMX    = 15
	rrTXT   = 16
	rrCAA   = 257
	rrOPT   = 41

	rcodeServFail = 2
	rcodeNXDomain = 3
	rcodeRefused  = 5
)

// kind is what is wrong with a domain.
type kind int

const (
	kindFine   kind = iota
	kindSelf        // fine, and it takes its own mail
	kindAbsent      // not delegated
	kindLame        // the second server refuses
	kindHalf        // the second server is dead
	kindDead        // both are
	kindFails       // SERVFAIL for MX
	kindCNAME       // an alias as MX host
	kindTwoSPF
	kindNullMX
)

func mixed(i int, salt uint64) *rand.Rand { return rand.New(rand.NewPCG(uint64(i), salt)) }

// kindOf gives three in a hundred something that hurts and a few more something that is wrong.
func kindOf(i int) kind {
	switch n := mixed(i, 1).IntN(1000); {
	case n < 5:
		return kindAbsent
	case n < 10:
		return kindLame
	case n < 15:
		return kindHalf
	case n < 17:
		return kindDead
	case n < 20:
		return kindFails
	case n < 30:
		return kindCNAME
	case n < 40:
		return kindTwoSPF
	case n < 60:
		return kindNullMX
	case n < 110:
		return kindSelf
	}
	return kindFine
}

// zipf gives one of n, the first most often.
func zipf(i int, n int, salt uint64) int {
	total := 0.0
	for k := range n {
		total += 1 / float64(k+1)
	}
	at := mixed(i, salt).Float64() * total
	for k := range n {
		if at -= 1 / float64(k+1); at < 0 {
			return k
		}
	}
	return n - 1
}

func nsOf(i int) (provider, pair int) {
	provider = zipf(i, scanNSOf, 2)
	return provider, mixed(i, 3).IntN(max(1, scanMostPairs/(provider+1)))
}

func mailOf(i int) int { return zipf(i, scanMailOf, 4) }

func scanDomain(i int) string { return fmt.Sprintf("d%d.t%d", i, i%scanTLDs) }

// reply is one answer in the making.
type synthetic struct {
	rcode            int
	aa               bool
	answer, ns, more []record
}

// record is one; its owner is "" for the name that was asked for.
type record struct {
	owner string
	typ   uint16
	data  []byte
}

func wireName(name string) []byte {
	var b []byte
	for label := range strings.SplitSeq(name, ".") {
		if label != "" {
			b = append(append(b, byte(len(label))), label...)
		}
	}
	return append(b, 0)
}

func addr(text string) []byte { a := netip.MustParseAddr(text).As4(); return a[:] }

func soaData(zone string) []byte {
	b := append(wireName("ns1."+zone), wireName("hostmaster."+zone)...)
	for _, n := range []uint32{1, 14400, 3600, 1209600, 3600} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}

func mxData(preference uint16, host string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, preference), wireName(host)...)
}

func txtData(text string) []byte { return append([]byte{byte(len(text))}, text...) }

// data answers out of the records of a zone's name: what is not there is denied.
func data(zone string, exists bool, qtype uint16, records ...record) synthetic {
	s := synthetic{aa: true}
	for _, r := range records {
		if r.typ == qtype || r.typ == rrCNAME {
			s.answer = append(s.answer, r)
		}
	}
	if len(s.answer) == 0 {
		s.ns = []record{{zone, rrSOA, soaData(zone)}}
		if !exists && len(records) == 0 {
			s.rcode = rcodeNXDomain
		}
	}
	return s
}

func referral(zone string, servers map[string]string) synthetic {
	var s synthetic
	for name, at := range servers {
		s.ns = append(s.ns, record{zone, rrNS, wireName(name)})
		if at != "" {
			s.more = append(s.more, record{name, rrA, addr(at)})
		}
	}
	return s
}

// world answers a question that came to one of its addresses; false is silence.
func scanAnswer(at [4]byte, name string, qtype uint16) (synthetic, bool) {
	labels := strings.Split(name, ".")
	switch {
	case at[1] == 1 && at[2] == 0:
		return rootAnswer(name, labels, qtype), true
	case at[1] == 1 && at[2] == 1:
		return tldAnswer(name, labels, qtype), true
	case at[1] == 1 && at[2] == 2:
		return reverseAnswer(name, labels, qtype), true
	case at[1] == 2:
		return providerAnswer(int(at[2]), int(at[3]), name, labels, qtype), true
	case at[1] == 3:
		return mailAnswer(int(at[2]), name, labels, qtype), true
	}
	return synthetic{}, false
}

func rootAnswer(name string, labels []string, qtype uint16) synthetic {
	top := labels[len(labels)-1]
	switch {
	case name == "":
		return data("", true, qtype, record{"", rrSOA, soaData("root")}, record{"", rrNS, wireName("a.root")}, record{"", rrNS, wireName("b.root")})
	case top == "root":
		return data("", true, qtype, record{"", rrA, addr("127.1.0.1")})
	case top == "arpa":
		if len(labels) > 1 && labels[len(labels)-2] == "in-addr" {
			return referral("in-addr.arpa", map[string]string{"r1.in-addr.arpa": "127.1.2.1", "r2.in-addr.arpa": "127.1.2.2"})
		}
		return data("", len(labels) == 1, qtype)
	case number(top, "t", scanTLDs) >= 0:
		servers := map[string]string{}
		for k := range 4 {
			servers[fmt.Sprintf("s%d.nic.%s", k, top)] = fmt.Sprintf("127.1.1.%d", k+1)
		}
		return referral(top, servers)
	}
	return data("", false, qtype)
}

// number gives n of a label such as d12; -1 if it is none below most.
func number(label, begins string, most int) int {
	rest, ok := strings.CutPrefix(label, begins)
	n, err := strconv.Atoi(rest)
	if !ok || err != nil || n < 0 || n >= most {
		return -1
	}
	return n
}

func tldAnswer(name string, labels []string, qtype uint16) synthetic {
	top := labels[len(labels)-1]
	if len(labels) == 1 {
		return data(top, true, qtype, record{"", rrSOA, soaData(top)}, record{"", rrNS, wireName("s0.nic." + top)}, record{"", rrNS, wireName("s1.nic." + top)})
	}
	second := labels[len(labels)-2]
	zone := second + "." + top
	if second == "nic" {
		if k := number(labels[0], "s", 4); k >= 0 {
			return data(top, true, qtype, record{"", rrA, addr(fmt.Sprintf("127.1.1.%d", k+1))})
		}
		return data(top, len(labels) == 2, qtype)
	}
	if p := number(second, "nsp", scanNSOf); p >= 0 && top == "t0" {
		return referral(zone, map[string]string{"a0." + zone: fmt.Sprintf("127.2.%d.1", p), "b0." + zone: fmt.Sprintf("127.2.%d.2", p)})
	}
	if m := number(second, "mail", scanMailOf); m >= 0 && top == "t1" {
		return referral(zone, map[string]string{"ns1." + zone: fmt.Sprintf("127.3.%d.1", m), "ns2." + zone: fmt.Sprintf("127.3.%d.2", m)})
	}
	i := number(second, "d", 1<<30)
	if i < 0 || scanDomain(i) != zone || kindOf(i) == kindAbsent {
		return data(top, false, qtype)
	}
	one, two := serversOf(i)
	return referral(zone, map[string]string{one: "", two: ""})
}

// serversOf gives the names of a domain's servers; those called x are dead.
func serversOf(i int) (one, two string) {
	p, k := nsOf(i)
	one, two = fmt.Sprintf("a%d.nsp%d.t0", k, p), fmt.Sprintf("b%d.nsp%d.t0", k, p)
	switch kindOf(i) {
	case kindHalf:
		two = fmt.Sprintf("x%d.nsp%d.t0", i%5, p)
	case kindDead:
		one, two = fmt.Sprintf("x%d.nsp%d.t0", i%5, p), fmt.Sprintf("x%d.nsp%d.t0", i%5+5, p)
	}
	return one, two
}

func reverseAnswer(name string, labels []string, qtype uint16) synthetic {
	const zone = "in-addr.arpa"
	switch {
	case name == zone:
		return data(zone, true, qtype, record{"", rrSOA, soaData(zone)}, record{"", rrNS, wireName("r1." + zone)}, record{"", rrNS, wireName("r2." + zone)})
	case labels[0] == "r1" || labels[0] == "r2":
		return data(zone, true, qtype, record{"", rrA, addr("127.1.2." + labels[0][1:])})
	case len(labels) != 6:
		return data(zone, true, qtype)
	}
	switch d, c := labels[0], labels[1]; labels[3] + "." + labels[2] {
	case "198.51": // mail provider c's host d
		return data(zone, true, qtype, record{"", rrPTR, wireName(fmt.Sprintf("mx%s.mail%s.t1", d, c))})
	case "203.0": // a domain's own host
		return data(zone, true, qtype, record{"", rrPTR, wireName(fmt.Sprintf("host-%s-%s.mail0.t1", c, d))})
	}
	return data(zone, false, qtype)
}

func mailAnswer(m int, name string, labels []string, qtype uint16) synthetic {
	zone := fmt.Sprintf("mail%d.t1", m)
	if len(labels) < 2 || strings.Join(labels[len(labels)-2:], ".") != zone {
		return synthetic{rcode: rcodeRefused}
	}
	switch host := labels[0]; {
	case name == zone:
		return data(zone, true, qtype, record{"", rrSOA, soaData(zone)}, record{"", rrNS, wireName("ns1." + zone)}, record{"", rrNS, wireName("ns2." + zone)})
	case host == "ns1" || host == "ns2":
		return data(zone, true, qtype, record{"", rrA, addr(fmt.Sprintf("127.3.%d.%s", m, host[2:]))})
	case host == "mx1" || host == "mx2":
		return data(zone, true, qtype, record{"", rrA, addr(fmt.Sprintf("198.51.%d.%s", m, host[2:]))})
	case host == "alias":
		return data(zone, true, qtype, record{"", rrCNAME, wireName("mx1." + zone)}, record{"mx1." + zone, rrA, addr(fmt.Sprintf("198.51.%d.1", m))})
	case host == "_spf":
		return data(zone, true, qtype, record{"", rrTXT, txtData(fmt.Sprintf("v=spf1 ip4:198.51.%d.0/24 ~all", m))})
	case strings.HasPrefix(host, "host-"):
		if parts := strings.Split(host, "-"); len(parts) == 3 {
			return data(zone, true, qtype, record{"", rrA, addr("203.0." + parts[1] + "." + parts[2])})
		}
	}
	return data(zone, false, qtype)
}

func providerAnswer(p, at int, name string, labels []string, qtype uint16) synthetic {
	if len(labels) < 2 {
		return synthetic{rcode: rcodeRefused}
	}
	zone := strings.Join(labels[len(labels)-2:], ".")
	if zone == fmt.Sprintf("nsp%d.t0", p) {
		return nsNames(p, zone, name, labels, qtype)
	}
	i := number(labels[len(labels)-2], "d", 1<<30)
	if i < 0 || scanDomain(i) != zone {
		return synthetic{rcode: rcodeRefused}
	}
	k := kindOf(i)
	if owner, _ := nsOf(i); owner != p || k == kindLame && at%2 == 0 {
		return synthetic{rcode: rcodeRefused}
	}
	if k == kindFails && qtype == rrMX {
		return synthetic{rcode: rcodeServFail}
	}
	return domainAnswer(i, k, zone, strings.TrimSuffix(strings.TrimSuffix(name, zone), "."), qtype)
}

func nsNames(p int, zone, name string, labels []string, qtype uint16) synthetic {
	if name == zone {
		return data(zone, true, qtype, record{"", rrSOA, soaData(zone)}, record{"", rrNS, wireName("a0." + zone)}, record{"", rrNS, wireName("b0." + zone)})
	}
	for side, letter := range []string{"a", "b"} {
		if k := number(labels[0], letter, scanMostPairs); k >= 0 {
			return data(zone, true, qtype, record{"", rrA, addr(fmt.Sprintf("127.2.%d.%d", p, 2*k+side+1))})
		}
	}
	if k := number(labels[0], "x", 10); k >= 0 {
		return data(zone, true, qtype, record{"", rrA, addr(fmt.Sprintf("127.9.%d.%d", p, k+1))})
	}
	return data(zone, false, qtype)
}

func domainAnswer(i int, k kind, zone, host string, qtype uint16) synthetic {
	m := fmt.Sprintf("mail%d.t1", mailOf(i))
	dice := mixed(i, 5)
	hasSPF, hasDMARC, hasCAA, hasRPT := dice.IntN(10) < 8, dice.IntN(10) < 5, dice.IntN(10) < 2, dice.IntN(20) < 1
	one, two := serversOf(i)
	switch host {
	case "":
		all := []record{
			{"", rrSOA, soaData(zone)}, {"", rrNS, wireName(one)}, {"", rrNS, wireName(two)}, {"", rrA, addr(fmt.Sprintf("192.0.2.%d", 1+i%250))},
			{"", rrTXT, txtData("some-verification=" + zone)},
		}
		switch k {
		case kindNullMX:
			all = append(all, record{"", rrMX, mxData(0, "")}, record{"", rrTXT, txtData("v=spf1 -all")})
			return data(zone, true, qtype, all...)
		case kindSelf:
			all = append(all, record{"", rrMX, mxData(10, "mail."+zone)})
		case kindCNAME:
			all = append(all, record{"", rrMX, mxData(10, "alias."+m)})
		default:
			all = append(all, record{"", rrMX, mxData(10, "mx1."+m)}, record{"", rrMX, mxData(20, "mx2."+m)})
		}
		if k == kindTwoSPF {
			all = append(all, record{"", rrTXT, txtData("v=spf1 mx -all")})
		}
		if hasSPF || k == kindTwoSPF {
			all = append(all, record{"", rrTXT, txtData("v=spf1 include:_spf." + m + " -all")})
		}
		if hasCAA {
			all = append(all, record{"", rrCAA, append([]byte{0, 5}, "issueca.example.net"...)})
		}
		return data(zone, true, qtype, all...)
	case "mail":
		if k == kindSelf {
			return data(zone, true, qtype, record{"", rrA, addr(fmt.Sprintf("203.0.%d.%d", i/250%250, 1+i%250))})
		}
	case "www":
		return data(zone, true, qtype, record{"", rrA, addr(fmt.Sprintf("192.0.2.%d", 1+i%250))})
	case "_dmarc":
		if hasDMARC {
			return data(zone, true, qtype, record{"", rrTXT, txtData("v=DMARC1; p=none; rua=mailto:dmarc@" + zone)})
		}
	case "_smtp._tls":
		if hasRPT {
			return data(zone, true, qtype, record{"", rrTXT, txtData("v=TLSRPTv1; rua=mailto:tls@" + zone)})
		}
	case "_tls":
		return data(zone, hasRPT, qtype)
	}
	return data(zone, false, qtype)
}

// respond makes the bytes of an answer; nil is silence.
func respond(at [4]byte, packet []byte) []byte {
	if len(packet) < 12 || packet[2]&0x80 != 0 {
		return nil
	}
	name, end, ok := questionName(packet)
	if !ok || end+4 > len(packet) {
		return nil
	}
	qtype := binary.BigEndian.Uint16(packet[end:])
	edns := packet[11] > 0
	s, ok := scanAnswer(at, name, qtype)
	if !ok {
		return nil
	}
	out := append(make([]byte, 0, 512), packet[:end+4]...)
	out[2], out[3] = 0x80, byte(s.rcode)
	if s.aa {
		out[2] |= 0x04
	}
	counts := [4]int{1, len(s.answer), len(s.ns), len(s.more)}
	for _, section := range [][]record{s.answer, s.ns, s.more} {
		for _, r := range section {
			out = r.append(out, name)
		}
	}
	if edns && !(at[1] == 2 && at[2] == scanNoEDNS) {
		out = append(out, 0, 0, rrOPT, 1232>>8, 1232&0xff, 0, 0, 0, 0, 0, 0)
		counts[3]++
	}
	for i, n := range counts {
		binary.BigEndian.PutUint16(out[4+2*i:], uint16(n))
	}
	return out
}

func (r record) append(out []byte, asked string) []byte {
	if r.owner == "" && asked != "" {
		out = append(out, 0xc0, 12)
	} else {
		out = append(out, wireName(r.owner)...)
	}
	out = binary.BigEndian.AppendUint16(out, r.typ)
	out = append(out, 0, 1)
	out = binary.BigEndian.AppendUint32(out, scanTTL)
	out = binary.BigEndian.AppendUint16(out, uint16(len(r.data)))
	return append(out, r.data...)
}

// questionName reads the name in lower case, without the last dot, and where it ends.
func questionName(packet []byte) (string, int, bool) {
	var b []byte
	for i := 12; i < len(packet); {
		n := int(packet[i])
		i++
		switch {
		case n == 0:
			return strings.ToLower(string(b)), i, true
		case n > 63 || i+n > len(packet):
			return "", 0, false
		}
		if len(b) > 0 {
			b = append(b, '.')
		}
		b = append(b, packet[i:i+n]...)
		i += n
	}
	return "", 0, false
}

// serveScan is the process of the lab internet: it prints the number of questions so far for
// every line that it reads. Each answer takes that long.
func serveScan(delay time.Duration) error {
	var asked atomic.Int64
	udp, err := net.ListenPacket("udp4", "0.0.0.0:53")
	if err != nil {
		return err
	}
	defer udp.Close()
	udp.(*net.UDPConn).SetReadBuffer(8 << 20)
	tcp, err := net.Listen("tcp4", "0.0.0.0:53")
	if err != nil {
		return err
	}
	defer tcp.Close()
	pc := ipv4.NewPacketConn(udp)
	if err := pc.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return err
	}
	go serveScanUDP(pc, delay, &asked)
	go serveScanTCP(tcp, delay, &asked)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Println(asked.Load())
	}
	return lines.Err()
}

func serveScanUDP(pc *ipv4.PacketConn, delay time.Duration, asked *atomic.Int64) {
	const batch = 64
	in, out := make([]ipv4.Message, batch), make([]ipv4.Message, 0, batch)
	for i := range in {
		in[i].Buffers, in[i].OOB = [][]byte{make([]byte, 4096)}, ipv4.NewControlMessage(ipv4.FlagDst)
	}
	for {
		n, err := pc.ReadBatch(in, 0)
		if err != nil {
			return
		}
		out = out[:0]
		for _, m := range in[:n] {
			var cm ipv4.ControlMessage
			if cm.Parse(m.OOB[:m.NN]) != nil || cm.Dst == nil {
				continue
			}
			asked.Add(1)
			b := respond([4]byte(cm.Dst.To4()), m.Buffers[0][:m.N])
			if b == nil {
				continue
			}
			reply := ipv4.Message{Buffers: [][]byte{b}, OOB: (&ipv4.ControlMessage{Src: append(net.IP(nil), cm.Dst.To4()...)}).Marshal(), Addr: m.Addr}
			if delay > 0 {
				time.AfterFunc(delay, func() { pc.WriteBatch([]ipv4.Message{reply}, 0) })
				continue
			}
			out = append(out, reply)
		}
		for sent := 0; sent < len(out); {
			n, err := pc.WriteBatch(out[sent:], 0)
			if err != nil {
				n = 1 // whoever asked has gone
			}
			sent += max(n, 1)
		}
	}
}

func serveScanTCP(ln net.Listener, delay time.Duration, asked *atomic.Int64) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			at := [4]byte(conn.LocalAddr().(*net.TCPAddr).IP.To4())
			if at[1] == 9 || at[1] == 2 && at[2] == scanNoTCP {
				return
			}
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			time.Sleep(delay) // of the handshake
			var length [2]byte
			for {
				if _, err := io.ReadFull(conn, length[:]); err != nil {
					return
				}
				packet := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(conn, packet); err != nil {
					return
				}
				asked.Add(1)
				time.Sleep(delay)
				b := respond(at, packet)
				if b == nil {
					return
				}
				if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)); err != nil {
					return
				}
			}
		}()
	}
}

var errLost = errors.New("lines were lost, or came twice")

// parallel does n things, some at once.
func parallel(ctx context.Context, n, atOnce int, do func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	all.Wait()
}
