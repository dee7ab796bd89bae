package server_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/server"
	"mxward/internal/dns/zone"
)

// peer is another authoritative server, which is given the same zone files.
type peer struct {
	program, debian string
	config          func(dir string, port int, zones map[string]string) string
	args            func(config string) []string
}

var peers = map[string]peer{
	"nsd":  {"nsd", "nsd", nsdConfig, func(c string) []string { return []string{"-d", "-c", c} }},
	"bind": {"named", "bind9", bindConfig, func(c string) []string { return []string{"-g", "-n", "1", "-c", c} }},
}

func nsdConfig(dir string, port int, zones map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `server:
	ip-address: 127.0.0.1@%d
	server-count: 1
	username: ""
	chroot: ""
	zonesdir: %[2]q
	database: ""
	pidfile: "%[2]s/nsd.pid"
	xfrdfile: "%[2]s/xfrd.state"
	zonelistfile: "%[2]s/zone.list"
	rrl-ratelimit: 0
	minimal-responses: no
	refuse-any: no
remote-control:
	control-enable: no
`, port, dir)
	for origin, file := range zones {
		fmt.Fprintf(&b, "zone:\n\tname: %q\n\tzonefile: %q\n", origin, file)
	}
	return b.String()
}

func bindConfig(dir string, port int, zones map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `options {
	directory %[2]q;
	pid-file none;
	session-keyfile none;
	listen-on port %[1]d { 127.0.0.1; };
	listen-on-v6 { none; };
	recursion no;
	dnssec-validation no;
	minimal-responses no-auth;
	answer-cookie no;
	zero-no-soa-ttl no;
	check-names primary ignore;
	check-mx ignore; check-mx-cname ignore; check-srv-cname ignore;
	check-integrity no;
	notify no;
};
controls { };
`, port, dir)
	for origin, file := range zones {
		fmt.Fprintf(&b, "zone %q { type primary; file %q; };\n", origin, file)
	}
	return b.String()
}

// start runs a peer until the test ends, and gives its address. Somebody else may take the
// port in the meantime; then another one is tried.
func (p peer) start(t *testing.T, zones map[string]string) string {
	t.Helper()
	path, err := exec.LookPath(p.program)
	if err != nil {
		path = "/usr/sbin/" + p.program
		if _, err := os.Stat(path); err != nil {
			t.Skipf("left out: needs Debian's %s (apt-get install %[1]s)", p.debian)
		}
	}
	for range 3 {
		if addr, ok := p.startAt(t, path, freePort(t), zones); ok {
			return addr
		}
	}
	t.Fatalf("%s does not serve the zones", p.program)
	return ""
}

func (p peer) startAt(t *testing.T, path string, port int, zones map[string]string) (addr string, ok bool) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, p.program+".conf")
	if err := os.WriteFile(config, []byte(p.config(dir, port, zones)), 0o644); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(path, p.args(config)...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", p.program, &said)
		}
	})
	addr = fmt.Sprintf("127.0.0.1:%d", port)
	return addr, servesZones(addr, zones, ended)
}

