// Package mailauth judges one message in one pass: who the client is, by SPF, who signed,
// by DKIM, who passed it on, by ARC, and what the author's domain says to that, by DMARC.
// It takes forged results out of the message and writes its own (Authentication-Results,
// RFC 8601).
//
// Judge.Start begins; the Check is an io.Writer for the whole message and passes it on as
// it was, less the forged fields; Finish gives the Results. The header is held, within the
// limits of package mail, the body is not.
//
// Nothing here refuses a message. DNS trouble, the end of the time and a part that panics
// are temperror, each for itself.
//
// Not implemented: results about authentication by the client (RFC 8601 §2.7.4); iprev where
// the client's name is not confirmed (RFC 8601 §2.7.3), since who looks for it does not wait
// long enough to tell fail from temperror; and the removal of fields by anybody but those in
// one of our own names (RFC 8601 §5 allows more).
package mailauth

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/arc"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/dmarc"
	"mxward/internal/mailauth/spf"
)

// Limit is how long a message waits for the DNS, in all: what is not known by then is
// temperror. Hasty clients wait 60 s for the reply to the final dot (RFC 5321 §4.5.3.2.6
// wants 10 minutes), and the greater part of that belongs to the store.
const Limit = 10 * time.Second

// Judge judges messages. It is not changed once it is used.
type Judge struct {
	Resolver dns.Resolver // nil: forged fields are taken out, and nothing is judged
	ID       dns.Name     // the authserv-id (RFC 8601 §2.5): whose results are ours
	Own      []dns.Name   // further names in which nobody else may speak, such as our hosts'
}

// Session is who hands the message in.
type Session struct {
	Client   netip.Addr
	Name     dns.Name // of the client, confirmed in both directions; zero where there is none
	Helo     string   // as the client said it
	From     string   // the reverse-path without its angle brackets; "" is the null sender
	Receiver string   // this host's name
	UTF8     bool     // the message is for SMTPUTF8
}

// Results is what became of one message. A part that was not judged is zero.
type Results struct {
	Session Session
	Judged  bool // false without a resolver

	SPF   spf.Verdict      // of MAIL FROM; for the null sender, of HELO
	Helo  spf.Verdict      // of HELO; zero for the null sender
	DKIM  []dkim.Signature // from the top; empty where there is none
	ARC   arc.Chain
	DMARC dmarc.Verdict

	Removed   int     // forged fields
	Malformed error   // mail.ErrHeaderMalformed: nothing that needs the header was judged
	Faults    []Fault // of our own
}

// BestDKIM gives pass if any signature holds, else what became of the first; "" where
// nothing was judged.
func (r Results) BestDKIM() dkim.Result {
	switch {
	case !r.Judged:
		return ""
	case len(r.DKIM) == 0:
		return dkim.None
	}
	for _, s := range r.DKIM {
		if s.Result == dkim.Pass {
			return dkim.Pass
		}
	}
	return r.DKIM[0].Result
}

// Fault is a panic of one part.
type Fault struct {
	Part  string
	Value any
	Stack string
}

var errFault = errors.New("the judgement failed inside")

// Check is one message on its way.
type Check struct {
	judge  Judge
	ctx    context.Context
	cancel context.CancelFunc
	out    io.Writer
	left   time.Duration // of Limit

	header  header
	inBody  bool
	spf     chan spf.Verdict // of the SPF policy of MAIL FROM, to come
	helo    chan spf.Verdict // nil where there is nothing to come
	from    []string         // the values of the From fields
	dkim    *dkim.Check      // nil where there is nothing to check
	arc     *arc.Check       // the same
	results Results

	mu     sync.Mutex
	faults []Fault
}

// Start begins with a message whose octets are then written to the Check. They are passed
// on to out, without the forged fields. Stop must be called in the end.
func (j Judge) Start(ctx context.Context, s Session, out io.Writer) *Check {
	s.Client = s.Client.Unmap()
	c := &Check{judge: j, out: out, left: Limit, results: Results{Session: s, Judged: j.Resolver != nil}}
	c.ctx, c.cancel = context.WithCancel(ctx)
	if !c.results.Judged {
		return c
	}
	who := spf.Session{Client: s.Client, Helo: s.Helo, From: s.From, Receiver: s.Receiver}
	c.spf = c.startSPF(who)
	if who.From != "" {
		who.From = ""
		c.helo = c.startSPF(who)
	}
	return c
}

