package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"mxward/internal/app"
	"mxward/internal/deliver"
	"mxward/internal/dns"
	"mxward/internal/dns/resolver"
	"mxward/internal/dns/server"
	"mxward/internal/dns/zone"
	"mxward/internal/mail"
	"mxward/internal/queue"
	"mxward/internal/site"
	"mxward/internal/smtp/smtptest"
)

// The addresses of the lab. All name servers share one port, and all MX hosts another.
const (
	addrRoot = "127.10.0.1" // a.root.example
	addrTLD  = "127.10.0.2" // a.tld.example: com, net and org
	addrNS1  = "127.10.0.11"
	addrNS2  = "127.10.0.12"

	addrPorts = "127.10.0.254" // nobody is there: see claimPorts
)

// dialTimeout is the patience of the lab's senders: here nothing is far away.
const dialTimeout = 3 * time.Second

// world is one story's internet.
type world struct {
	trace  *tracer
	onFact func(Fact)
	facts  []Fact

	dir         string
	dns, smtp   uint16 // the ports
	nameServers []*nameServer
	cleanups    []func()
}

func newWorld(t *tracer, onFact func(Fact)) (*world, error) {
	dir, err := os.MkdirTemp("", "mxward-lab-")
	if err != nil {
		return nil, err
	}
	w := &world{trace: t, onFact: onFact, dir: dir}
	w.cleanups = append(w.cleanups, func() { os.RemoveAll(dir) })
	if err := w.claimPorts(); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) close() {
	for i := len(w.cleanups) - 1; i >= 0; i-- {
		w.cleanups[i]()
	}
}

// fact states a claim, whether it holds, and what was seen.
func (w *world) fact(claim string, ok bool, seen string, args ...any) {
	f := Fact{Claim: claim, OK: ok, Seen: fmt.Sprintf(seen, args...)}
	w.facts = append(w.facts, f)
	if w.onFact != nil {
		w.onFact(f)
	}
}

// The ports of labs are below those that systems give to clients: the lab's senders have
// addresses of its hosts, and would take a port that a host is about to listen at.
const (
	firstPort = 10000
	lastPort  = 32767
)

