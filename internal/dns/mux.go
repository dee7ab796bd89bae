package dns

import "context"

// Mux is a Resolver that sends each question to the resolver with the longest matching
// suffix. Without a match, Default answers; without a Default, the answer is REFUSED, as
// from a server that is asked for a zone that it does not have (RFC 9471 §1, RFC 8499 lame).
type Mux struct {
	Zones   map[Name]Resolver
	Default Resolver
}

// Resolve implements Resolver.
func (m *Mux) Resolve(ctx context.Context, q Question) (Answer, error) {
	if r := m.find(q); r != nil {
		return r.Resolve(ctx, q)
	}
	return Answer{Rcode: Refused}, nil
}

// find walks from the name towards the root. A DS record lives in the parent's zone
// (RFC 4035 §3.1.4.1), so a question for one skips the zone whose apex is the name, unless
// nobody else here could answer.
func (m *Mux) find(q Question) Resolver {
	var apex Resolver
	for name, ok := q.Name, true; ok; name, ok = name.Parent() {
		r, found := m.Zones[name]
		if !found {
			continue
		}
		if q.Type != TypeDS || name != q.Name {
			return r
		}
		apex = r
	}
	if m.Default != nil {
		return m.Default
	}
	return apex
}
