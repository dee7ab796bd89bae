package main

import (
	"fmt"
	"io"
	"os"
	"strings"

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

// goneJSON is a problem of an earlier run that is not among the findings any more; fields are
// only ever added.
type goneJSON struct {
	ID       string         `json:"id"`
	Target   string         `json:"target"`
	Change   audit.Turn     `json:"change"` // gone or unsure
	Severity audit.Severity `json:"severity"`
	Title    string         `json:"title"`
	Detail   string         `json:"detail"`
}

func newGone(moves []audit.Move) []goneJSON {
	out := []goneJSON{}
	for _, m := range moves {
		if m.After == nil {
			was := m.Before
			out = append(out, goneJSON{was.ID, was.Target, m.Turn, was.Severity, was.Title, was.Detail})
		}
	}
	return out
}

// printMoves writes what has changed: what is new and what is worse or milder with all that there
// is to say, and the rest in one line each.
func printMoves(w io.Writer, domain dns.Name, moves []audit.Move) error {
	count := map[audit.Turn]int{}
	for _, m := range moves {
		count[m.Turn]++
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d new, %d changed, %d gone, %d could not be asked, %d the same\n", domain.Unicode(),
		count[audit.New], count[audit.Changed], count[audit.Gone], count[audit.Unsure], count[audit.Same])
	for _, severity := range audit.Severities() {
		for _, m := range moves {
			if m.After == nil || m.Turn == audit.Same || m.After.Severity != severity {
				continue
			}
			word := string(m.Turn) + " " + string(severity)
			if m.After.Ignored != "" {
				word = "ignored " + word
			}
			writeFinding(&b, word, domain, *m.After, false)
		}
	}
	for _, m := range moves {
		if m.After == nil {
			fmt.Fprintf(&b, "%s %s %s: %s%s\n", m.Turn, m.Before.Severity, m.Before.ID, at(domain, m.Before.Target), oneLine(m.Before.Title))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
