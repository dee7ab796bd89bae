package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/resolver"
	"mxward/internal/mailauth/spf"
)

const (
	scanModels = 500                   // domains by which the ways of others are counted
	scanRTT    = 50 * time.Millisecond // of the interactive check
)

// scan measures mxward scan over a lab internet in another process: domains a second, memory at
// a quarter and at the end, lines lost, and questions for each domain beside those of models of
// how zdns and checkdmarc ask. It runs without taskset: scan and the servers have both cores.
func (b *bench) scan(ctx context.Context, dir string) error {
	up, err := startUpstream(ctx, dir, "-only", "scan")
	if err != nil {
		return err
	}
	defer up.stop()
	hints := filepath.Join(dir, "root.hints")
	if err := os.WriteFile(hints, []byte(". 3600000 NS a.root.\na.root. 3600000 A 127.1.0.1\n. 3600000 NS b.root.\nb.root. 3600000 A 127.1.0.2\n"), 0o644); err != nil {
		return err
	}
	fmt.Printf("\nscan of %d domains, %d providers of name servers, %d of mail, without SMTP\n\n", b.domains, scanNSOf, scanMailOf)
	if err := b.scanRun(ctx, dir, hints, up); err != nil {
		return err
	}
	n := min(scanModels, b.domains)
	fmt.Printf("\nquestions of models of other tools, %d domains of the same internet\n\n", n)
	for _, way := range []struct {
		name string
		ask  func(context.Context, int) (client int)
	}{
		{"zdns's way: an iterative walk for each type", zdnsWay},
		{"checkdmarc's way: one after the other, through a recursive resolver", checkdmarcWay},
	} {
		before, err := up.asked()
		if err != nil {
			return err
		}
		client := way.ask(ctx, n)
		after, err := up.asked()
		if err != nil {
			return err
		}
		fmt.Printf("%-70s %6.1f a domain at the servers, %6.1f to a resolver\n", way.name, float64(after-before)/float64(n), float64(client)/float64(n))
	}
	return b.interactive(ctx, dir, hints, up)
}

// scanRun is one scan, watched.
func (b *bench) scanRun(ctx context.Context, dir, hints string, up *upstream) error {
	input, output, summary := filepath.Join(dir, "domains"), filepath.Join(dir, "results.ndjson"), filepath.Join(dir, "summary.json")
	var text strings.Builder
	for i := range b.domains {
		fmt.Fprintln(&text, scanDomain(i))
	}
	if err := os.WriteFile(input, []byte(text.String()), 0o644); err != nil {
		return err
	}
	before, err := up.asked()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, b.binary, append([]string{"scan", input, "--root-hints", hints, "--output", output, "--summary", summary}, b.scanArgs()...)...)
	cmd.Stderr = os.Stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	quarter, end, cpu := 0.0, 0.0, time.Duration(0)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var lines lineCount
	for running := true; running; {
		select {
		case err := <-ended:
			if err != nil {
				return fmt.Errorf("scan: %w", err)
			}
			running = false
		case <-tick.C:
			if mib := peakMiB(cmd.Process.Pid); mib > 0 {
				end = mib
			}
			cpu = max(cpu, cpuTime([]int{cmd.Process.Pid}))
			if quarter == 0 && lines.of(output) >= b.domains/4 {
				quarter = end
			}
		}
	}
	took := time.Since(began)
	after, err := up.asked()
	if err != nil {
		return err
	}
	lost, size, err := lostLines(output, b.domains)
	if err != nil {
		return err
	}
	fmt.Printf("%-40s %10.0f   (aim: at least 1000)\n", "domains/s", float64(b.domains)/took.Seconds())
	fmt.Printf("%-40s %10.0f\n", "CPU µs a domain, of scan alone", float64(cpu.Microseconds())/float64(b.domains))
	fmt.Printf("%-40s %10.1f\n", "peak RSS at 25 %, MiB", quarter)
	fmt.Printf("%-40s %10.1f\n", "peak RSS at 100 %, MiB", end)
	fmt.Printf("%-40s %10d   (aim: 0)\n", "lines lost", lost)
	fmt.Printf("%-40s %10.0f\n", "octets a line", float64(size)/float64(b.domains))
	fmt.Printf("%-40s %10.1f\n", "questions a domain, at the servers", float64(after-before)/float64(b.domains))
	if lost > 0 {
		return errLost
	}
	return nil
}

func (b *bench) scanArgs() []string {
	if b.profile == "" {
		return nil
	}
	return strings.Fields(b.profile)
}

// lineCount counts the lines of a file that grows.
type lineCount struct {
	f *os.File
	n int
}

func (l *lineCount) of(path string) int {
	if l.f == nil {
		l.f, _ = os.Open(path)
	}
	if l.f == nil {
		return 0
	}
	buf := make([]byte, 1<<20)
	for {
		n, err := l.f.Read(buf)
		l.n += strings.Count(string(buf[:n]), "\n")
		if err != nil {
			return l.n
		}
	}
}

// lostLines counts the lines of the input that have no result, or more than one.
func lostLines(path string, domains int) (lost int, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	times := make([]int, domains+1)
	dec := json.NewDecoder(bufio.NewReaderSize(f, 1<<20))
	for {
		var l struct {
			Line   int    `json:"line"`
			Domain string `json:"domain"`
			Status string `json:"status"`
		}
		if err := dec.Decode(&l); err == io.EOF {
			break
		} else if err != nil {
			return 0, 0, err
		}
		if l.Line >= 1 && l.Line <= domains && l.Domain == scanDomain(l.Line-1) && l.Status == "checked" {
			times[l.Line]++
		}
	}
	for _, n := range times[1:] {
		if n != 1 {
			lost++
		}
	}
	return lost, dec.InputOffset(), nil
}