// claimPorts takes two ports, UDP and TCP, and holds them at an address where no server is
// until the world ends: labs that run side by side then never want the same port at the
// addresses that they share.
func (w *world) claimPorts() error {
	for _, port := range []*uint16{&w.dns, &w.smtp} {
		if err := w.claimPort(port); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) claimPort(port *uint16) (err error) {
	for range 100 {
		*port = uint16(firstPort + rand.IntN(lastPort-firstPort+1))
		at := fmt.Sprintf("%s:%d", addrPorts, *port)
		var pc net.PacketConn
		if pc, err = net.ListenPacket("udp", at); err != nil {
			continue // taken: try another
		}
		w.cleanups = append(w.cleanups, func() { pc.Close() })
		var ln net.Listener
		if ln, err = net.Listen("tcp", at); err != nil {
			continue
		}
		w.cleanups = append(w.cleanups, func() { ln.Close() })
		return nil
	}
	return fmt.Errorf("no port is free at %s; does this system have that loopback address? %w", addrPorts, err)
}

// domain is a delegated domain of the lab: its zone's records and its name servers.
type domain struct {
	name    string
	records string // in master-file format, without SOA and NS
	servers []string
}

// internet starts root, TLD and the domains' name servers.
func (w *world) internet(domains ...domain) error {
	root := header(".", "a.root.example.") + "a.root.example. 3600 A " + addrRoot + "\na.tld.example. 3600 A " + addrTLD + "\n"
	tlds := map[string]string{}
	for _, t := range []string{"com", "net", "org"} {
		root += t + ". 3600 NS a.tld.example.\n"
		tlds[t] = header(t+".", "a.tld.example.")
	}
	byServer := map[string]map[string]string{}
	for _, d := range domains {
		top := d.name[strings.LastIndexByte(d.name, '.')+1:]
		text := header(d.name+".", "ns1."+d.name+".")
		for i, addr := range d.servers {
			ns := fmt.Sprintf("ns%d.%s.", i+1, d.name)
			records := fmt.Sprintf("%s. 300 NS %s\n%s 300 A %s\n", d.name, ns, ns, addr)
			tlds[top] += records
			if i > 0 {
				text += fmt.Sprintf("%s. 300 NS %s\n", d.name, ns)
			}
			text += fmt.Sprintf("%s 300 A %s\n", ns, addr)
		}
		text += "$ORIGIN " + d.name + ".\n" + d.records
		for _, addr := range d.servers {
			if byServer[addr] == nil {
				byServer[addr] = map[string]string{}
			}
			byServer[addr][d.name] = text
		}
	}
	if err := w.nameServer("root", addrRoot, map[string]string{".": root}); err != nil {
		return err
	}
	if err := w.nameServer("tld", addrTLD, tlds); err != nil {
		return err
	}
	for addr, zones := range byServer {
		if err := w.nameServer("ns of "+fmt.Sprint(len(zones)), addr, zones); err != nil {
			return err
		}
	}
	return nil
}

func header(origin, ns string) string {
	return fmt.Sprintf("%[1]s 300 SOA %[2]s hostmaster.example. 1 3600 900 604800 300\n%[1]s 300 NS %[2]s\n", origin, ns)
}

// nameServer is an authoritative server that can go dark: then packets come in and
// nothing goes out, as when a network is cut behind a router.
type nameServer struct {
	addr string
	dark atomic.Bool
}

func (w *world) nameServer(name, addr string, texts map[string]string) error {
	zones := map[dns.Name]dns.Resolver{}
	for origin, text := range texts {
		n := dns.MustName(origin)
		z, err := zone.Parse(strings.NewReader(text), n, origin+".zone")
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		zones[n] = z
	}
	ns := &nameServer{addr: addr}
	s := &server.Server{Resolver: &dns.Mux{Zones: zones}}
	at := fmt.Sprintf("%s:%d", addr, w.dns)
	pc, err := net.ListenPacket("udp", at)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", at)
	if err != nil {
		pc.Close()
		return err
	}
	go s.ServeUDP(&darkConn{PacketConn: pc, dark: &ns.dark})
	go s.ServeTCP(ln)
	w.cleanups = append(w.cleanups, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Shutdown(ctx)
		pc.Close()
		ln.Close()
	})
	w.nameServers = append(w.nameServers, ns)
	return nil
}

// dark switches the name servers at an address off or on again.
func (w *world) dark(addr string, dark bool) {
	for _, ns := range w.nameServers {
		if ns.addr == addr {
			ns.dark.Store(dark)
		}
	}
}

// darkConn swallows what comes in while it is dark.
type darkConn struct {
	net.PacketConn
	dark *atomic.Bool
}

func (c *darkConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.PacketConn.ReadFrom(p)
		if err != nil || !c.dark.Load() {
			return n, from, err
		}
	}
}

// dialer opens connections from an address of the lab to a port of the lab, whatever port
// was asked for.
func dialer(from string, port uint16) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		d := net.Dialer{Timeout: dialTimeout}
		if from != "" {
			local := net.ParseIP(from)
			if network == "udp" {
				d.LocalAddr = &net.UDPAddr{IP: local}
			} else {
				d.LocalAddr = &net.TCPAddr{IP: local}
			}
		}
		return d.DialContext(ctx, network, net.JoinHostPort(host, fmt.Sprint(port)))
	}
}

// resolver makes a resolver of the machine at the address, which tells what it asks.
func (w *world) resolver(who, from string) *resolver.Resolver {
	return &resolver.Resolver{
		Hints:         []resolver.Hint{{Name: dns.MustName("a.root.example"), Addr: netip.MustParseAddr(addrRoot)}},
		Dial:          dialer(from, w.dns),
		AllowLoopback: true,
		Trace:         w.traceDNS(who),
	}
}

func (w *world) traceDNS(who string) func(resolver.Step) {
	return func(s resolver.Step) { w.trace.say(who, "%s", dnsLine(s)) }
}

// sender makes a mail server at the address.
func (w *world) sender(m Model, name, from string) *Sender {
	return &Sender{
		Model:  m,
		Name:   name,
		Finder: &deliver.Finder{Resolver: w.resolver(m.Name, from), AllowLoopback: true},
		Dial:   dialer(from, w.smtp),
		Port:   w.smtp,
		OnKnock: func(k Knock) {
			w.trace.say(m.Name, "knocks at MX %d %s [%s]: %s; %s", k.Hop.Preference, k.Hop.Host, k.Hop.Addr, k.met(), k.Step)
		},
	}
}

