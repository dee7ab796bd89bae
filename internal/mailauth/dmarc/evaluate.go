package dmarc

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"mxward/internal/dns"
)

// Result is what DMARC says of a message, in the words of Authentication-Results (RFC 9989 §9.2).
type Result string

// The results.
const (
	ResultNone Result = "none"      // no policy applies
	Pass       Result = "pass"      // the author's domain has let the message be sent
	Fail       Result = "fail"      // there is no sign that it has
	TempError  Result = "temperror" // the DNS could not be asked: try again
	PermError  Result = "permerror" // the record, or From, is beyond use
)

// The methods that DMARC rests on (RFC 9989 §4.3).
const (
	MethodSPF  = "spf"
	MethodDKIM = "dkim"
)

// Identifier is what SPF or a DKIM signature has said of a domain. Of the results, which
// are the words of RFC 8601 §2.7, "pass" makes it an authenticated identifier, and
// "temperror" one that may be; all others are as if it were not there.
type Identifier struct {
	Method   string // MethodSPF or MethodDKIM
	Result   string
	Domain   string // d= of a signature; for SPF see Message
	Selector string // s= of a signature, for people
}

// Message is all that DMARC wants to know of a message.
type Message struct {
	From []string // the values of all its From fields, unfolded
	// SPF is about MAIL FROM, and for the null sender about HELO (RFC 9989 §3.2.4): never
	// about HELO beside another sender. The zero Identifier where SPF was not checked.
	SPF  Identifier
	DKIM []Identifier // the first ten of each result are looked at
}

// Verdict is the judgement of a message.
type Verdict struct {
	Result Result
	// Disposition is what the owner of the author's domain wants done with it: None unless
	// it fails, and one level lower with t=y. What is done is the receiver's choice, and
	// nobody should reject for this alone (RFC 9989 §5.4).
	Disposition Policy
	Reason      string // why, for people, in one line of printable ASCII; it may quote strangers
	Err         error  // with TempError, PermError and ResultNone, as in Discovery; ErrAuthor too

	Author    dns.Name  // the author's domain; the one whose verdict counts if there are several
	Authors   int       // how many author's domains were judged
	Discovery Discovery // the policy, and where it was found
	Checks    []Check   // of the identifiers that mattered, in order
	// Old is an identifier that would have made the message pass for a receiver that goes
	// by the public-suffix list (RFC 7489 §3.2), where the tree walk does not: the domain
	// has a record at a subdomain and none above it, say, and signs with the name above. It
	// is looked for only where the message fails, alignment is relaxed, and nobody on the
	// walk has a psd tag, whose owner would know of RFC 9989. Then the Disposition is never
	// Reject, but Quarantine: no mail is lost by a rule that is younger than the record.
	Old *Check
}

// Check is whether one identifier is aligned with the author's domain (RFC 9989 §4.4).
type Check struct {
	Identifier
	Strict  bool
	Aligned bool
	Walk    Walk   // of the identifier, where it was needed
	Why     string // for people
	Err     error  // ErrTemporary: it could not be found out
}

// Aligned gives the check of a method, MethodSPF or MethodDKIM, by which the message
// passes. With it aggregate reports say which of the two has passed.
func (v Verdict) Aligned(method string) (Check, bool) {
	for _, c := range v.Checks {
		if c.Method == method && c.Aligned && c.Result == string(Pass) {
			return c, true
		}
	}
	return Check{}, false
}

// Evaluate judges a message. Where From has addresses of several domains, each is judged,
// and the worst verdict counts (RFC 9989 §11.5). Answers that are stale (RFC 8767) serve,
// but make no message be rejected: that is temperror.
func Evaluate(ctx context.Context, r dns.Resolver, m Message) Verdict {
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	authors, err := Authors(m.From)
	if err != nil {
		return Verdict{Result: PermError, Disposition: None, Reason: printable(err.Error()), Err: err}
	}
	w := newWalker(ctx, r)
	var worst Verdict
	for _, author := range authors {
		if v := w.judge(author, m); worst.Result == "" || v.badness() > worst.badness() {
			worst = v
		}
	}
	worst.Authors, worst.Reason = len(authors), printable(worst.Reason)
	return worst
}

// badness orders the verdicts on several authors of one message: what is sure and asks for
// action goes before what is unsure.
func (v Verdict) badness() int {
	if v.Result == Fail && v.Disposition != None {
		return 10 + v.Disposition.strength()
	}
	return slices.Index([]Result{Pass, ResultNone, PermError, Fail, TempError}, v.Result)
}

// judge gives the verdict for one author's domain.
func (w *walker) judge(author dns.Name, m Message) Verdict {
	v := Verdict{Author: author, Disposition: None, Discovery: w.discover(author)}
	if err := v.Discovery.Err; err != nil {
		v.Err, v.Reason, v.Result = err, err.Error(), PermError
		switch {
		case isTemporary(err):
			v.Result = TempError
		case errors.Is(err, ErrNotDMARC):
			v.Result, v.Reason = ResultNone, "no DMARC record applies to "+author.String()
		}
		return v
	}
	passed, aligned := w.check(&v, m, string(Pass))
	if aligned {
		v.Result, v.Reason = Pass, passed.String()
		return v
	}
	if unsure, may := w.check(&v, m, string(TempError)); may && v.Err == nil {
		v.Err = fmt.Errorf("%w: %s of %s would be aligned and has temperror", ErrTemporary, unsure.Method, unsure.Domain)
	}
	if v.Err == nil {
		w.fail(&v)
	}
	if v.Err != nil {
		v.Result, v.Disposition, v.Reason = TempError, None, v.Err.Error()
	}
	return v
}

