package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"mxward/internal/lab"
)

func newLab() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "a small internet on loopback: five stories of how mail finds its way",
		Long: `Lab builds a small internet in this process, on loopback addresses and unprivileged ports:
root, TLD and domain name servers, MX hosts, senders, a spammer, and mxward itself as the
gate. It plays five stories, one after the other, and checks a few facts in each. It needs
no root, no configuration and no network.

Exit status: 0 if every fact holds, 1 if one does not, 3 if the lab could not be built.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			viewer := lab.Viewer{}
			if !asJSON {
				viewer = newNarrator(out)
			}
			doc, err := lab.Play(cmd.Context(), viewer)
			if err != nil {
				return undetermined(err)
			}
			if asJSON {
				err = writeJSON(out, doc)
			} else {
				err = sumUp(out, doc)
			}
			if err == nil && !doc.OK() {
				err = &exitError{exitProblems, fmt.Errorf("lab: not every fact holds")}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON document on stdout (schema "+lab.Schema+")")
	return cmd
}

// newNarrator tells the stories as they happen.
func newNarrator(w io.Writer) lab.Viewer {
	p := newPalette(w)
	return lab.Viewer{
		Begin: func(id int, title string) { fmt.Fprintf(w, "%s\n", p.bold(fmt.Sprintf("Story %d: %s", id, title))) },
		Event: func(e lab.Trace) {
			fmt.Fprintf(w, "  %s %s %s\n", p.dim(fmt.Sprintf("%7.3f s", e.At.Seconds())), p.bold(e.Who), e.What)
		},
		Fact: func(f lab.Fact) { fmt.Fprintf(w, "  %s %s: %s\n", p.mark(f.OK), f.Claim, f.Seen) },
	}
}

func sumUp(w io.Writer, doc lab.Document) error {
	p := newPalette(w)
	fmt.Fprintln(w)
	facts, held := 0, 0
	for _, s := range doc.Stories {
		for _, f := range s.Facts {
			facts++
			if f.OK {
				held++
			}
		}
		fmt.Fprintf(w, "%s story %d: %s\n", p.mark(s.OK), s.ID, s.Title)
	}
	_, err := fmt.Fprintf(w, "%d of %d facts hold\n", held, facts)
	return err
}

// palette colours text for terminals, and leaves it alone elsewhere.
type palette struct{ on bool }

func newPalette(w io.Writer) palette { return palette{os.Getenv("NO_COLOR") == "" && isTerminal(w)} }

// isTerminal reports whether somebody looks at a screen that can be written over.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

func (p palette) paint(code, s string) string {
	if !p.on {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p palette) bold(s string) string { return p.paint("1", s) }
func (p palette) dim(s string) string  { return p.paint("2", s) }

func (p palette) mark(ok bool) string {
	if ok {
		return p.paint("32", "ok  ")
	}
	return p.paint("31", "FAIL")
}