// servesZones waits until every zone is served, and reports whether that came to be.
func servesZones(addr string, zones map[string]string, ended <-chan struct{}) bool {
	deadline := time.Now().Add(20 * time.Second)
	for origin := range zones {
		for {
			m := new(wire.Msg).SetQuestion(wire.Fqdn(origin), wire.TypeSOA)
			reply, err := wire.Exchange(m, addr)
			if err == nil && reply.Rcode == wire.RcodeSuccess && reply.Authoritative {
				break
			}
			select {
			case <-ended:
				return false
			case <-time.After(20 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				return false
			}
		}
	}
	return true
}

// freePort gives a port that is free for UDP and TCP on 127.0.0.1.
func freePort(t *testing.T) int {
	t.Helper()
	pc, ln := sockets(t)
	_ = pc.Close()
	_ = ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// zoneFiles gives the zones of a folder by origin, as absolute paths.
func zoneFiles(t *testing.T, folder string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "peers", folder, "*.zone"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no zones in %s: %v", folder, err)
	}
	zones := map[string]string{}
	for _, file := range files {
		abs, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		origin := strings.TrimSuffix(filepath.Base(file), ".zone")
		if origin == "root" {
			origin = "."
		}
		zones[origin] = abs
	}
	return zones
}

// serve starts a server of ours with the zones, on UDP and TCP at one address.
func serve(t *testing.T, s *server.Server) string {
	t.Helper()
	pc, ln := sockets(t)
	served := make(chan error, 2)
	go func() { served <- s.ServeUDP(pc) }()
	go func() { served <- s.ServeTCP(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		for range 2 {
			if err := <-served; err != nil {
				t.Errorf("serve: %v", err)
			}
		}
	})
	return ln.Addr().String()
}

// sockets gives a UDP and a TCP socket at one address.
func sockets(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if pc, err := net.ListenPacket("udp", ln.Addr().String()); err == nil {
			return pc, ln
		}
		_ = ln.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

func ours(t *testing.T, zones map[string]string) *server.Server {
	t.Helper()
	mux := &dns.Mux{Zones: map[dns.Name]dns.Resolver{}}
	for origin, file := range zones {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		z, err := zone.Parse(f, dns.MustName(origin), filepath.Base(file))
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		mux.Zones[z.Origin] = z
	}
	return &server.Server{Resolver: mux}
}

// link asks one server, over UDP and over one TCP connection.
type link struct {
	udp, tcp net.Conn
	buf      []byte
}

func dial(t *testing.T, addr string) *link {
	t.Helper()
	l := &link{buf: make([]byte, 65535)}
	var err error
	if l.udp, err = net.Dial("udp", addr); err != nil {
		t.Fatal(err)
	}
	if l.tcp, err = net.Dial("tcp", addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.udp.Close()
		_ = l.tcp.Close()
	})
	return l
}

func (l *link) ask(t *testing.T, packet []byte, tcp bool) *wire.Msg {
	t.Helper()
	var reply []byte
	if tcp {
		reply = l.overTCP(t, packet)
	} else {
		reply = l.overUDP(t, packet)
	}
	m := new(wire.Msg)
	if err := m.Unpack(reply); err != nil {
		t.Fatalf("unpack: %v", err)
	}
	if m.Id != binary.BigEndian.Uint16(packet) {
		t.Fatalf("ID %d in the reply to %d", m.Id, binary.BigEndian.Uint16(packet))
	}
	return m
}

func (l *link) overUDP(t *testing.T, packet []byte) []byte {
	t.Helper()
	for range 3 {
		if _, err := l.udp.Write(packet); err != nil {
			t.Fatal(err)
		}
		_ = l.udp.SetReadDeadline(time.Now().Add(2 * time.Second))
		n, err := l.udp.Read(l.buf)
		if err == nil {
			return l.buf[:n]
		}
	}
	t.Fatal("no reply over UDP")
	return nil
}

func (l *link) overTCP(t *testing.T, packet []byte) []byte {
	t.Helper()
	_ = l.tcp.SetDeadline(time.Now().Add(5 * time.Second))
	frame := append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)
	if _, err := l.tcp.Write(frame); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(l.tcp, l.buf[:2]); err != nil {
		t.Fatal(err)
	}
	n := binary.BigEndian.Uint16(l.buf)
	if _, err := io.ReadFull(l.tcp, l.buf[:n]); err != nil {
		t.Fatal(err)
	}
	return l.buf[:n]
}

// peerTypes are the types that every name is asked for: those in the zones, some that are
// in none, and ANY.
var peerTypes = []uint16{
	wire.TypeA, wire.TypeNS, wire.TypeCNAME, wire.TypeSOA, wire.TypePTR, wire.TypeMX, wire.TypeTXT,
	wire.TypeAAAA, wire.TypeSRV, wire.TypeDS, wire.TypeDNAME, wire.TypeTLSA, wire.TypeANY,
}

var rareTypes = []uint16{
	wire.TypeHINFO, wire.TypeRP, wire.TypeNAPTR, wire.TypeLOC, wire.TypeSSHFP, wire.TypeURI, wire.TypeAFSDB,
	wire.TypeKX, wire.TypeSVCB, wire.TypeHTTPS, wire.TypeSMIMEA, wire.TypeSPF, wire.TypeCAA, wire.TypeDNSKEY,
	731, 65280, 62347, 65281, 4242,
}

