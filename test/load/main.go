// Load measures mxward beside Debian's Postfix, on the same machine and disk, in the same
// run (make bench): durable acceptance, relay end to end, and memory. The client is
// Postfix's smtp-source, the destination a sink in this process, the same for both.
// The resolver is measured beside Debian's Unbound, with dnsperf as the client, and
// the authentication of messages beside Debian's opendkim.
// Everything stays on loopback, is bounded in count and time, and stops by itself.
//
// Shared machines are noisy: runs alternate, medians are printed, and the ratios are what
// carries over.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// limit bounds the whole program.
const limit = 30 * time.Minute

func main() {
	var b bench
	flag.StringVar(&b.binary, "mxward", "bin/mxward", "the program to measure")
	flag.IntVar(&b.runs, "runs", 5, "alternating runs of each measurement")
	flag.IntVar(&b.accepts, "accepts", 10000, "messages of one run of acceptance")
	flag.IntVar(&b.relays, "relays", 5000, "messages of one run of relaying")
	flag.IntVar(&b.clients, "clients", 50, "clients at once")
	flag.StringVar(&b.only, "only", "", "one measurement: accept, relay, memory, auth, dns, cold, flood, cut or scan")
	flag.DurationVar(&b.outage, "cut", 20*time.Second, "how long the resolvers' internet is cut")
	flag.IntVar(&b.names, "names", 1_000_000, "names in the cache whose memory is measured")
	flag.IntVar(&b.domains, "domains", 100_000, "domains of the scan")
	flag.StringVar(&b.profile, "scan-flags", "", "more `flags` of mxward scan")
	delay := flag.Duration("delay", 0, "internal: how long the lab internet takes to answer")
	inside := flag.Bool("inside", false, "internal: the part of dns that runs in a network namespace")
	upstream := flag.String("upstream", "", "internal: the process of the lab internet, and its `folder`")
	hold := flag.Bool("hold", false, "internal: the process that holds the names")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	work := b.all
	switch {
	case *inside:
		work = b.inside
	case *hold:
		work = b.hold
	case *upstream != "" && b.only == "cut":
		work = func(context.Context) error { return serveShort() }
	case *upstream != "" && b.only == "scan":
		work = func(context.Context) error { return serveScan(*delay) }
	case *upstream != "":
		work = func(context.Context) error { return serveUpstream(*upstream) }
	}
	if err := work(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

const messageSize = 5120

// bench is one call of the program.
type bench struct {
	binary                string
	runs, accepts, relays int
	clients, names        int
	domains               int
	profile               string // more flags of scan
	outage                time.Duration
	only                  string
	postfix               *postfix
	sink                  *sink
}

// sample is what one run of one server gave.
type sample struct {
	rate float64 // messages a second
	cpu  float64 // the server's own CPU time, µs a message
}

// all runs every measurement and prints it.
func (b *bench) all(ctx context.Context) error {
	resolving := []string{"dns", "cold", "flood", "cut", "scan"}
	for _, work := range resolving {
		if !b.wants(work) {
			continue
		}
		if err := b.dns(ctx, work); err != nil {
			return err
		}
	}
	if slices.Contains(resolving, b.only) {
		return nil
	}
	if b.wants("auth") {
		if err := b.auth(ctx); err != nil {
			return err
		}
	}
	if b.only == "auth" {
		return nil
	}
	var err error
	if b.sink, err = newSink(); err != nil {
		return err
	}
	defer b.sink.close()
	if b.postfix, err = newPostfix(b.sink.addr); err != nil {
		return fmt.Errorf("%w; the comparison needs root on Debian and sh test/setup.sh", err)
	}
	defer b.postfix.close()

	fmt.Printf("5 kB messages, %d clients, fsync on, smtp-source; medians of %d alternating runs\n\n", b.clients, b.runs)
	fmt.Printf("%-8s  %-8s  %10s  %14s\n", "work", "server", "messages/s", "CPU µs/message")
	if b.wants("accept") {
		if err := b.compare(ctx, "accept", b.accept, b.acceptPostfix); err != nil {
			return err
		}
	}
	if b.wants("relay") {
		if err := b.compare(ctx, "relay", b.relay, b.relayPostfix); err != nil {
			return err
		}
	}
	if b.wants("memory") {
		return b.memory(ctx)
	}
	return nil
}

func (b *bench) wants(work string) bool { return b.only == "" || b.only == work }

// compare runs both servers in turn and prints medians and ratios, mxward to Postfix.
func (b *bench) compare(ctx context.Context, work string, ours, theirs func(context.Context) (sample, error)) error {
	var a, p []sample
	for range b.runs {
		s, err := ours(ctx)
		if err != nil {
			return fmt.Errorf("%s, mxward: %w", work, err)
		}
		a = append(a, s)
		if s, err = theirs(ctx); err != nil {
			return fmt.Errorf("%s, postfix: %w", work, err)
		}
		p = append(p, s)
	}
	ma, mp := median(a), median(p)
	fmt.Printf("%-8s  %-8s  %10.0f  %14.0f\n", work, "mxward", ma.rate, ma.cpu)
	fmt.Printf("%-8s  %-8s  %10.0f  %14.0f\n", work, "Postfix", mp.rate, mp.cpu)
	fmt.Printf("%-8s  %-8s  %10.2f  %14.2f\n\n", work, "ratio", ma.rate/mp.rate, ma.cpu/mp.cpu)
	return nil
}

func median(samples []sample) sample {
	rates, cpus := []float64{}, []float64{}
	for _, s := range samples {
		rates, cpus = append(rates, s.rate), append(cpus, s.cpu)
	}
	slices.Sort(rates)
	slices.Sort(cpus)
	return sample{rates[len(rates)/2], cpus[len(cpus)/2]}
}
