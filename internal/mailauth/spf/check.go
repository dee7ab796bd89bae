package spf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"mxward/internal/dns"
)

// Check asks whether the session's client may use the name that it uses: check_host() of
// RFC 7208 §4. It asks r for each piece of data when that is needed, one after the other,
// for 20 seconds at most. DNS trouble is TempError, never None; so is the end of ctx.
func Check(ctx context.Context, r dns.Resolver, s Session) Verdict {
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	s.Client = s.Client.Unmap().WithZone("")
	c := &check{ctx: ctx, resolver: r, session: s}
	var which string
	which, c.local, c.domain = s.identity()
	if name, ok := policyName(c.domain); ok && !isASCII(c.domain) {
		c.domain = name.String() // RFC 8616 §4: A-labels from here on
	}
	v := Verdict{Identity: which, Domain: c.domain}
	v.Trace = c.host(c.domain)
	v.Result, v.Err, v.Lookups, v.Voids = v.Trace.Result, v.Trace.Err, c.lookups, c.voids
	decided := v.Trace.decided()
	v.Matched = decided.Matched
	if v.Result == Fail {
		v.Explanation = c.explain(decided)
	}
	return v
}

// check is one evaluation: what it is about, and what it has cost so far.
type check struct {
	ctx      context.Context
	resolver dns.Resolver
	session  Session
	local    string // of the sender, "postmaster" where it has none
	domain   string // of the sender

	lookups, voids int

	validated  []dns.Name // the client's names that lead back to it
	validateOK bool       // validated was filled
}

// Trace is what one record said of the client, term by term.
type Trace struct {
	Domain  string // as the client or the including record wrote it, macros expanded
	Record  string // as published; "" where there is none
	Result  Result
	Matched string // the mechanism that decided
	Err     error
	Steps   []Step

	record Record
	name   dns.Name
}

// Step is what one term did. Those behind the one that decided have none.
type Step struct {
	Term    Term
	Target  string // the name that was asked for, macros expanded; "" for all, ip4 and ip6
	Matched bool
	Lookups int // 1 if the term counts towards the ten, whatever it asked (RFC 7208 §4.6.4)
	Voids   int // 1 if it found nothing and counts towards the two

	Hosts []dns.Name   // of mx in their order, of ptr those that lead back to the client
	Addrs []netip.Addr // of a, mx and exists
	Err   error        // what ended the evaluation here
	Trace *Trace       // of include and redirect
}

// decided gives the record that decided, behind all redirects.
func (t *Trace) decided() *Trace {
	for len(t.Steps) > 0 {
		last := t.Steps[len(t.Steps)-1]
		if !last.Term.is(nameRedirect) || last.Trace == nil {
			break
		}
		t = last.Trace
	}
	return t
}

// host judges the client by the policy of one domain.
func (c *check) host(domain string) *Trace {
	t := &Trace{Domain: domain}
	name, ok := policyName(domain)
	if !ok {
		t.Result, t.Err = None, fmt.Errorf("%w: %q is no domain that could publish a policy", ErrNotSPF, clip(domain))
		return t
	}
	t.name = name
	t.Record, t.record, t.Err = fetch(c.ctx, c.resolver, name)
	if t.Result = resultOf(t.Err); t.Err != nil {
		return t
	}
	c.evaluate(t)
	return t
}

// resultOf gives the result that an error stands for; Neutral for none.
func resultOf(err error) Result {
	switch {
	case err == nil:
		return Neutral
	case errors.Is(err, ErrTemporary):
		return TempError
	case errors.Is(err, ErrPermanent):
		return PermError
	}
	return None
}