// questions makes the questions about zones: each name, its parent, children, siblings,
// with every common type; the rare types are spread over the names. The random numbers are
// the same in every run.
func questions(t *testing.T, zones map[string]string) []wire.Question {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	names := map[string]bool{}
	for origin, file := range zones {
		names[wire.Fqdn(origin)] = true
		for _, name := range ownersIn(t, file, origin) {
			for labels := wire.SplitDomainName(name); len(labels) > 0; labels = labels[1:] {
				names[strings.Join(labels, ".")+"."] = true
			}
		}
	}
	asked := map[wire.Question]bool{}
	ask := func(name string, types ...uint16) {
		if _, ok := wire.IsDomainName(name); !ok {
			return
		}
		for _, qtype := range types {
			asked[wire.Question{Name: name, Qtype: qtype, Qclass: wire.ClassINET}] = true
		}
	}
	some := func(n int) (types []uint16) {
		for range n {
			types = append(types, peerTypes[random.IntN(len(peerTypes))])
		}
		return types
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		customers := strings.HasSuffix(name, ".example.net.") // many of a kind
		if customers {
			ask(name, some(2)...)
		} else {
			ask(name, peerTypes...)
		}
		ask(name, rareTypes[random.IntN(len(rareTypes))], rareTypes[random.IntN(len(rareTypes))])
		for _, child := range []string{"a.", "*.", "no.such."} {
			ask(child+strings.TrimPrefix(name, "."), some(2)...)
		}
		if labels := wire.SplitDomainName(name); len(labels) > 1 {
			ask("zz."+strings.Join(labels[1:], ".")+".", some(2)...)
			ask("x"+name, some(1)...)
		}
	}
	ask("types.example.com.", rareTypes...)
	ask("unknown.example.com.", rareTypes...)
	ask("txt.example.com.", rareTypes...)
	ask(strings.Repeat("abcdefghi.", 12)+"longdname.example.com.", peerTypes...) // too long after the DNAME
	list := slices.SortedFunc(maps.Keys(asked), func(a, b wire.Question) int {
		return strings.Compare(a.String(), b.String())
	})
	for i := range list {
		list[i].Name = randomCase(random, list[i].Name)
	}
	return list
}

// ownersIn reads the owners of a zone file by the wire library's own parser.
func ownersIn(t *testing.T, file, origin string) (owners []string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zp := wire.NewZoneParser(f, wire.Fqdn(origin), file)
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		owners = append(owners, strings.ToLower(rr.Header().Name))
	}
	if err := zp.Err(); err != nil {
		t.Fatal(err)
	}
	return owners
}

// randomCase mixes the case of letters, as resolvers do against forgers.
func randomCase(random *rand.Rand, name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'a' <= c && c <= 'z' && random.IntN(2) == 0 && (i == 0 || b[i-1] != '\\') {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b)
}

// packets gives the questions as packets; they take turns with no EDNS, EDNS, and DO.
func packets(t *testing.T, list []wire.Question) [][]byte {
	t.Helper()
	out := make([][]byte, len(list))
	for i, q := range list {
		m := &wire.Msg{Question: []wire.Question{q}}
		m.Id, m.RecursionDesired = uint16(i), i%2 == 0
		if i%3 > 0 {
			m.SetEdns0([]uint16{512, 1232, 4096}[i%7%3], i%3 == 2)
		}
		p, err := m.Pack()
		if err != nil {
			t.Fatalf("%v: %v", q, err)
		}
		out[i] = p
	}
	return out
}

// TestPeers asks a peer and us the same questions about the same zone files and compares
// the replies: rcode, AA and TC, the answer and authority sections as sets, and of the
// additional section the glue of the delegated zone. Where they differ, a row of
// explanations must say why.
func TestPeers(t *testing.T) {
	for _, folder := range []string{"world", "root"} {
		for name, p := range peers {
			t.Run(folder+"/"+name, func(t *testing.T) {
				t.Parallel()
				zones := zoneFiles(t, folder)
				c := comparison{peer: name, zones: zones, said: map[string]bool{}, used: map[string]int{}}
				theirs := dial(t, p.start(t, zones))
				mine := dial(t, serve(t, ours(t, zones)))
				list := questions(t, zones)
				if folder == "world" && len(list) < 3000 {
					t.Fatalf("only %d questions", len(list))
				}
				for i, packet := range packets(t, list) {
					for _, tcp := range []bool{false, true} {
						got, want := mine.ask(t, packet, tcp), theirs.ask(t, packet, tcp)
						if sent := new(wire.Msg); sent.Unpack(packet) != nil || got.Question[0] != sent.Question[0] {
							t.Errorf("%v came back as %v", sent.Question[0], got.Question[0])
						}
						if diff := c.compare(list[i], got, want); diff != "" {
							t.Errorf("%v tcp=%v: %s\nours:\n%v\ntheirs:\n%v", list[i], tcp, diff, got, want)
						}
					}
				}
				for _, rr := range c.unheard() {
					t.Errorf("the peer never gives %s", rr)
				}
				t.Logf("%d questions, each over UDP and TCP; explained differences: %v", len(list), c.used)
			})
		}
	}
}