// Stop ends what is still under way.
func (c *Check) Stop() { c.cancel() }

// startSPF judges the client beside the message.
func (c *Check) startSPF(s spf.Session) chan spf.Verdict {
	done := make(chan spf.Verdict, 1)
	ctx, cancel := context.WithTimeout(c.ctx, Limit)
	go func() {
		defer cancel()
		v := spf.Verdict{Result: spf.TempError, Identity: spf.IdentityMailFrom, Err: errFault}
		if s.From == "" {
			v.Identity = spf.IdentityHelo
		}
		c.guard("spf", func() { v = spf.Check(ctx, resolver{c}, s) })
		done <- v
	}()
	return done
}

// guard does one part of the work, and tells whether it came to its end: a message is not
// lost to a mistake of ours.
func (c *Check) guard(part string, work func()) (done bool) {
	defer func() {
		if value := recover(); value != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.faults = append(c.faults, Fault{part, value, string(debug.Stack())})
		}
	}()
	work()
	return true
}

// tell adds what a part has recovered from by itself to the faults.
func (c *Check) tell(part string, err error) {
	if p, ok := errors.AsType[*dkim.Panic](err); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.faults = append(c.faults, Fault{part, p.Value, p.Stack})
	}
}

// resolver asks for a Check: what panics in the DNS is an error in every part that asks,
// whichever goroutine it asks from.
type resolver struct{ *Check }

// Resolve implements dns.Resolver.
func (r resolver) Resolve(ctx context.Context, q dns.Question) (answer dns.Answer, err error) {
	if !r.guard("dns", func() { answer, err = r.judge.Resolver.Resolve(ctx, q) }) {
		return dns.Answer{}, &dns.Error{Question: q, Trouble: dns.ServerFailed, Err: errFault}
	}
	return answer, err
}

// spend does what waits for the DNS, in the time that is left.
func (c *Check) spend(work func(ctx context.Context)) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(c.ctx, c.left)
	defer cancel()
	work(ctx)
	c.left -= time.Since(began)
}

// Write takes the next octets of the message. The error is that of out, or
// mail.ErrHeaderTooLarge; then the message is given up.
func (c *Check) Write(p []byte) (int, error) {
	written := len(p)
	if !c.inBody {
		head, rest, ended, err := c.header.take(p)
		if err != nil {
			return 0, err
		}
		if !ended {
			return written, nil
		}
		if err := c.begin(head); err != nil {
			return 0, err
		}
		p = rest
	}
	return written, c.body(p)
}

func (c *Check) body(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if c.dkim != nil && !c.guard("dkim", func() { c.dkim.Write(p) }) {
		c.failDKIM(dkim.TempError, errFault)
	}
	if c.arc != nil && !c.guard("arc", func() { c.arc.Write(p) }) {
		c.failARC(arc.TempError, errFault)
	}
	_, err := c.out.Write(p)
	return err
}

// begin judges a header and passes it on.
func (c *Check) begin(head []byte) error {
	c.inBody, c.header.held = true, nil
	if err := c.judgeHeader(head); err != nil {
		return err
	}
	if len(head) > 0 && (head[0] == ' ' || head[0] == '\t') {
		// What stands above would go on here: the message has no header, and now says so.
		if _, err := io.WriteString(c.out, "\r\n"); err != nil {
			return err
		}
	}
	return c.pass(head)
}

// pass passes a header on, without the forged fields, well formed or not.
func (c *Check) pass(head []byte) error {
	var err error
	kept := 0 // where the octets begin that are still to be passed on
	flush := func(end int) {
		if err == nil && end > kept {
			_, err = c.out.Write(head[kept:end])
		}
	}
	own := append(c.judge.Own[:len(c.judge.Own):len(c.judge.Own)], c.judge.ID)
	fields(head, func(from, to int) {
		if f, ok := fieldOf(head[from:to]); ok && Forged(f, own...) {
			flush(from)
			kept = to
			c.results.Removed++
		}
	})
	flush(len(head))
	return err
}