// fetch finds and reads the record of a domain (RFC 7208 §4.4, §4.5).
func fetch(ctx context.Context, r dns.Resolver, name dns.Name) (string, Record, error) {
	set, err := dns.LookupTXT(ctx, r, name)
	if err != nil {
		return "", Record{}, fmt.Errorf("%w: %w", ErrTemporary, err)
	}
	var found []string
	for _, text := range set.Records {
		if IsRecord(text) {
			found = append(found, text)
		}
	}
	switch {
	case !set.Exists:
		return "", Record{}, fmt.Errorf("%w: %s: %w", ErrNotSPF, name, errNoName)
	case len(found) == 0:
		return "", Record{}, fmt.Errorf("%w: none of the %d texts at %s is one", ErrNotSPF, len(set.Records), name)
	case len(found) > 1:
		return "", Record{}, fmt.Errorf("%w: %s has %d SPF records, where one may be (RFC 7208 §4.5)", ErrPermanent, name, len(found))
	}
	record, err := Parse(found[0])
	if err != nil {
		return found[0], record, fmt.Errorf("%w: %s: %w", ErrPermanent, name, err)
	}
	return found[0], record, nil
}

// evaluate goes through the mechanisms until one matches (RFC 7208 §4.6.2), then redirects.
func (c *check) evaluate(t *Trace) {
	t.Steps = make([]Step, 0, len(t.record.Terms))
	for _, term := range t.record.Terms {
		if term.Modifier {
			continue
		}
		step := Step{Term: term}
		err := c.match(t, &step)
		step.Err = err
		t.Steps = append(t.Steps, step)
		switch {
		case err != nil:
			t.Result, t.Err = resultOf(err), err
			return
		case step.Matched:
			t.Result, t.Matched = term.Qualifier, term.String()
			return
		}
	}
	t.Result = Neutral // RFC 7208 §4.7
	if at := t.record.modifier(nameRedirect); at >= 0 && t.record.all() < 0 {
		c.redirect(t, t.record.Terms[at])
	}
}

// redirect: the other domain's word is ours; that it has none is an error (RFC 7208 §6.1).
func (c *check) redirect(t *Trace, term Term) {
	step := Step{Term: term}
	step.Err = c.spend(t, &step)
	if step.Err == nil {
		step.Target = c.expandTarget(t, term.Domain)
	}
	if step.Err == nil && isASCII(step.Target) { // RFC 8616 §4, as in match
		step.Trace = c.host(step.Target)
		t.Result, step.Err = step.Trace.Result, step.Trace.Err
		step.Matched = step.Err == nil
		if t.Result == None {
			step.Err = fmt.Errorf("%w: %s: %s: there is no policy: %s", ErrPermanent, t.Domain, term, step.Err)
		}
	}
	if t.Err = step.Err; t.Err != nil {
		t.Result = resultOf(t.Err)
	}
	t.Steps = append(t.Steps, step)
}

// spend counts a term that asks the DNS (RFC 7208 §4.6.4).
func (c *check) spend(t *Trace, step *Step) error {
	if c.lookups == MaxLookups {
		return fmt.Errorf("%w: %s: %s would be look-up %d, and %d are allowed (RFC 7208 §4.6.4)", ErrPermanent, t.Domain, step.Term, MaxLookups+1, MaxLookups)
	}
	c.lookups++
	step.Lookups = 1
	return nil
}

// void counts a term that found nothing, once, however many questions it asked: the limit
// is one of terms (RFC 7208 §4.6.4).
func (c *check) void(t *Trace, step *Step) error {
	if step.Voids > 0 {
		return nil
	}
	c.voids++
	step.Voids = 1
	if c.voids > MaxVoids {
		return fmt.Errorf("%w: %s: %s is the %dth look-up that finds nothing, and %d are allowed (RFC 7208 §4.6.4)", ErrPermanent, t.Domain, step.Term, c.voids, MaxVoids)
	}
	return nil
}

// match asks whether a mechanism matches the client (RFC 7208 §5).
func (c *check) match(t *Trace, step *Step) error {
	term := step.Term
	switch term.Name {
	case nameAll:
		step.Matched = true
		return nil
	case nameIP4, nameIP6:
		step.Matched = term.Prefix.Contains(c.session.Client)
		return nil
	}
	if err := c.spend(t, step); err != nil {
		return err
	}
	name, ok := t.name, true
	step.Target = t.Domain
	if term.Domain != "" {
		step.Target = c.expandTarget(t, term.Domain)
		name, ok = targetName(step.Target)
	}
	switch {
	case !isASCII(step.Target):
		return nil // RFC 8616 §4: it never matches
	case term.Name == nameInclude:
		return c.include(t, step)
	case !ok:
		return nil // no name, so nothing is there
	}
	switch term.Name {
	case nameA:
		return c.matchHost(t, step, name)
	case nameMX:
		return c.matchMX(t, step, name)
	case namePTR:
		return c.matchPTR(t, step, name)
	}
	return c.exists(t, step, name)
}