// mxHost starts a scripted MX host at the address.
func (w *world) mxHost(addr string, h *smtptest.Host) error {
	ln, err := net.Listen("tcp", fmt.Sprintf("%s:%d", addr, w.smtp))
	if err != nil {
		return err
	}
	h.Logger = w.trace.logger(h.Name)
	go h.Serve(ln)
	w.cleanups = append(w.cleanups, func() { h.Close() })
	return nil
}

// gate is mxward itself, running from a plan.
type gate struct {
	app  *app.App
	dir  string
	stop func()
}

// gate starts mxward; in the plan, PORT stands for the lab's SMTP port. Plans in the same
// folder share a store, as one machine's do over restarts.
// hosts are those of the plan's hosts that this mxward is, parted by commas; from is the
// address from which it asks and delivers.
func (w *world) gate(ctx context.Context, folder, hosts, from, plan string) (*gate, error) {
	dir := filepath.Join(w.dir, folder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "mxward.toml")
	hints := ". NS a.root.example.\na.root.example. A " + addrRoot + "\n"
	text := strings.ReplaceAll(plan, "PORT", fmt.Sprint(w.smtp)) + "\n[resolver]\nroot-hints = \"root.hints\"\n"
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "root.hints"), []byte(hints), 0o600), os.WriteFile(file, []byte(text), 0o600)); err != nil {
		return nil, err
	}
	p, err := site.Load(file)
	if err != nil {
		return nil, err
	}
	a, err := app.New(ctx, p, app.Options{
		Hosts:    names(hosts),
		MailPort: w.smtp,
		DeadFor:  time.Second,
		Logger:   w.trace.logger("mxward " + p.Name.String()),
		DialDNS:  dialer(from, w.dns),
		DialMail: dialer(from, w.smtp),
		TraceDNS: w.traceDNS("mxward " + p.Name.String()),
	})
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- a.Run(running) }()
	stopped := false
	g := &gate{app: a, dir: dir}
	g.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			<-done
		}
	}
	w.cleanups = append(w.cleanups, g.stop)
	return g, nil
}

func names(list string) []dns.Name {
	var all []dns.Name
	for n := range strings.SplitSeq(list, ",") {
		all = append(all, dns.MustName(n))
	}
	return all
}

// submit puts a message of a local user into the gate's queue.
func (w *world) submit(ctx context.Context, g *gate, from, to, text string) error {
	sender, err := mail.ParseAddress(from)
	if err != nil {
		return err
	}
	recipient, err := mail.ParseAddress(to)
	if err != nil {
		return err
	}
	now := time.Now()
	id := queue.NewID()
	w.trace.say("local user", "hands in message %s from <%s> to <%s>", id, from, to)
	defer g.app.Wake()
	return g.app.Queue().Enqueue(ctx, now, queue.Message{
		ID:       id,
		Envelope: mail.Envelope{From: mail.Path{Address: sender}, Recipients: []mail.Recipient{{Address: recipient}}},
		Received: now,
		Expires:  queue.Expires(now, false),
		Client:   "local user",
		Size:     int64(len(text)),
		Tail:     []byte(text),
	})
}

// letter is a message's text.
func letter(from, to, subject string) string {
	return fmt.Sprintf("From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: Sat, 21 Nov 2026 06:00:00 +0000\r\n\r\nHello.\r\n", from, to, subject)
}

// maildir gives the messages that lie in a recipient's Maildir below the folder.
func maildir(folder string) []string {
	var texts []string
	filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Base(filepath.Dir(path)) != "new" {
			return nil
		}
		if f, err := os.Open(path); err == nil {
			text, _ := io.ReadAll(io.LimitReader(f, 1<<20))
			f.Close()
			texts = append(texts, string(text))
		}
		return nil
	})
	return texts
}

// until waits for a condition, and tells whether it came before the limit or the end of
// the story.
func until(ctx context.Context, limit time.Duration, holds func() bool) bool {
	end := time.Now().Add(limit)
	for !holds() {
		if ctx.Err() != nil || time.Now().After(end) {
			return false
		}
		time.Sleep(20 * time.Millisecond)
	}
	return true
}
