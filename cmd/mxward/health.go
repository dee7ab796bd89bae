package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"mxward/internal/dns/health"
	"mxward/internal/dns/resolver"
)

const healthSchema = "mxward.health/1"

// healthDocument is what --health --json prints; fields are only ever added to it.
type healthDocument struct {
	Schema string `json:"schema"`
	health.Report
}

// rootsTried is how many root servers of each family stand for the way to all of them.
const rootsTried = 2

func (f *resolveFlags) runHealth(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(errors.New("--health takes no name"))
	}
	exam, err := f.exam()
	if err != nil {
		return usage(err)
	}
	doc := healthDocument{healthSchema, exam.Run(cmd.Context())}
	w := cmd.OutOrStdout()
	if f.json {
		if err := writeJSON(w, doc); err != nil {
			return err
		}
	} else {
		printHealth(w, doc.Report)
	}
	switch doc.Outcome {
	case health.NotFit:
		return problem(errors.New("this host's DNS is not fit for mail"))
	case health.Undetermined:
		return undetermined(errors.New("no resolver answers: this host has no network, or no way to any DNS"))
	}
	return nil
}

// exam examines the resolver of --server, or all that this host has.
func (f *resolveFlags) exam() (*health.Exam, error) {
	if f.server != "" {
		at, err := parseServer(f.server)
		return &health.Exam{Servers: []netip.AddrPort{at}, Questions: health.Standard()}, err
	}
	servers, err := f.hostServers()
	if err != nil {
		return nil, err
	}
	own, err := f.iterative(nil)
	if err != nil {
		return nil, err
	}
	hints := own.Hints
	if hints == nil {
		hints = resolver.RootHints()
	}
	return &health.Exam{Servers: servers, Own: own, Roots: someRoots(hints), Questions: health.Standard()}, nil
}

func (f *resolveFlags) hostServers() ([]netip.AddrPort, error) {
	conf, err := os.Open(f.resolvConf)
	if errors.Is(err, os.ErrNotExist) {
		return health.ParseResolvConf(strings.NewReader("")), nil // what libc takes without the file
	}
	if err != nil {
		return nil, err
	}
	defer conf.Close()
	return health.ParseResolvConf(conf), nil
}

func someRoots(hints []resolver.Hint) []netip.AddrPort {
	var roots []netip.AddrPort
	for _, six := range []bool{false, true} {
		tried := 0
		for _, h := range hints {
			if h.Addr.Is6() == six && tried < rootsTried {
				tried++
				roots = append(roots, netip.AddrPortFrom(h.Addr, 53))
			}
		}
	}
	return roots
}

// printHealth writes a table for each resolver, and the verdict.
func printHealth(w io.Writer, r health.Report) {
	for _, s := range r.Subjects {
		who := "the resolver at " + s.Who
		if s.Who == "own" {
			who = "mxward itself, from the root servers down"
		}
		fmt.Fprintln(w, who)
		table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		for _, f := range s.Findings {
			fmt.Fprintf(table, "  %s\t%s\t%s ms\t%s\n", f.Verdict, f.ID, showMS(f.TookMS), f.Text)
		}
		table.Flush()
		if !s.Answered {
			fmt.Fprintln(w, "  it did not answer at all")
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, map[health.Fit]string{
		health.IsFit:        "this host's DNS is fit for mail",
		health.NotFit:       "this host's DNS is not fit for mail",
		health.Undetermined: "nothing could be determined: nobody answers",
	}[r.Outcome])
}
