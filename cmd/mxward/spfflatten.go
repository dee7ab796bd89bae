package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"mxward/internal/mailauth/lint"
	"mxward/internal/mailauth/spf"
)

const spfFlattenSchema = "mxward.spf-flatten/1"

func newSPFFlatten() *cobra.Command {
	var f resolverFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "flatten DOMAIN",
		Short: "the networks that a domain's SPF policy passes today, to stand in place of an include",
		Long: `Flatten asks for all that a domain's SPF policy passes, with its includes and hosts, and prints
it as the shortest list of networks: as a [[domain.spf-flattened]] of the plan, and as the
mechanisms that stand in a record in place of include:DOMAIN. Copies get old: mxward check --plan
says so (spf.flatten-stale), and then this prints them anew.

What cannot be written as networks, a macro or ptr, is named and left out. Where anything could
not be asked for, no list is printed: mail from what is missing in it would be refused.

Exit status: 0 the list is whole; 1 it is not, or is everybody, or there is no policy that can be
used; 2 usage; 3 the DNS could not be asked.`,
		Example: "  mxward spf flatten _spf.example.net\n  mxward spf flatten _spf.example.net --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if bare, ok := strings.CutPrefix(args[0], "include:"); ok {
				return usage(fmt.Errorf("expected a domain, such as %s, got %s: without include: in front of it", bare, quoteOf(args[0])))
			}
			r, err := openSPF(&f, args[0])
			if err != nil {
				return usage(err)
			}
			name, err := parseDomain(args[0])
			if err != nil {
				return usage(err)
			}
			doc, end := newSPFFlattenDocument(name.String(), spf.NetworksOf(cmd.Context(), r, name.String()))
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), doc)
			} else {
				err = doc.print(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			return end
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON document on stdout (schema "+spfFlattenSchema+")")
	return cmd
}

// spfFlattenDocument is what flatten --json prints; fields are only ever added to it.
type spfFlattenDocument struct {
	Schema   string         `json:"schema"`
	Domain   string         `json:"domain"`
	Status   string         `json:"status"` // "ok", "partial", "everybody", "too-large", "none", "temperror", "permerror"
	Error    string         `json:"error"`
	Networks []netip.Prefix `json:"networks"`
	Record   string         `json:"record"` // the mechanisms; "" where there are no networks
	Beyond   []string       `json:"beyond"` // terms that cannot be written as networks
	Findings []findingJSON  `json:"findings"`

	found []lint.Finding
}

// newSPFFlattenDocument makes the document, and the error that the command ends with.
func newSPFFlattenDocument(domain string, n spf.Networks) (spfFlattenDocument, error) {
	doc := spfFlattenDocument{Schema: spfFlattenSchema, Domain: domain, Status: "ok", Error: errorText(n.Err), Networks: []netip.Prefix{}, Beyond: notNil(n.Beyond)}
	if n.Err == nil {
		doc.list(n.Set.Prefixes())
	}
	doc.Findings = findingsJSON(doc.found)
	switch {
	case errors.Is(n.Err, spf.ErrTemporary):
		doc.Status = string(spf.TempError)
		return doc, undetermined(fmt.Errorf("spf flatten %s: %w", domain, n.Err))
	case errors.Is(n.Err, spf.ErrNotSPF) && !errors.Is(n.Err, spf.ErrPermanent):
		doc.Status = string(spf.None)
		return doc, problem(fmt.Errorf("spf flatten %s: %w", domain, n.Err))
	case errors.Is(n.Err, spf.ErrTooLarge):
		doc.Status = "too-large"
		return doc, problem(fmt.Errorf("spf flatten %s: %w: include it instead", domain, n.Err))
	case n.Err != nil:
		doc.Status = string(spf.PermError)
		return doc, problem(fmt.Errorf("spf flatten %s: receivers cannot use the policy: %w", domain, n.Err))
	case doc.everybody():
		doc.Status = "everybody"
		return doc, problem(fmt.Errorf("spf flatten %s: it passes everybody: do not include it, in any form", domain))
	case len(n.Beyond) > 0:
		doc.Status = "partial"
		return doc, problem(fmt.Errorf("spf flatten %s: the networks are not all of it: include it instead, as these terms cannot be copied: %s", domain, strings.Join(n.Beyond, " ")))
	}
	return doc, nil
}

// everybody reports whether all addresses of a family pass.
func (d *spfFlattenDocument) everybody() bool {
	return slices.ContainsFunc(d.Networks, func(p netip.Prefix) bool { return p.Bits() == 0 })
}

// list takes the networks, and what is wrong with the length of a record that has them.
func (d *spfFlattenDocument) list(all []netip.Prefix) {
	d.Networks, d.Record = notNil(all), spf.Mechanisms(all)
	d.found = slices.DeleteFunc(spf.Lint("v=spf1 "+d.Record+" -all"), func(f lint.Finding) bool { return f.ID != "spf.oversize" })
}

// print writes it for people: the whole can be pasted into a plan.
func (d spfFlattenDocument) print(w io.Writer) error {
	if d.Error != "" {
		return nil // who asked is told on stderr
	}
	var b strings.Builder
	switch {
	case len(d.Networks) == 0:
		fmt.Fprintf(&b, "# %s passes no network\n", d.Domain)
	case d.everybody(): // no plan takes that
		fmt.Fprintf(&b, "# %s passes everybody\n", d.Domain)
	default:
		fmt.Fprintf(&b, "[[domain.spf-flattened]]\ninclude  = %q\nnetworks = [\n", d.Domain)
		for _, p := range d.Networks {
			fmt.Fprintf(&b, "  %q,\n", p)
		}
		fmt.Fprintf(&b, "]\n# in the record: %s\n", d.Record)
	}
	if len(d.Beyond) > 0 {
		fmt.Fprintf(&b, "# not in it: %s\n", strings.Join(d.Beyond, " "))
	}
	for _, f := range d.found {
		fmt.Fprintf(&b, "# %s: %s\n", f.ID, f.Text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