// check looks at the identifiers that have a result, and gives the first that is aligned.
// SPF and the first aligned signature are both looked at, for the reports. What could not
// be found out is left in v.Err.
func (w *walker) check(v *Verdict, m Message, result string) (first Check, aligned bool) {
	ids := []Identifier{m.SPF}
	for _, id := range m.DKIM {
		if len(ids) <= maxIdentifiers && id.Result == result && !slices.ContainsFunc(ids[1:], func(o Identifier) bool { return o.Domain == id.Domain }) {
			ids = append(ids, id)
		}
	}
	for i, id := range ids {
		if id.Result != result || id.Domain == "" {
			continue
		}
		id.Method = MethodDKIM
		if i == 0 {
			id.Method = MethodSPF
		}
		c := w.align(v, id)
		v.Checks = append(v.Checks, c)
		switch {
		case c.Aligned && !aligned:
			first, aligned = c, true
		case c.Err != nil && v.Err == nil:
			v.Err = c.Err
		}
		if c.Aligned && id.Method == MethodDKIM {
			break
		}
	}
	if aligned && result == string(Pass) {
		v.Err = nil
	}
	return first, aligned
}

// align checks one identifier (RFC 9989 §4.10.2). It asks only where that can matter: an
// organizational domain is a name above both, so the two must meet below the root.
func (w *walker) align(v *Verdict, id Identifier) Check {
	c := Check{Identifier: id, Strict: v.Discovery.Record.StrictDKIM}
	if id.Method == MethodSPF {
		c.Strict = v.Discovery.Record.StrictSPF
	}
	name, err := dns.ParseName(id.Domain)
	switch {
	case err != nil:
		c.Why = "it is no domain name"
		return c
	case name == v.Author:
		c.Aligned, c.Why = true, "it is the author's domain itself"
		return c
	case c.Strict:
		c.Why = "strict alignment wants the author's domain itself"
		return c
	case top(name) != top(v.Author):
		c.Why = "it has nothing in common with the author's domain"
		return c
	}
	if v.Discovery.Walk = w.walk(v.Author); v.Discovery.Walk.Err != nil {
		c.Err = v.Discovery.Walk.Err
		c.Why = c.Err.Error()
		return c
	}
	org := v.Discovery.Org
	v.Discovery.stale = v.Discovery.stale || v.Discovery.Walk.stale()
	if !name.In(org) {
		c.Why = fmt.Sprintf("it is not below %s, the author's organizational domain", org)
		return c
	}
	c.Walk = w.walk(name)
	v.Discovery.stale = v.Discovery.stale || c.Walk.stale()
	switch {
	case c.Walk.Err != nil:
		c.Err = c.Walk.Err
		c.Why = c.Err.Error()
	case c.Walk.Org != org:
		c.Why = fmt.Sprintf("its organizational domain is %s, the author's is %s", c.Walk.Org, org)
	default:
		c.Aligned, c.Why = true, fmt.Sprintf("both have the organizational domain %s", org)
	}
	return c
}

// top gives the last label.
func top(n dns.Name) string {
	labels := n.Labels()
	if len(labels) == 0 {
		return ""
	}
	return labels[len(labels)-1]
}

// fail gives the verdict on a message that nothing vouches for.
func (w *walker) fail(v *Verdict) {
	d := &v.Discovery
	v.Result, v.Disposition = Fail, d.Policy
	v.Reason = fmt.Sprintf("nothing that passed is aligned with %s; the policy is %s=%s of %s", v.Author, d.Tag, d.Policy, d.Domain)
	if d.Record.Testing && d.Policy != None {
		v.Disposition = d.Policy.tested()
		v.Reason += ", applied one level lower for t=y"
	}
	v.Old = v.old()
	if v.Old != nil && v.Disposition == Reject {
		v.Disposition = Quarantine
		v.Reason += fmt.Sprintf(", applied one level lower as %s of %s is aligned by RFC 7489", v.Old.Method, v.Old.Domain)
	}
	if v.Disposition == Reject && d.stale {
		v.Err = fmt.Errorf("%w: what the DNS said of %s has expired, and nothing newer could be had", ErrTemporary, v.Author)
	}
}

// old finds Verdict.Old.
func (v *Verdict) old() *Check {
	for _, c := range v.Checks {
		name, err := dns.ParseName(c.Domain)
		if err == nil && c.Result == string(Pass) && !c.Strict && ListOrg(name) == v.Discovery.Old && !v.Discovery.hasPSD() && !c.Walk.hasPSD() {
			return &c
		}
	}
	return nil
}

func isTemporary(err error) bool { return errors.Is(err, ErrTemporary) }
