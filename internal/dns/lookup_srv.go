package dns

import (
	"cmp"
	"context"
	"slices"
	"strings"

	wire "github.com/miekg/dns"
)

// SRV is one SRV record (RFC 2782). Target is Root where the service is decidedly not there.
type SRV struct {
	Priority, Weight, Port uint16
	Target                 Name
}

// LookupSRV asks for the SRV records of name, which begins with the service and the protocol,
// sorted by priority, then by target and port.
func LookupSRV(ctx context.Context, r Resolver, name Name) (Set[SRV], error) {
	set, err := lookup(ctx, r, Question{Name: name, Type: TypeSRV}, func(rr RR) (SRV, bool) {
		srv, ok := rr.(*wire.SRV)
		if !ok {
			return SRV{}, false
		}
		return SRV{srv.Priority, srv.Weight, srv.Port, NameOf(srv.Target)}, true
	})
	slices.SortFunc(set.Records, func(a, b SRV) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), strings.Compare(a.Target.text, b.Target.text), cmp.Compare(a.Port, b.Port))
	})
	return set, err
}
