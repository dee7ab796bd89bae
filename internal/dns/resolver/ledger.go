package resolver

import (
	"fmt"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
)

// What one client question may cost, its sub-questions included and never reset. CAMP
// (2024) and NXNSAttack (2020) show why the sums must be over the whole tree.
const (
	maxPackets      = 128       // sent, for the whole question
	maxBytes        = 128 << 10 // received, for the whole question
	maxStepPackets  = 32        // sent, for one name on the way
	maxDepth        = 7         // question for the address of a name server of a name server …
	maxRestarts     = 11        // aliases followed
	maxReferrals    = 32        // for one name on the way
	maxNSLookups    = 10        // name servers without glue looked up, for the whole question
	maxNSMissing    = 5         // of one delegation's that may be found not to exist
	maxNSNames      = 13        // used of one delegation
	maxNSAddresses  = 6         // used of one name server
	maxSetRecords   = 100       // in one RRset
	maxSetSigs      = 8         // RRSIGs for one RRset
	maxWaiters      = 100       // for the answer to one question
	maxAttemptsKept = 32        // in an error
)

// account is what a client question has cost so far. One goroutine at a time works for a
// question, so it needs no lock.
type account struct {
	counts    *counters
	place     *slot  // nil for work of our own
	signs     uint64 // signs of life from any server, when the question began
	packets   int
	bytes     int
	nsLookups int
	work      dnssec.Work             // of validation
	zones     map[dns.Name]*zoneTrust // judged on the way; see validate_chain.go
	probe     chan struct{}           // closed when the look for any sign of life has ended; see pulse.go
	probes    int                     // packets sent for it
}

// ledger goes with the question for one name and type: the client's, one link of its alias
// chain, or the address of a name server. Parents lead back to the client's question.
type ledger struct {
	*account
	ask
	parent   *ledger
	depth    int
	sent     int  // packets for this name
	renews   bool // what the cache still has is not enough; see renew.go
	attempts []dns.Attempt
}

// open starts the ledger for a name that parent needs; without a parent, for a client's
// question.
func (r *Resolver) open(a ask, parent *ledger) *ledger {
	if parent == nil {
		return &ledger{account: &account{counts: &r.counts, signs: r.servers.signsOfLife()}, ask: a}
	}
	return &ledger{account: parent.account, ask: a, parent: parent, depth: parent.depth + 1}
}

// next goes on with another name at the same depth: the target of an alias.
func (l *ledger) next(a ask) *ledger {
	return &ledger{account: l.account, ask: a, parent: l.parent, depth: l.depth, attempts: l.attempts}
}

// circular reports whether a question further up waits for this very one. The address of a
// host is one thing here, in whatever family.
func (l *ledger) circular() bool {
	for p := l.parent; p != nil; p = p.parent {
		if p.name == l.name && (p.typ == l.typ || isAddress(p.typ) && isAddress(l.typ)) {
			return true
		}
	}
	return false
}

func isAddress(t dns.Type) bool { return t == dns.TypeA || t == dns.TypeAAAA }

// charge pays for one packet before it is sent.
func (l *ledger) charge() error {
	switch {
	case l.packets >= maxPackets:
		return l.exhausted(limitPackets, "%d packets for one question", maxPackets)
	case l.bytes >= maxBytes:
		return l.exhausted(limitBytes, "%d bytes for one question", maxBytes)
	case l.sent >= maxStepPackets:
		return l.exhausted(limitNamePackets, "%d packets for one name", maxStepPackets)
	}
	l.packets++
	l.sent++
	return nil
}

// stepSpent reports whether this name alone has had its packets.
func (l *ledger) stepSpent() bool {
	return l.sent >= maxStepPackets && l.packets < maxPackets && l.bytes < maxBytes
}

// chargeNSLookup pays for looking up a name server without glue.
func (l *ledger) chargeNSLookup() bool {
	switch {
	case l.depth >= maxDepth:
		l.counts.limits[limitDepth].Add(1)
		return false
	case l.nsLookups >= maxNSLookups:
		l.counts.limits[limitNSLookups].Add(1)
		return false
	}
	l.nsLookups++
	return true
}

// exhausted makes the error of a limit that was reached, and counts it.
func (l *ledger) exhausted(which limit, format string, args ...any) *dns.Error {
	l.counts.limits[which].Add(1)
	return l.failed(dns.WorkLimit, fmt.Sprintf(format, args...))
}

// failed makes the error of this name's question.
func (l *ledger) failed(t dns.Trouble, detail string) *dns.Error {
	return &dns.Error{Question: l.question(), Trouble: t, Detail: detail, Attempts: l.attempts}
}

// tried notes a server that was of no use.
func (l *ledger) tried(a dns.Attempt) {
	if len(l.attempts) < maxAttemptsKept {
		l.attempts = append(l.attempts[:len(l.attempts):len(l.attempts)], a)
	}
}
