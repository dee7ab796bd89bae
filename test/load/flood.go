package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"mxward/internal/dns"
)

// The flood: questions for names whose servers never answer, while others are asked for.
const (
	floodQuestions = 10_000
	floodZones     = 1000
	floodServers   = 200
	floodSpread    = time.Second // a burst at once would only fill the listener's buffer
	liveRate       = 200         // questions a second for names that nobody has asked for
	liveTimeout    = time.Second

	floodBefore, floodDuring, floodAfter = 3 * time.Second, 10 * time.Second, 10 * time.Second
)

// flood measures how long live names take while thousands of questions wait for dead
// servers, and the memory of that.
func (b *bench) flood(ctx context.Context, dir string) error {
	// The loops of the lab's name servers keep a processor of Go's each while they are busy; the
	// clients need others, or it is they who are measured.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2 + runtime.NumCPU()))
	close, err := deadInternet()
	if err != nil {
		return err
	}
	defer close()
	if err := writeHints(dir); err != nil {
		return err
	}
	fmt.Printf("\n%d questions within %s for names of %d zones on %d dead servers, live ones at %d/s\n\n", floodQuestions, floodSpread, floodZones, floodServers, liveRate)
	fmt.Printf("%-8s  %-7s  %10s  %10s  %10s  %12s\n", "resolver", "phase", "p50 ms", "p99 ms", "answered", "RSS MiB")
	for _, u := range b.resolvers() {
		if err := u.running(ctx, dir, func(pid int) error { return u.flooded(ctx, pid) }); err != nil {
			return err
		}
	}
	fmt.Printf("(aim: p99 below 50 ms during the flood)\n\n")
	return ctx.Err()
}

// flooded prints the three phases of one resolver.
func (u resolverUnderTest) flooded(ctx context.Context, pid int) error {
	c, err := newAsker(u.addr)
	if err != nil {
		return err
	}
	defer c.close()
	next := 0
	live := func(d time.Duration) []time.Duration {
		first := next
		next += int(d.Seconds() * liveRate)
		return c.ask(ctx, next-first, d, liveTimeout, func(i int) string { return manyName(first + i) })
	}
	live(time.Second) // the delegations of the zones in use
	report := func(phase string, took []time.Duration, rss float64) {
		answered := count(took)
		fmt.Printf("%-8s  %-7s  %10.1f  %10.1f  %9.1f%%  %12.1f\n", u.name, phase,
			percentile(took, 50), percentile(took, 99), 100*float64(answered)/float64(len(took)), rss)
	}
	report("before", live(floodBefore), float64(residentBytes(pid))/(1<<20))

	dead, err := newAsker(u.addr)
	if err != nil {
		return err
	}
	defer dead.close()
	var failed []time.Duration
	var all sync.WaitGroup
	all.Go(func() {
		failed = dead.ask(ctx, floodQuestions, floodSpread, floodDuring, func(i int) string { return fmt.Sprintf("h%d.d%d.example", i, i%floodZones) })
	})
	took := live(floodDuring)
	all.Wait()
	report("during", took, peakMiB(pid))
	report("after", live(floodAfter), float64(residentBytes(pid))/(1<<20))
	fmt.Printf("%-8s  %d of the dead names' questions had an answer within %s, half of them after %.0f ms\n", u.name, count(failed), floodDuring, percentile(failed, 50))
	return ctx.Err()
}

// deadInternet is the small internet with zones more, whose servers take every packet and
// never say a word.
func deadInternet() (close func(), err error) {
	var sockets []net.PacketConn
	shut := func() {
		for _, s := range sockets {
			s.Close()
		}
	}
	for i := range floodServers {
		pc, err := net.ListenPacket("udp4", deadAddr(i)+":53")
		if err != nil {
			shut()
			return nil, err
		}
		sockets = append(sockets, pc)
	}
	var more strings.Builder
	for i := range floodZones {
		for k, server := range []int{i % floodServers, (i + 1 + i/floodServers) % floodServers} {
			fmt.Fprintf(&more, "d%d.example. 86400 NS ns%d.d%d.example.\nns%d.d%d.example. 86400 A %s\n", i, k, i, k, i, deadAddr(server))
		}
	}
	stop, err := smallInternet(more.String(), zoneText)
	if err != nil {
		shut()
		return nil, err
	}
	return func() { stop(); shut() }, nil
}

