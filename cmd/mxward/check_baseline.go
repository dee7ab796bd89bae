package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns"
)

// readBaseline reads the file that --baseline names, and tells of entries whose day is over.
func (f *checkFlags) readBaseline(stderr io.Writer) error {
	if f.baseline == "" {
		return nil
	}
	in, err := os.Open(f.baseline)
	if err != nil {
		return usage(fmt.Errorf("--baseline: %w", err))
	}
	defer in.Close()
	if f.known, err = audit.ReadBaseline(in, f.baseline); err != nil {
		return usage(fmt.Errorf("--baseline: %w", err))
	}
	for _, e := range f.known.Expired(f.now()) {
		fmt.Fprintf(stderr, "%s:%d: %s at %s was to be ignored until %s, and counts again\n", f.baseline, e.Line, e.ID, e.Target, e.Until.AddDate(0, 0, -1).Format(time.DateOnly))
	}
	return nil
}

// tellUnmatched tells of entries that have nothing to ignore in what a run has found.
func (f *checkFlags) tellUnmatched(stderr io.Writer, domains []dns.Name, addrs map[netip.Addr]bool, all []audit.Finding) {
	const most = 20 // notes
	unmatched := f.known.Unmatched(all, domains, addrs, f.now())
	for _, e := range unmatched[:min(most, len(unmatched))] {
		fmt.Fprintf(stderr, "%s:%d: %s at %s is to be ignored, and was not found: take it out if it is mended, or see that the target is the finding's\n", f.baseline, e.Line, e.ID, e.Target)
	}
	if more := len(unmatched) - most; more > 0 {
		fmt.Fprintf(stderr, "%s: %d entries more were not found\n", f.baseline, more)
	}
}

// ignore marks what the baseline has not count.
func (f *checkFlags) ignore(findings []audit.Finding) { f.known.Mark(findings, f.now()) }
