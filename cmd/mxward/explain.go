package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"mxward/docs/checks"
	"mxward/internal/audit"
	"mxward/internal/site"
)

func newExplain() *cobra.Command {
	return &cobra.Command{
		Use:   "explain [ID|AREA...]",
		Short: "what a check means, how it is found out, and how to mend it",
		Long: `Explain prints the page of a check: what it means and why it matters, how it is found out, how
to look yourself and how to mend it. For an area (spf) it lists the area's checks, and without
arguments all of them. It asks nobody; the pages are those of docs/checks.`,
		Example: `  mxward explain spf.ptr
  mxward explain dane`,
		ValidArgs: checks.IDs(),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := explain(args)
			if err != nil {
				return usage(err)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), text)
			return err
		},
	}
}

// explain gives the pages and lists for all words, or a mistake in one of them and nothing else.
func explain(words []string) (string, error) {
	table := audit.Checks()
	if len(words) == 0 {
		return listChecks(table), nil
	}
	var parts []string
	for _, word := range words {
		var named []audit.Check
		for _, c := range table {
			if names(c, word) {
				named = append(named, c)
			}
		}
		page, ok := checks.Page(word)
		switch {
		case len(named) == 0:
			return "", noCheck(word, table)
		case ok:
			parts = append(parts, plainPage(page))
		default:
			parts = append(parts, listChecks(named))
		}
	}
	return strings.Join(parts, "\n"), nil
}

// noCheck says that a word is no id and no area, and which one was probably meant.
func noCheck(word string, table []audit.Check) error {
	var known []string
	for _, c := range table {
		known = append(known, c.ID, c.Area())
	}
	if near := site.Nearest(strings.ToLower(word), known); near != "" {
		return fmt.Errorf("there is no check and no area %q; did you mean %s?", word, near)
	}
	return fmt.Errorf("there is no check and no area %q: mxward explain lists them", word)
}

func listChecks(list []audit.Check) string {
	var b strings.Builder
	for _, c := range list {
		fmt.Fprintf(&b, "%-32s %-8s %s\n", c.ID, c.Severity, c.Title)
	}
	return b.String()
}

// plainPage gives a page without the marks of Markdown: text at the margin, what is to be typed
// four columns in.
func plainPage(page string) string {
	var b strings.Builder
	code := false
	for line := range strings.Lines(page) {
		switch {
		case strings.HasPrefix(line, "```"):
			code = !code
		case code:
			b.WriteString("    " + line)
		default:
			b.WriteString(strings.ReplaceAll(strings.TrimLeft(line, "# "), "`", ""))
		}
	}
	return b.String()
}