// interactive times one check where each answer takes as long as over the Internet.
func (b *bench) interactive(ctx context.Context, dir, hints string, up *upstream) error {
	up.stop()
	slow, err := startUpstream(ctx, dir, "-only", "scan", "-delay", scanRTT.String())
	if err != nil {
		return err
	}
	defer slow.stop()
	domain := 0
	for kindOf(domain) != kindFine {
		domain++
	}
	began := time.Now()
	cmd := exec.CommandContext(ctx, b.binary, "check", scanDomain(domain), "--root-hints", hints)
	if out, err := cmd.Output(); err != nil && len(out) == 0 {
		return fmt.Errorf("check: %w", err)
	}
	fmt.Printf("\none check where a round trip takes %s: %.2f s   (aim: below 3)\n\n", scanRTT, time.Since(began).Seconds())
	return ctx.Err()
}

// scanResolver asks from the lab's root.
func scanResolver() *resolver.Resolver {
	return &resolver.Resolver{
		Hints:          []resolver.Hint{{Name: dns.MustName("a.root"), Addr: netip.MustParseAddr("127.1.0.1")}, {Name: dns.MustName("b.root"), Addr: netip.MustParseAddr("127.1.0.2")}},
		AllowLoopback:  true,
		MaxInFlight:    10_000,
		NoMinimisation: true,
	}
}

// zdnsWay is a model of zdns: each module (a type of record) walks from the root by itself,
// with a cache of delegations of its own; mxlookup asks for the addresses of MX hosts, spf and
// dmarc for their texts. It asks each domain's servers once for each type, and no single ones.
func zdnsWay(ctx context.Context, n int) int {
	type module struct {
		below string
		typ   dns.Type
		hosts bool
	}
	for _, m := range []module{
		{"", dns.TypeA, false}, {"", dns.TypeAAAA, false}, {"", dns.TypeMX, true}, {"", dns.TypeNS, false}, {"", dns.TypeSOA, false}, {"", dns.TypeTXT, false},
		{"_dmarc.", dns.TypeTXT, false}, {"_mta-sts.", dns.TypeTXT, false}, {"_smtp._tls.", dns.TypeTXT, false}, {"default._bimi.", dns.TypeTXT, false}, {"", dns.TypeCAA, false}, {"", dns.TypeDNSKEY, false},
	} {
		r := scanResolver()
		parallel(ctx, n, 200, func(i int) {
			name := dns.MustName(m.below + scanDomain(i))
			if !m.hosts {
				r.Resolve(ctx, dns.Question{Name: name, Type: m.typ})
				return
			}
			set, err := dns.LookupMX(ctx, r, name)
			if err != nil {
				return
			}
			for _, mx := range set.Records {
				r.Resolve(ctx, dns.Question{Name: mx.Host, Type: dns.TypeA})
				r.Resolve(ctx, dns.Question{Name: mx.Host, Type: dns.TypeAAAA})
			}
		})
	}
	return 0
}

// checkdmarcWay is a model of checkdmarc, whose questions go to a recursive resolver with one
// cache: SOA, NS and the addresses of servers; MX, the hosts' addresses, their names and back,
// TLSA; TXT, the tree of SPF; _dmarc here and above; _mta-sts, _smtp._tls, default._bimi, DNSKEY.
// The first number is what reaches the servers from the resolver, the second what it is asked.
func checkdmarcWay(ctx context.Context, n int) int {
	r := scanResolver()
	var n64 atomic.Int64
	asked := counted{r, &n64}
	parallel(ctx, n, 200, func(i int) {
		name := dns.MustName(scanDomain(i))
		ask := func(n dns.Name, types ...dns.Type) {
			for _, t := range types {
				asked.Resolve(ctx, dns.Question{Name: n, Type: t})
			}
		}
		below := func(label string) dns.Name { return dns.MustName(label + "." + scanDomain(i)) }
		ask(name, dns.TypeSOA, dns.TypeDNSKEY)
		if servers, err := dns.LookupNS(ctx, asked, name); err == nil {
			for _, ns := range servers.Records {
				ask(ns, dns.TypeA, dns.TypeAAAA)
			}
		}
		if set, err := dns.LookupMX(ctx, asked, name); err == nil {
			for _, mx := range set.Records {
				if mx.Host == dns.Root { // RFC 7505
					continue
				}
				ask(dns.MustName("_25._tcp."+mx.Host.String()), dns.TypeTLSA)
				addrs, err := dns.LookupAddrs(ctx, asked, mx.Host)
				if err != nil {
					continue
				}
				for _, addr := range addrs.Records {
					if names, err := dns.LookupPTR(ctx, asked, addr); err == nil {
						for _, back := range names.Records {
							ask(back, dns.TypeA, dns.TypeAAAA)
						}
					}
				}
			}
		}
		ask(name, dns.TypeTXT)
		spf.Survey(ctx, asked, name.String())
		ask(below("_dmarc"), dns.TypeTXT)
		if above, ok := name.Parent(); ok {
			ask(dns.MustName("_dmarc."+above.String()), dns.TypeTXT)
		}
		ask(below("_mta-sts"), dns.TypeTXT)
		ask(below("_smtp._tls"), dns.TypeTXT)
		ask(below("default._bimi"), dns.TypeTXT)
	})
	return int(n64.Load())
}