func deadAddr(i int) string { return fmt.Sprintf("127.2.%d.%d", i/250, 1+i%250) }

// asker asks one server over one socket.
type asker struct {
	conn net.Conn
}

func newAsker(addr string) (*asker, error) {
	conn, err := net.Dial("udp4", addr+":53")
	if err != nil {
		return nil, err
	}
	// The kernel gives as much as it may.
	conn.(*net.UDPConn).SetReadBuffer(4 << 20)
	return &asker{conn}, nil
}

func (a *asker) close() { a.conn.Close() }

// ask spreads n questions of type A evenly over d, and waits for the answers until patience
// after the last one. It gives how long each took, 0 for none in time; a failure counts as
// an answer.
func (a *asker) ask(ctx context.Context, n int, d, patience time.Duration, name func(int) string) []time.Duration {
	took, _ := a.askAll(ctx, n, d, patience, name)
	return took
}

// askAll is ask, and gives the Rcodes too.
func (a *asker) askAll(ctx context.Context, n int, d, patience time.Duration, name func(int) string) ([]time.Duration, []byte) {
	sent, took, rcodes := make([]time.Time, n), make([]time.Duration, n), make([]byte, n)
	var latest [1 << 16]int // question by ID
	var mu sync.Mutex
	began := time.Now()
	a.conn.SetReadDeadline(began.Add(d + patience))
	var reading sync.WaitGroup
	reading.Go(func() {
		buf := make([]byte, 4096)
		for left := n; left > 0 && ctx.Err() == nil; {
			got, err := a.conn.Read(buf)
			if err != nil {
				return
			}
			now := time.Now()
			mu.Lock()
			i := latest[binary.BigEndian.Uint16(buf)]
			// An answer to a question of the phase before has a number too, and another name.
			if got > 12 && i < n && !sent[i].IsZero() && took[i] == 0 && strings.HasPrefix(string(buf[13:got]), label(name(i))) {
				if d := now.Sub(sent[i]); d <= patience {
					took[i], rcodes[i] = d, buf[3]&0xf
				}
				left--
			}
			mu.Unlock()
		}
	})
	for i := range n {
		time.Sleep(time.Until(began.Add(d * time.Duration(i) / time.Duration(n))))
		mu.Lock()
		sent[i], latest[uint16(i)] = time.Now(), i
		mu.Unlock()
		if _, err := a.conn.Write(question(uint16(i), name(i))); err != nil || ctx.Err() != nil {
			break
		}
	}
	reading.Wait()
	return took, rcodes
}

// label gives the first label of a name.
func label(name string) string {
	first, _, _ := strings.Cut(name, ".")
	return first
}

// question makes the bytes of a question for an address, with RD.
func question(id uint16, name string) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = append(b, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	b = dns.MustName(name).AppendWire(b)
	return append(b, 0, byte(dns.TypeA), 0, 1)
}

// count gives the number of those that were answered.
func count(took []time.Duration) int {
	n := 0
	for _, t := range took {
		if t > 0 {
			n++
		}
	}
	return n
}

// percentile gives a percentile in milliseconds; who was not answered took for ever, which
// is printed as the time-out of live names.
func percentile(took []time.Duration, p int) float64 {
	if len(took) == 0 {
		return 0
	}
	sorted := slices.Clone(took)
	for i, t := range sorted {
		if t == 0 {
			sorted[i] = max(liveTimeout, slices.Max(took))
		}
	}
	slices.Sort(sorted)
	return float64(sorted[min(len(sorted)-1, len(sorted)*p/100)].Microseconds()) / 1000
}