// include: RFC 7208 §5.2, with its table of results.
func (c *check) include(t *Trace, step *Step) error {
	step.Trace = c.host(step.Target)
	switch step.Trace.Result {
	case Pass:
		step.Matched = true
	case TempError, PermError:
		return step.Trace.Err
	case None:
		return fmt.Errorf("%w: %s: %s: there is no policy: %s", ErrPermanent, t.Domain, step.Term, step.Trace.Err)
	}
	return nil
}

// family is what is asked for about a client: A, or AAAA where it came over IPv6.
func (c *check) family() dns.Type {
	if c.session.Client.Is6() {
		return dns.TypeAAAA
	}
	return dns.TypeA
}

// matchHost compares the client with the addresses of a host (RFC 7208 §5.3).
func (c *check) matchHost(t *Trace, step *Step, name dns.Name) error {
	set, err := dns.LookupAddrsOf(c.ctx, c.resolver, name, c.family())
	if err != nil {
		return temporary(t, step, err)
	}
	if step.Addrs == nil {
		step.Addrs = set.Records
	} else {
		step.Addrs = slices.Concat(step.Addrs, set.Records)
	}
	if len(set.Records) == 0 {
		return c.void(t, step)
	}
	step.Matched = slices.ContainsFunc(set.Records, func(a netip.Addr) bool { return c.covered(a, step.Term) })
	return nil
}

// covered compares as many bits as the term says.
func (c *check) covered(a netip.Addr, t Term) bool {
	bits := 32 - t.HostBits4
	if a.Is6() {
		bits = 128 - t.HostBits6
	}
	return a == c.session.Client || netip.PrefixFrom(a, bits).Contains(c.session.Client)
}

// matchMX: RFC 7208 §5.4. Without MX records there is nothing; the domain's own address
// does not stand in for them.
func (c *check) matchMX(t *Trace, step *Step, name dns.Name) error {
	set, err := dns.LookupMX(c.ctx, c.resolver, name)
	switch {
	case err != nil:
		return temporary(t, step, err)
	case len(set.Records) == 0:
		return c.void(t, step)
	case len(set.Records) > maxMXHosts:
		return fmt.Errorf("%w: %s: %s: %s has %d MX hosts, and %d are allowed (RFC 7208 §4.6.4)", ErrPermanent, t.Domain, step.Term, name, len(set.Records), maxMXHosts)
	}
	step.Hosts = make([]dns.Name, len(set.Records))
	for i, mx := range set.Records {
		step.Hosts[i] = mx.Host
	}
	for _, host := range step.Hosts {
		if host == dns.Root || host.IsZero() {
			continue // the null MX has no host (RFC 7505)
		}
		if err := c.matchHost(t, step, host); err != nil || step.Matched {
			return err
		}
	}
	return nil
}

// exists asks for an A record, whatever the client's family (RFC 7208 §5.7).
func (c *check) exists(t *Trace, step *Step, name dns.Name) error {
	set, err := dns.LookupAddrsOf(c.ctx, c.resolver, name, dns.TypeA)
	if err != nil {
		return temporary(t, step, err)
	}
	step.Addrs = set.Records
	if len(set.Records) == 0 {
		return c.void(t, step)
	}
	step.Matched = true
	return nil
}

// matchPTR: RFC 7208 §5.5. DNS trouble is no match here.
func (c *check) matchPTR(t *Trace, step *Step, name dns.Name) error {
	names, found := c.names()
	step.Hosts = names
	if !found {
		return c.void(t, step)
	}
	step.Matched = slices.ContainsFunc(names, func(n dns.Name) bool { return n.In(name) })
	return nil
}

