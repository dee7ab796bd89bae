package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"mxward/internal/audit"
	"mxward/internal/audit/render"
	"mxward/internal/scan"
)

// How often the progress of a scan is shown.
const (
	progressEvery = 500 * time.Millisecond // on a terminal
	standingEvery = 5 * time.Second        // on a terminal, of a job: each time the store counts all of its shards for it
	logEvery      = 30 * time.Second       // elsewhere
	barWidth      = 20
)

// progress shows how far a scan is, on a terminal as a bar that is drawn over, elsewhere by a
// line now and then.
type progress struct {
	w        io.Writer
	line     func(took time.Duration, bar bool) string // "" for nothing to say
	terminal bool
	began    time.Time
	end      chan struct{}
	ended    sync.WaitGroup
}

// startProgress shows what line says, on a terminal so often.
func startProgress(w io.Writer, every time.Duration, line func(took time.Duration, bar bool) string) *progress {
	p := &progress{w: w, line: line, terminal: isTerminal(w), began: time.Now(), end: make(chan struct{})}
	if !p.terminal {
		every = logEvery
	}
	p.ended.Go(func() { p.run(every) })
	return p
}

func (p *progress) run(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.show()
		case <-p.end:
			return
		}
	}
}

func (p *progress) show() {
	line := p.line(time.Since(p.began), p.terminal)
	if line == "" {
		return
	}
	if p.terminal {
		fmt.Fprintf(p.w, "\r\x1b[K%s", line)
		return
	}
	fmt.Fprintf(p.w, "mxward: scan: %s\n", line)
}

func (p *progress) stop() {
	close(p.end)
	p.ended.Wait()
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// progressLine says how far a scan is. How much is left is known by octets, for nobody has
// counted the lines; size is -1 where nobody knows.
func progressLine(now scan.Progress, read, size int64, took time.Duration, bar bool) string {
	var b strings.Builder
	rate := float64(now.Lines-now.Resumed) / max(took.Seconds(), 0.001)
	if size > 0 {
		writePart(&b, min(float64(read)/float64(size), 1), bar)
	}
	fmt.Fprintf(&b, "%d lines, %.0f/s", now.Lines, rate)
	if size > 0 && read > 0 && read < size && rate > 0 {
		lines := float64(now.Lines+now.Holding) * float64(size-read) / float64(read)
		fmt.Fprintf(&b, ", %s left", (time.Duration(lines/rate) * time.Second).Round(time.Second))
	}
	fmt.Fprintf(&b, ", %d with unknowns, %d to ask again", now.Unknown, now.Holding)
	return b.String()
}

// writePart says how much is done, on a terminal with a bar.
func writePart(b *strings.Builder, part float64, bar bool) {
	if bar {
		full := int(part * barWidth)
		fmt.Fprintf(b, "[%s%s] ", strings.Repeat("#", full), strings.Repeat(".", barWidth-full))
	}
	fmt.Fprintf(b, "%3.0f%%, ", 100*part)
}

// jobLine says how far a job of many machines is.
func jobLine(s scan.Standing, now time.Time, bar bool) string {
	var b strings.Builder
	part := 1.0
	if s.Lines > 0 {
		part = float64(s.Ready) / float64(s.Lines)
	}
	writePart(&b, part, bar)
	fmt.Fprintf(&b, "%d of %d lines, %.0f/s", s.Ready, s.Lines, s.Rate(now))
	if left := s.Left(now); left > 0 {
		fmt.Fprintf(&b, ", %s left", left.Round(time.Second))
	}
	holds, workers := 0, 0
	for _, w := range s.Workers {
		holds += w.Holds
		workers += min(w.Holds, 1)
	}
	fmt.Fprintf(&b, ", %d with unknowns, %s at work on %s", s.Unknown, plural(workers, "worker"), plural(holds, "shard"))
	return b.String()
}

// printSummary writes a summary for people.
func printSummary(w io.Writer, s scan.Summary) {
	const most = 10
	fmt.Fprintf(w, "%d lines in %s, %.0f/s: %d checked, %d invalid, %d duplicate, %d failed", s.Lines,
		time.Duration(s.Seconds*float64(time.Second)).Round(100*time.Millisecond), s.Rate, s.Status[scan.Checked], s.Status[scan.Invalid], s.Status[scan.Duplicate], s.Status[scan.Failed])
	if s.Resumed > 0 {
		fmt.Fprintf(w, "; %d of an earlier run", s.Resumed)
	}
	fmt.Fprintf(w, "\n%d questions, %.1f a domain; %d domains asked again, %d with unknowns\n", s.Questions, s.PerDomain, s.Again, s.Unknown)
	fmt.Fprintf(w, "the worst of a domain:")
	for _, severity := range audit.Severities() {
		fmt.Fprintf(w, " %s %d,", severity, s.Worst[string(severity)])
	}
	fmt.Fprintf(w, " nothing %d\n", s.Worst["none"])
	if len(s.Blames) > 0 {
		fmt.Fprintf(w, "unknown findings, by whose trouble it is:")
		var blames []audit.Blame
		for blame := range s.Blames {
			blames = append(blames, blame)
		}
		slices.Sort(blames)
		for _, blame := range blames {
			fmt.Fprintf(w, " %s %d", blame, s.Blames[blame])
		}
		fmt.Fprintln(w)
	}
	ids := slices.DeleteFunc(slices.Clone(s.IDs), func(id scan.IDCount) bool { return id.Critical+id.Error+id.Warning == 0 })
	slices.SortStableFunc(ids, func(a, b scan.IDCount) int {
		return cmp.Or(b.Critical-a.Critical, b.Error-a.Error, b.Warning-a.Warning)
	})
	for _, id := range ids[:min(most, len(ids))] {
		fmt.Fprintf(w, "  %-32s critical %d, error %d, warning %d\n", id.ID, id.Critical, id.Error, id.Warning)
	}
	for _, p := range s.Providers[:min(most, len(s.Providers))] {
		fmt.Fprintf(w, "  %-32s %d domains, %d with errors, %d with unknowns\n", render.Clean(p.Name), p.Domains, p.Failing, p.Unknown)
	}
}
