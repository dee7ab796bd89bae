package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"mxward/internal/deliver"
	"mxward/internal/dns"
	"mxward/internal/mail"
)

func newRoute() *cobra.Command {
	var f routeFlags
	cmd := &cobra.Command{
		Use:   "route ADDRESS...",
		Short: "where would mail for an address go, in which order, and why",
		Long: `Route finds where mail for an address (or a bare domain) would go, by RFC 5321 and
RFC 7505: every host and address in the order in which they would be tried, with what was
noticed on the way. It asks the DNS from the root down by itself, or another resolver with
--server. With --probe it visits each address as a mail server would, and sends no mail: it
shows who answers, with which TLS and certificate, and whether MTA-STS and DANE would be
content with those.

Exit status: 0 there is a route (with --probe: and somebody answers on it); 1 the domain
takes no mail, or nobody answers; 2 usage; 3 the DNS could not be asked.`,
		Example: "  mxward route bob@example.com\n  mxward route example.com --probe --json",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	cmd.Flags().BoolVar(&f.probe, "probe", false, "visit each address: greeting, EHLO, STARTTLS, and never DATA")
	cmd.Flags().BoolVar(&f.json, "json", false, "one JSON document on stdout (schema "+routeSchema+")")
	f.resolverFlags.add(cmd)
	f.probeFlags.add(cmd)
	return cmd
}

type routeFlags struct {
	resolverFlags
	probeFlags
	probe, json bool
}

const routeSchema = "mxward.route/1"

// routeDocument is what --json prints; fields are only ever added to it.
type routeDocument struct {
	Schema string       `json:"schema"`
	Routes []foundRoute `json:"routes"`
}

type foundRoute struct {
	Address string `json:"address"`
	deliver.Route
	// Error is why there is no route, in words; Reply what a sender would be told; Status
	// is "ok", "failed" (never) or "deferred" (could not be determined).
	Status string  `json:"status"`
	Error  string  `json:"error"`
	Reply  string  `json:"reply"`
	Probe  []knock `json:"probe"`
}

func (f *routeFlags) run(cmd *cobra.Command, args []string) error {
	addresses := make([]mail.Address, len(args))
	for i, arg := range args {
		var err error
		if addresses[i], err = parseDestination(arg); err != nil {
			return usage(err)
		}
	}
	r, err := f.resolver(nil)
	if err != nil {
		return usage(err)
	}
	doc := routeDocument{Schema: routeSchema, Routes: []foundRoute{}}
	for i, a := range addresses {
		found := f.find(cmd.Context(), r, args[i], a)
		doc.Routes = append(doc.Routes, found)
		if !f.json {
			printRoute(cmd.OutOrStdout(), found)
		}
	}
	if f.json {
		if err := writeJSON(cmd.OutOrStdout(), doc); err != nil {
			return err
		}
	}
	return doc.exit()
}

// parseDestination reads an address, or a bare domain.
func parseDestination(s string) (mail.Address, error) {
	address := s
	if !strings.Contains(s, "@") {
		address = "postmaster@" + s
	}
	a, err := mail.ParseAddress(address)
	if err != nil {
		return a, fmt.Errorf("expected a mail address or a domain, got %q: %w", s, err)
	}
	return a, nil
}

func (f *routeFlags) find(ctx context.Context, r dns.Resolver, arg string, a mail.Address) foundRoute {
	finder := &deliver.Finder{Resolver: r, AllowLoopback: true}
	route, err := finder.Find(ctx, a)
	found := foundRoute{Address: arg, Route: route, Status: "ok", Probe: []knock{}}
	if err != nil {
		found.Status, found.Error = "deferred", err.Error()
		var none *deliver.NoRoute
		if errors.As(err, &none) {
			found.Reply = none.Reply.String()
			if !none.Temporary() {
				found.Status = "failed"
			}
		}
		return found
	}
	if f.probe {
		found.Probe = f.knocks(ctx, r, route)
	}
	return found
}

func printRoute(w io.Writer, r foundRoute) {
	fmt.Fprint(w, r.Route.String())
	if r.Error != "" {
		fmt.Fprintf(w, "no route: %s\n", r.Error)
	}
	for _, k := range r.Probe {
		fmt.Fprintf(w, "  probe %s\n", k)
	}
}

// exit gives the worst of all routes: undetermined only where nothing is known to be wrong.
func (d routeDocument) exit() error {
	deferred := false
	for _, r := range d.Routes {
		switch {
		case r.Status == "failed":
			return &exitError{exitProblems, fmt.Errorf("route %s: not deliverable", r.Address)}
		case r.Status == "deferred":
			deferred = true
		case len(r.Probe) > 0 && noWay(r.Probe):
			return undetermined(fmt.Errorf("route %s: this host's network has no way to any of the addresses; this says nothing about the domain", r.Address))
		case len(r.Probe) > 0 && !answers(r.Probe):
			return problem(fmt.Errorf("route %s: nobody answers", r.Address))
		}
	}
	if deferred {
		return undetermined(errors.New("route: could not be determined; this says nothing about the domain"))
	}
	return nil
}

// noWay reports that our own network was to blame at every address.
func noWay(knocks []knock) bool {
	for _, k := range knocks {
		if !k.ours() {
			return false
		}
	}
	return true
}

func answers(knocks []knock) bool {
	for _, k := range knocks {
		if k.ok() {
			return true
		}
	}
	return false
}