// names gives the client's validated names; found is false where it has no PTR record. It
// asks once in an evaluation.
func (c *check) names() (validated []dns.Name, found bool) {
	if c.validateOK {
		return c.validated, c.validated != nil
	}
	c.validateOK = true
	if !c.session.Client.IsValid() {
		return nil, false
	}
	set, err := dns.LookupPTR(c.ctx, c.resolver, c.session.Client)
	if err == nil && len(set.Records) == 0 {
		return nil, false
	}
	c.validated = []dns.Name{}
	for _, name := range set.Records[:min(len(set.Records), maxPTRNames)] {
		addrs, err := dns.LookupAddrsOf(c.ctx, c.resolver, name, c.family())
		if err == nil && slices.Contains(addrs.Records, c.session.Client) {
			c.validated = append(c.validated, name)
		}
	}
	return c.validated, true
}

func temporary(t *Trace, step *Step, err error) error {
	return fmt.Errorf("%w: %s: %s: %w", ErrTemporary, t.Domain, step.Term, err)
}

// expandTarget expands a domain-spec within the record of t. As a name it is cut to fit,
// and its last dot means nothing.
func (c *check) expandTarget(t *Trace, m Macro) string {
	if m.Plain() {
		return fit(string(m))
	}
	return fit(expandMacro(string(m), func(letter byte) string { return c.letter(t, letter) }))
}

// letter gives what a macro letter stands for (RFC 7208 §7.2).
func (c *check) letter(t *Trace, letter byte) string {
	switch letter {
	case 's':
		return c.local + "@" + c.domain
	case 'l':
		return c.local
	case 'o':
		return c.domain
	case 'd':
		return strings.TrimSuffix(t.Domain, ".")
	case 'h':
		return c.session.Helo
	case 'i':
		return dotted(c.session.Client)
	case 'v':
		if c.session.Client.Is6() {
			return "ip6"
		}
		return "in-addr"
	case 'p':
		return c.namedBest(t.name)
	case 'c':
		if c.session.Client.IsValid() {
			return c.session.Client.String()
		}
	case 'r':
		if c.session.Receiver != "" {
			return c.session.Receiver
		}
	case 't':
		return strconv.FormatInt(time.Now().Unix(), 10)
	}
	return "unknown"
}

// namedBest gives one validated name of the client: the domain itself, else one below it,
// else any (RFC 7208 §7.3).
func (c *check) namedBest(domain dns.Name) string {
	names, _ := c.names()
	best := "unknown"
	for i, n := range names {
		if n == domain {
			return n.String()
		}
		if i == 0 || n.In(domain) && !strings.HasSuffix(best, "."+domain.String()) {
			best = n.String()
		}
	}
	return best
}

// dotted gives an address as the macro i does: the nibbles of IPv6 each by itself.
func dotted(a netip.Addr) string {
	if !a.Is6() {
		if !a.IsValid() {
			return "unknown"
		}
		return a.String()
	}
	const hex = "0123456789ABCDEF"
	raw := a.As16()
	b := make([]byte, 0, 64)
	for _, octet := range raw {
		b = append(b, hex[octet>>4], '.', hex[octet&0xf], '.')
	}
	return string(b[:len(b)-1])
}

// explain gives what the domain's owner wants a refused sender to read (RFC 7208 §6.2).
// Whatever goes wrong here, there is none, and it costs none of the ten.
func (c *check) explain(t *Trace) string {
	at := t.record.modifier(nameExp)
	if at < 0 {
		return ""
	}
	name, ok := targetName(c.expandTarget(t, t.record.Terms[at].Domain))
	if !ok {
		return ""
	}
	set, err := dns.LookupTXT(c.ctx, c.resolver, name)
	if err != nil || len(set.Records) != 1 {
		return ""
	}
	text := set.Records[0]
	if _, fault := checkMacros(text, explainLetters, true); fault != "" {
		return ""
	}
	text = expandMacro(text, func(letter byte) string { return c.letter(t, letter) })
	if !isPrintable(text) { // what came in by a macro may be anything
		return ""
	}
	return text[:min(len(text), maxExplained)]
}
