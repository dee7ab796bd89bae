package server_test

import (
	"slices"
	"strings"

	wire "github.com/miekg/dns"
)

// comparison is what is known while a peer and we are compared.
type comparison struct {
	peer  string
	zones map[string]string
	said  map[string]bool // every record that the peer gave in any section
	ours  []string        // records that we gave, and the peer not in the same reply
	used  map[string]int  // explanations, how often

	explained int // the sum of used, as TestSignedPeers last saw it
}

// unheard gives the records of ours that the peer gave in no reply at all.
func (c *comparison) unheard() []string {
	return slices.DeleteFunc(c.ours, func(rr string) bool { return c.said[rr] })
}

func (c *comparison) compare(q wire.Question, got, want *wire.Msg) (diff string) {
	for _, section := range [][]wire.RR{want.Answer, want.Ns, want.Extra} {
		for _, rr := range texts(section) {
			c.said[rr] = true
		}
	}
	switch {
	case got.Rcode != want.Rcode:
		diff = "rcode"
	case got.Authoritative != want.Authoritative:
		diff = "AA"
	case got.Truncated != want.Truncated:
		diff = "TC"
	case got.Truncated: // which records are left is nobody's business
	case !slices.Equal(texts(got.Answer), texts(want.Answer)):
		diff = "answer"
	case !slices.Equal(texts(got.Ns), texts(want.Ns)):
		diff = "authority"
	case !slices.Equal(texts(neededGlue(got)), texts(neededGlue(want))):
		diff = "glue"
	}
	// Other additional records are free (RFC 1034 §4.3.2, step 6), but have to be true.
	c.ours = append(c.ours, texts(got.Extra)...)
	if diff == "" {
		return ""
	}
	if q.Qtype == wire.TypeANY && !aliasLoop(got.Answer) {
		c.ours = append(c.ours, texts(got.Answer)...)
	}
	for _, e := range explanations {
		if (e.peer == "" || e.peer == c.peer) && e.applies(c, q, got, want) {
			c.used[e.why]++
			return ""
		}
	}
	return diff
}

// explanations are the differences that are known and meant.
var explanations = []struct {
	peer, why string
	applies   func(c *comparison, q wire.Question, got, want *wire.Msg) bool
}{
	{
		"", "ANY: RFC 8482 §4.1 leaves the RRset open; we give one, NSD all, BIND one over UDP",
		func(_ *comparison, q wire.Question, got, want *wire.Msg) bool {
			return q.Qtype == wire.TypeANY && len(got.Answer) > 0 && len(want.Answer) > 0
		},
	}, {
		"", "a loop of aliases: BIND says SERVFAIL, NSD gives up earlier; we give the loop, or as much as fits",
		func(_ *comparison, _ wire.Question, got, _ *wire.Msg) bool { return aliasLoop(got.Answer) },
	}, {
		"", "TC, since a server of the delegated zone lacks an address in the packet: RFC 9471 §3.1 is younger",
		func(_ *comparison, _ wire.Question, got, want *wire.Msg) bool {
			return got.Truncated && !want.Truncated && !got.Authoritative && len(got.Answer) == 0 &&
				slices.Equal(texts(got.Ns), texts(want.Ns))
		},
	}, {
		"", "the peer compresses less (never names of another case), and its answer does not fit",
		func(_ *comparison, _ wire.Question, got, want *wire.Msg) bool {
			return want.Truncated && !got.Truncated && subset(want.Answer, got.Answer)
		},
	}, {
		"nsd", "NSD adds the zone's NS to positive answers; ours are minimal",
		func(_ *comparison, _ wire.Question, got, want *wire.Msg) bool {
			return got.Rcode == want.Rcode && len(got.Ns) == 0 && slices.Equal(texts(got.Answer), texts(want.Answer)) &&
				len(want.Answer) > 0 && only(want.Ns, wire.TypeNS)
		},
	}, {
		"nsd", "an alias leads to another zone of this server: NSD follows, our answer is from one zone",
		func(c *comparison, _ wire.Question, got, want *wire.Msg) bool {
			end := aliasEnd(got.Answer)
			return end != "" && subset(got.Answer, want.Answer) && c.zoneOf(end) != c.zoneOf(got.Question[0].Name)
		},
	}, {
		"bind", "an alias leads to a child zone of this server: BIND stops, we refer to the child",
		func(c *comparison, _ wire.Question, got, want *wire.Msg) bool {
			end := aliasEnd(got.Answer)
			return end != "" && slices.Equal(texts(got.Answer), texts(want.Answer)) && only(got.Ns, wire.TypeNS) &&
				len(want.Ns) == 0 && c.zoneOf(end) != c.zoneOf(got.Question[0].Name)
		},
	},
}

// zoneOf gives the longest zone that a name is in.
func (c *comparison) zoneOf(name string) (longest string) {
	for origin := range c.zones {
		if wire.IsSubDomain(wire.Fqdn(origin), name) && len(origin) > len(longest) {
			longest = origin
		}
	}
	return longest
}

// aliasEnd gives the target of the last record, if that is a CNAME.
func aliasEnd(answer []wire.RR) string {
	if len(answer) == 0 {
		return ""
	}
	if c, ok := answer[len(answer)-1].(*wire.CNAME); ok {
		return c.Target
	}
	return ""
}

// aliasLoop reports whether the chain ends where it was before, or is as long as it may be.
func aliasLoop(answer []wire.RR) bool {
	end := aliasEnd(answer)
	return len(answer) > 16 || end != "" && slices.ContainsFunc(answer, func(rr wire.RR) bool {
		return rr.Header().Rrtype == wire.TypeCNAME && strings.EqualFold(rr.Header().Name, end)
	})
}

// neededGlue gives the addresses of servers inside the delegated zone.
func neededGlue(m *wire.Msg) (glue []wire.RR) {
	if m.Authoritative || len(m.Ns) == 0 {
		return nil
	}
	for _, rr := range m.Extra {
		if wire.IsSubDomain(m.Ns[0].Header().Name, rr.Header().Name) {
			glue = append(glue, rr)
		}
	}
	return glue
}

func subset(part, whole []wire.RR) bool {
	in := texts(whole)
	return !slices.ContainsFunc(texts(part), func(rr string) bool { return !slices.Contains(in, rr) })
}

func only(rrs []wire.RR, t uint16) bool {
	return !slices.ContainsFunc(rrs, func(rr wire.RR) bool { return rr.Header().Rrtype != t })
}

// texts gives the records in presentation format, sorted, without the OPT record. Names
// may come back in another case, texts may not.
func texts(rrs []wire.RR) (out []string) {
	for _, rr := range rrs {
		switch rr.Header().Rrtype {
		case wire.TypeOPT:
			continue
		case wire.TypeTXT, wire.TypeSPF, wire.TypeHINFO, wire.TypeCAA, wire.TypeURI:
			name := rr.Header().Name
			out = append(out, strings.ToLower(name)+strings.TrimPrefix(rr.String(), name))
		default:
			out = append(out, strings.ToLower(rr.String()))
		}
	}
	slices.Sort(out)
	return out
}
