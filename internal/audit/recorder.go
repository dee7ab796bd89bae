package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"mxward/internal/dns"
)

const (
	maxRecords = 20   // of one answer, in the evidence
	maxAsked   = 2000 // questions for one domain, whatever its records ask for; ours
	manyAsked  = 28   // about what a domain of many takes
	manyCommon = 12   // and about what it has in common with others
)

// errSpent stands for what was not asked any more.
var errSpent = fmt.Errorf("no more than %d questions are asked for one domain", maxAsked)

// recorder asks each question once, whoever wants to know, and keeps what came of it.
type recorder struct {
	resolver dns.Resolver
	server   netip.AddrPort // the resolver's
	asker    Asker

	mu      sync.Mutex
	known   map[dns.Question]*known
	log     []Exchange
	asked   int
	packets int             // that went out for them
	failed  bool            // something could not be had
	dead    dns.Name        // all servers of this zone are silent
	silence *dns.Error      // what the resolver said of it
	heard   map[asked]Heard // what servers said, not to be asked again; nil keeps nothing
}

// asked is one question to one server.
type asked struct {
	server  netip.AddrPort
	network string
	q       dns.Question
}

// spend reports whether one more question may be asked. It wants r.mu.
func (r *recorder) spend() bool {
	r.asked++
	return r.asked <= maxAsked
}

// known is one question to the resolver and, once it is done, the answer.
type known struct {
	done   chan struct{}
	answer dns.Answer
	err    error
}

// wait gives what is known, also to whom no time is left.
func (k *known) wait(ctx context.Context, q dns.Question) (dns.Answer, error) {
	select {
	case <-k.done:
		return k.answer, k.err
	default:
	}
	select {
	case <-k.done:
		return k.answer, k.err
	case <-ctx.Done():
		return dns.Answer{}, fmt.Errorf("resolve %s: %w", q, ctx.Err())
	}
}

// Resolve implements dns.Resolver.
func (r *recorder) Resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	r.mu.Lock()
	k, ok := r.known[q]
	if !ok && !r.spend() {
		r.mu.Unlock()
		return dns.Answer{}, fmt.Errorf("resolve %s: %w", q, errSpent)
	}
	if !ok {
		k = &known{done: make(chan struct{})}
		if r.known == nil {
			r.known = make(map[dns.Question]*known, manyAsked)
		}
		r.known[q] = k
	}
	r.mu.Unlock()
	if ok {
		return k.wait(ctx, q)
	}
	if k.err = r.foreseen(q); k.err != nil {
		close(k.done)
		return k.answer, k.err
	}
	var at Times
	k.answer, at, k.err = resolve(ctx, r.resolver, q)
	e := newExchange(q, k.answer, k.err, at)
	e.server = r.server
	if r.server.IsValid() {
		e.Server = r.server.String()
	}
	r.note(e)
	if r.server.IsValid() && k.err == nil && hiding(e.Extended) {
		k.err = &dns.Error{Question: q, Trouble: dns.ServerFailed, Extended: e.Extended, Detail: "the resolver hides it by a policy of its own"}
		k.answer = dns.Answer{}
	}
	close(k.done)
	return k.answer, k.err
}

// foreseen gives the error of a question in such a zone: the resolver would wait for the same
// servers again, for each name as long.
func (r *recorder) foreseen(q dns.Question) error {
	if r.silence == nil || !q.Name.In(r.dead) {
		return nil
	}
	e := *r.silence
	e.Question, e.Packets = q, 0
	return &e
}

// ask puts a question to one server.
func (r *recorder) ask(ctx context.Context, server netip.AddrPort, network string, q dns.Question) Heard {
	what := asked{server, network, q}
	r.mu.Lock()
	heard, known := r.heard[what]
	may := known || r.spend()
	r.mu.Unlock()
	switch {
	case known:
		return heard
	case !may:
		return Heard{Server: server, Err: errSpent}
	}
	said, at, err := ask(ctx, r.asker, server, network, q)
	e := newExchange(q, said.Answer, err, at)
	e.server, e.Server, e.Transport = server, server.String(), network
	r.note(e)
	heard = Heard{Server: server, Said: said, Err: err}
	if r.heard != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.heard[what] = heard
	}
	return heard
}