// judgeHeader reads the header and begins what needs it.
func (c *Check) judgeHeader(head []byte) error {
	h, err := mail.ReadHeader(bufio.NewReaderSize(bytes.NewReader(head), len(head)))
	switch {
	case errors.Is(err, mail.ErrHeaderTooLarge):
		return err
	case err != nil:
		c.results.Malformed = err
		if c.results.Judged {
			c.failDKIM(dkim.PermError, err)
			c.failARC(arc.Fail, err)
		}
		return nil
	case !c.results.Judged:
		return nil
	}
	for _, f := range h.All("From") {
		c.from = append(c.from, f.Value())
	}
	c.spend(func(ctx context.Context) {
		var both sync.WaitGroup
		if c.results.ARC.Status = arc.None; hasChain(h) {
			both.Go(func() {
				if !c.guard("arc", func() { c.arc = arc.Verifier{Resolver: resolver{c}}.Start(ctx, h) }) {
					c.failARC(arc.TempError, errFault)
				}
			})
		}
		if !c.guard("dkim", func() { c.dkim = dkim.Verifier{Resolver: resolver{c}}.Start(ctx, h) }) {
			c.failDKIM(dkim.TempError, errFault)
		}
		both.Wait()
	})
	return nil
}

// hasChain reports whether there is a field of a chain, whole or not. Most messages have
// none.
func hasChain(h mail.Header) bool {
	return slices.ContainsFunc(h, func(f mail.Field) bool {
		return f.Is(arc.SealField) || f.Is(arc.SignatureField) || f.Is(arc.ResultsField)
	})
}

// failDKIM gives up on the signatures.
func (c *Check) failDKIM(result dkim.Result, err error) {
	c.dkim = nil
	c.results.DKIM = []dkim.Signature{{Result: result, Err: err, Reason: reason(err)}}
}

// failARC gives up on the chain.
func (c *Check) failARC(status arc.Status, err error) {
	c.arc = nil
	c.results.ARC = arc.Chain{Status: status, Err: err, Reason: reason(err)}
}

// reason tells people of an error without the words of strangers.
func reason(err error) string {
	if errors.Is(err, mail.ErrHeaderMalformed) {
		return mail.ErrHeaderMalformed.Error()
	}
	return errFault.Error()
}

// Finish ends the message and judges it. The error is that of out, or
// mail.ErrHeaderTooLarge.
func (c *Check) Finish() (Results, error) {
	if !c.inBody { // a header alone
		if err := c.begin(c.header.held); err != nil {
			return Results{}, err
		}
	}
	if c.results.Judged {
		c.judgeMessage()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.results.Faults = c.faults
	return c.results, nil
}

func (c *Check) judgeMessage() {
	if c.dkim != nil && !c.guard("dkim", func() { c.results.DKIM = c.dkim.Finish() }) {
		c.failDKIM(dkim.TempError, errFault)
	}
	if c.arc != nil && !c.guard("arc", func() { c.results.ARC = c.arc.Finish() }) {
		c.failARC(arc.TempError, errFault)
	}
	for _, s := range c.results.DKIM {
		c.tell("dkim", s.Err)
	}
	c.tell("arc", c.results.ARC.Err)
	c.spend(func(context.Context) { // they have their own end
		c.results.SPF = <-c.spf
		if c.helo != nil {
			c.results.Helo = <-c.helo
		}
	})
	c.judgeDMARC()
}

func (c *Check) judgeDMARC() {
	r := &c.results
	if r.Malformed != nil {
		r.DMARC = dmarc.Verdict{Result: dmarc.PermError, Reason: reason(r.Malformed), Err: fmt.Errorf("%w: %w", dmarc.ErrAuthor, r.Malformed)}
		return
	}
	m := dmarc.Message{From: c.from, SPF: dmarc.Identifier{Method: dmarc.MethodSPF, Result: string(r.SPF.Result), Domain: r.SPF.Domain}}
	for _, s := range r.DKIM {
		m.DKIM = append(m.DKIM, dmarc.Identifier{Method: dmarc.MethodDKIM, Result: string(s.Result), Domain: s.Domain.String(), Selector: s.Selector})
	}
	c.spend(func(ctx context.Context) {
		if !c.guard("dmarc", func() { r.DMARC = dmarc.Evaluate(ctx, resolver{c}, m) }) {
			r.DMARC = dmarc.Verdict{Result: dmarc.TempError, Reason: errFault.Error(), Err: errFault}
		}
	})
}
