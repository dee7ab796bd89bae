package main

import (
	"fmt"
	"io"
	"os"

	"mxward/internal/audit"
	"mxward/internal/dns"
)

// readSince reads the file that --since names.
func (f *checkFlags) readSince(stderr io.Writer, domains []dns.Name) error {
	if f.since == "" {
		return nil
	}
	in, err := os.Open(f.since)
	if err != nil {
		return usage(fmt.Errorf("--since: %w", err))
	}
	defer in.Close()
	if f.looks, err = audit.ReadLooks(in); err != nil {
		return usage(fmt.Errorf("--since %s: %w", f.since, err))
	}
	for _, domain := range domains {
		look, ok := f.looks[domain]
		switch {
		case !ok:
			fmt.Fprintf(stderr, "--since %s: it says nothing of %s, so that all of it is new\n", f.since, domain)
		case string(look.Profile) != f.profile:
			return usage(fmt.Errorf("--since %s: it was made with --profile %s, and this is %s", f.since, look.Profile, f.profile))
		}
	}
	return nil
}

// compare marks what became of each problem since, and gives all of it.
func (f *checkFlags) compare(domain dns.Name, findings []audit.Finding) []audit.Move {
	if f.since == "" {
		return nil
	}
	moves := audit.Compare(f.looks[domain].Findings, findings)
	for _, m := range moves {
		if m.After != nil {
			m.After.Turn = m.Turn
		}
	}
	f.moves = append(f.moves, moves...)
	return moves
}
