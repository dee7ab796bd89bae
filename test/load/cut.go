package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

// The cut: a steady rate of questions while the internet behind the resolver is gone.
const (
	cutRate     = 2000 // questions a second
	cutNew      = 10   // one in so many is for a name that nobody has asked for
	cutPopular  = 1000 // the other names; their TTL is cutTTL
	cutTTL      = "10"
	cutStep     = 5 * time.Second
	cutBefore   = 15 * time.Second
	cutAfter    = 20 * time.Second
	cutPatience = 3 * time.Second // serve-stale answers after 1.8 s (RFC 8767 §5)
)

// cut measures what is answered while the resolver's internet is gone, and how soon all is
// well after it has come back. Its servers run in a process of their own, which is stopped
// for the time: they take packets and say nothing, as behind a link that is down.
func (b *bench) cut(ctx context.Context, dir string) error {
	up, err := startUpstream(ctx, dir, "-only", "cut")
	if err != nil {
		return err
	}
	defer up.stop()
	defer up.cmd.Process.Signal(syscall.SIGCONT) // it could not end otherwise
	if err := writeHints(dir); err != nil {
		return err
	}
	fmt.Printf("\nthe internet is gone for %s; %d questions/s, one in %d for a new name, the others with a TTL of %s s\n\n", b.outage, cutRate, cutNew, cutTTL)
	fmt.Printf("%-8s  %-8s  %7s  %14s  %14s  %8s  %8s  %9s\n", "resolver", "phase", "second", "popular had", "new had", "p50 ms", "p99 ms", "RSS MiB")
	for _, u := range b.resolvers() {
		if err := u.running(ctx, dir, func(pid int) error { return b.cutOff(ctx, u, pid, up.cmd.Process) }); err != nil {
			return err
		}
	}
	fmt.Printf("(had: records, stale ones among them)\n\n")
	return ctx.Err()
}

// serveShort is the small internet with a short TTL.
func serveShort() error {
	close, err := smallInternet("", strings.ReplaceAll(zoneText, " 3600 ", " "+cutTTL+" "))
	if err != nil {
		return err
	}
	defer close()
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Println(0)
	}
	return lines.Err()
}

// cutOff asks one resolver before, while and after, and prints what came in each step.
func (b *bench) cutOff(ctx context.Context, u resolverUnderTest, pid int, internet *os.Process) error {
	c, err := newAsker(u.addr)
	if err != nil {
		return err
	}
	defer c.close()
	total := cutBefore + b.outage + cutAfter
	began := time.Now()
	gone := time.AfterFunc(cutBefore, func() { internet.Signal(syscall.SIGSTOP) })
	back := time.AfterFunc(cutBefore+b.outage, func() { internet.Signal(syscall.SIGCONT) })
	defer internet.Signal(syscall.SIGCONT)
	defer gone.Stop()
	defer back.Stop()
	rss := make([]float64, total/cutStep+1)
	watch, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for i := range rss {
			select {
			case <-time.After(time.Until(began.Add(cutStep * time.Duration(i+1)))):
				rss[i] = float64(residentBytes(pid)) / (1 << 20)
			case <-watch.Done():
				return
			}
		}
	}()
	n := int(total.Seconds() * cutRate)
	took, rcodes := c.askAll(ctx, n, total, cutPatience, func(i int) string {
		if i%cutNew == 0 {
			return manyName(i)
		}
		return fmt.Sprintf("www.z%d.example", i%cutPopular)
	})
	stop()
	<-watched

	perStep := int(cutStep.Seconds() * cutRate)
	for i := range n / perStep {
		phase := "before"
		switch at := cutStep * time.Duration(i); {
		case at >= cutBefore+b.outage:
			phase = "after"
		case at >= cutBefore:
			phase = "gone"
		}
		from, to := i*perStep, (i+1)*perStep
		popular, fresh := had(took, rcodes, from, to)
		fmt.Printf("%-8s  %-8s  %7.0f  %13.1f%%  %13.1f%%  %8.1f  %8.1f  %9.1f\n", u.name, phase, (cutStep * time.Duration(i)).Seconds(),
			popular, fresh, percentile(took[from:to], 50), percentile(took[from:to], 99), rss[i])
	}
	fmt.Printf("%-8s  normal again after %s\n\n", u.name, recovery(took, rcodes, int((cutBefore+b.outage).Seconds())))
	return ctx.Err()
}

// had gives the shares, in per cent, of questions that brought records.
func had(took []time.Duration, rcodes []byte, from, to int) (popular, fresh float64) {
	var asked, got [2]float64
	for i := from; i < to; i++ {
		kind := 0
		if i%cutNew == 0 {
			kind = 1
		}
		asked[kind]++
		if took[i] > 0 && rcodes[i] == 0 {
			got[kind]++
		}
	}
	return 100 * got[0] / asked[0], 100 * got[1] / asked[1]
}

// recovery gives how long after the second in which the internet came back the last second
// lay in which not nearly everything brought records.
func recovery(took []time.Duration, rcodes []byte, back int) string {
	seconds := len(took) / cutRate
	for s := seconds - 1; s >= back; s-- {
		popular, fresh := had(took, rcodes, s*cutRate, (s+1)*cutRate)
		if popular < 99 || fresh < 99 {
			if s == seconds-1 {
				return "more than " + cutAfter.String()
			}
			return fmt.Sprintf("%d s", s+1-back)
		}
	}
	return "less than a second"
}
