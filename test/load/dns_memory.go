package main

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"mxward/internal/dns"
	"mxward/internal/dns/resolver"
)

// entries compares the memory of a cached RRset. Ours is a resolver in a process of its own
// that is allowed as much as it needs; for both, all names are resolved through the small
// internet, and what counts is by how much the process has grown.
func (b *bench) entries(ctx context.Context, dir string) error {
	fmt.Printf("memory of %d cached RRsets, resolved through %d zones\n\n", b.names, zones)
	fmt.Printf("%-8s  %22s\n", "resolver", "bytes an RRset (RSS)")
	self, err := os.Executable()
	if err != nil {
		return err
	}
	hold := exec.CommandContext(ctx, self, "-hold", "-names", strconv.Itoa(b.names))
	hold.Stderr = os.Stderr
	out, err := hold.Output()
	if err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	var ours, heap float64
	if _, err := fmt.Sscan(string(out), &ours, &heap); err != nil {
		return fmt.Errorf("memory: %w in %q", err, out)
	}
	fmt.Printf("%-8s  %22.0f   (live on the heap: %.0f)\n", "mxward", ours, heap)

	file := filepath.Join(dir, "many")
	if err := writeNames(file, b.names); err != nil {
		return err
	}
	var theirs float64
	unbound := b.resolvers()[1]
	err = unbound.running(ctx, dir, func(pid int) error {
		before := residentBytes(pid)
		n, err := dnsperf(ctx, unbound.addr, file, "-n", "1", "-q", "500")
		theirs = float64(residentBytes(pid)-before) / float64(n)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Printf("%-8s  %22.0f\n%-8s  %22.2f   (aim: at most 1.5)\n\n", "Unbound", theirs, "ratio", ours/theirs)
	return ctx.Err()
}

func manyName(i int) string { return fmt.Sprintf("h%d.n.z%d.example", i, i%zones) }

func writeNames(file string, n int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	for i := range n {
		fmt.Fprintf(w, "%s A\n", manyName(i))
	}
	return w.Flush()
}

// residentBytes gives the memory that a process has resident now.
func residentBytes(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.Atoi(strings.Fields(rest)[0])
			return kb << 10
		}
	}
	return 0
}

// hold fills a cache and prints by how much the process and its heap have grown, per name.
func (b *bench) hold(ctx context.Context) error {
	r := &resolver.Resolver{
		Hints:         []resolver.Hint{{Name: dns.MustName("a.root-servers.example"), Addr: netip.MustParseAddr(rootServer)}},
		AllowLoopback: true,
		CacheBytes:    8 << 30,
		CacheEntries:  10 * b.names,
	}
	if _, err := r.Resolve(ctx, dns.Question{Name: dns.MustName("www.z0.example"), Type: dns.TypeA}); err != nil {
		return err
	}
	rss, heap := settled()
	var all sync.WaitGroup
	errs := make(chan error, 1)
	const workers = 100
	for w := range workers {
		all.Go(func() {
			for i := w; i < b.names; i += workers {
				if _, err := r.Resolve(ctx, dns.Question{Name: dns.MustName(manyName(i)), Type: dns.TypeA}); err != nil {
					select {
					case errs <- err:
					default:
					}
					return
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	rss2, heap2 := settled()
	fmt.Println(float64(rss2-rss)/float64(b.names), float64(heap2-heap)/float64(b.names))
	runtime.KeepAlive(r)
	return nil
}

// settled gives what is resident and what lives on the heap after a collection.
func settled() (rss, heap int) {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return residentBytes(os.Getpid()), int(m.HeapAlloc)
}