// heardOf gives what some servers have said over UDP already, where that is kept.
func (r *recorder) heardOf(servers []netip.AddrPort, q dns.Question) (all []Heard) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, server := range servers {
		if heard, ok := r.heard[asked{server, "udp", q}]; ok {
			all = append(all, heard)
		}
	}
	return all
}

// trouble reports whether something could not be had.
func (r *recorder) trouble() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *recorder) note(e Exchange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.log == nil {
		r.log = make([]Exchange, 0, manyAsked+manyCommon)
	}
	r.log = append(r.log, e)
	r.packets += e.packets
	r.failed = r.failed || e.Error != ""
}

// took is how long the resolver took for a question.
func (r *recorder) took(q dns.Question) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.log, func(e Exchange) bool { return e.question == q && e.Transport == "" })
	if i < 0 {
		return 0
	}
	return time.Duration(r.log[i].RTT * float64(time.Millisecond))
}

// sorted gives what was asked in an order that is the same each time.
func (r *recorder) sorted() []Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.SortStableFunc(r.log, func(a, b Exchange) int {
		return cmp.Or(strings.Compare(a.Name.String(), b.Name.String()), strings.Compare(a.Type, b.Type), strings.Compare(a.Server, b.Server),
			strings.Compare(a.Transport, b.Transport), a.how()-b.how())
	})
	return r.log
}

// failures gives the questions that the resolver had no answer to.
func (r *recorder) failures() []dns.Question {
	r.mu.Lock()
	defer r.mu.Unlock()
	var failed []dns.Question
	for q, k := range r.known {
		select {
		case <-k.done:
			if !q.CheckingDisabled && (k.err != nil || k.answer.Rcode != dns.NoError && k.answer.Rcode != dns.NXDomain) {
				failed = append(failed, q)
			}
		default: // whoever asked has gone
		}
	}
	return failed
}

func newExchange(q dns.Question, answer dns.Answer, err error, at Times) Exchange {
	e := Exchange{
		Name: q.Name, Type: q.Type.String(), AA: answer.Authoritative, AD: answer.Authentic, Extended: answer.Extended,
		RTT: float64(at.Took.Round(time.Microsecond)) / float64(time.Millisecond), When: at.Began.UTC(), question: q, err: err,
		records: answer.Answer, packets: answer.Packets,
	}
	if err != nil {
		e.Error, e.records = err.Error(), nil
		var de *dns.Error
		if errors.As(err, &de) {
			e.packets = de.Packets
		}
		return e
	}
	e.Rcode = answer.Rcode.String()
	return e
}

// how orders questions that differ only in how they are asked.
func (e Exchange) how() int {
	switch {
	case e.question.CheckingDisabled:
		return 0
	case e.question.DNSSEC:
		return 1
	}
	return 2
}

// written puts into words what only those who read a finding want to see: most of what is
// asked is never shown.
func (e Exchange) written() Exchange {
	if e.Again != "" {
		return e
	}
	e.Records = []string{}
	for _, rr := range e.records[:min(maxRecords, len(e.records))] {
		e.Records = append(e.Records, rr.String())
	}
	e.Again = again(e.question, e.server, e.Transport, e.Transport == "")
	return e
}

// again gives the command that asks the same.
func again(q dns.Question, server netip.AddrPort, network string, recurse bool) string {
	text := "dig"
	switch {
	case !server.IsValid():
		text += " +trace"
	default:
		text += " @" + server.Addr().String()
		if server.Port() != 53 {
			text += fmt.Sprintf(" -p %d", server.Port())
		}
		if !recurse {
			text += " +norecurse"
		}
	}
	if network == "tcp" {
		text += " +tcp"
	}
	if q.DNSSEC {
		text += " +dnssec"
	}
	if q.CheckingDisabled {
		text += " +cdflag"
	}
	if name := q.Name.String(); strings.HasPrefix(name, "-") || strings.HasPrefix(name, "+") || strings.HasPrefix(name, "@") {
		text += " -q" // strangers' names are no options
	}
	return text + " " + shellQuoted(q.Name.String()) + " " + q.Type.String()
}

// shellQuoted quotes a name that a shell would not take as it is.
func shellQuoted(s string) string {
	for _, c := range s {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			quoted := ""
			for _, c := range s {
				if c == '\'' {
					quoted += `'\''`
					continue
				}
				quoted += string(c)
			}
			return "'" + quoted + "'"
		}
	}
	return s
}
