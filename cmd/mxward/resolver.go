package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"mxward/internal/app"
	"mxward/internal/dns"
	"mxward/internal/dns/resolver"
)

// resolverFlags say who is asked: the root servers and those below them, unless told
// otherwise.
type resolverFlags struct{ rootHints, server string }

func (f *resolverFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.rootHints, "root-hints", "", "ask from the root servers in this `file`, written like named.root")
	cmd.Flags().StringVar(&f.server, "server", "", "ask the resolver at this `address`[:port] instead of the root servers")
	cmd.MarkFlagsMutuallyExclusive("root-hints", "server")
}

// resolver makes what the flags ask for; trace may be nil.
func (f *resolverFlags) resolver(trace func(resolver.Step)) (dns.Resolver, error) {
	if f.server != "" {
		at, err := parseServer(f.server)
		if err != nil {
			return nil, err
		}
		return &resolver.Forwarder{Server: at, Trace: trace}, nil
	}
	return f.iterative(trace)
}

// iterative makes a resolver that asks from the root down.
func (f *resolverFlags) iterative(trace func(resolver.Step)) (*resolver.Resolver, error) {
	if f.rootHints == "" {
		return &resolver.Resolver{Trace: trace}, nil
	}
	hints, err := app.ReadHints(f.rootHints)
	if err != nil {
		return nil, fmt.Errorf("--root-hints: %w; name a file like IANA's named.root", err)
	}
	// Who brings hints of loopback addresses has a small internet there.
	return &resolver.Resolver{Hints: hints, AllowLoopback: hints[0].Addr.IsLoopback(), Trace: trace}, nil
}

func parseServer(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	at, err := netip.ParseAddrPort(s)
	if err != nil {
		return at, fmt.Errorf("--server: expected an address with or without a port, got %q", s)
	}
	return at, nil
}
