package tape

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/probe"
)

// Tape is one that was read.
type Tape struct {
	Header  Header
	Domains []dns.Name // whose audits it has, in their order
	Torn    bool       // its last line is not whole

	starts map[dns.Name]startLine
	ended  map[dns.Name]bool
	probes *audit.Probes

	mu    sync.Mutex
	lines map[key]*turns
}

// key is what was asked, and for which domain.
type key struct {
	domain     dns.Name
	kind, what string
}

// turns are the answers to what was asked more than once.
type turns struct {
	domain dns.Name
	all    []any
	next   int
}

// Read reads a tape. A last line that was cut short is left out, since whoever wrote it had to
// stop; anything else that cannot be read is an error.
func Read(r io.Reader) (*Tape, error) {
	t := &Tape{starts: map[dns.Name]startLine{}, ended: map[dns.Name]bool{}, probes: &audit.Probes{}, lines: map[key]*turns{}}
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine+1)
	in.Split(wholeLines)
	n, size := 0, 0
	for in.Scan() {
		line := in.Bytes()
		n, size = n+1, size+len(line)
		var err error
		switch torn := line[len(line)-1] != '\n' && !json.Valid(line); {
		case size > maxFile:
			err = fmt.Errorf("a recording has at most %d octets: name fewer domains", maxFile)
		case n == 1:
			err = t.header(line)
		case torn:
			t.Torn = true
		default:
			err = t.line(line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, damaged(err))
		}
	}
	switch err := in.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("line %d: it has more than %d octets", n+1, maxLine)
	case err != nil:
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	case n == 0:
		return nil, errors.New("it is empty")
	case len(t.Domains) == 0:
		return nil, errors.New("it has a header, and nothing was heard")
	}
	return t, nil
}

// wholeLines gives lines with their ends, so that one without is seen.
func wholeLines(data []byte, atEOF bool) (advance int, line []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i+1], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

func (t *Tape) header(line []byte) error {
	var which struct {
		Schema  string `json:"schema"`
		Version string `json:"version"`
	}
	if err := json.Unmarshal(line, &which); err != nil || which.Schema == "" {
		return fmt.Errorf("expected a recording by mxward check --record, whose first line has \"schema\":%q", Schema)
	}
	if which.Schema != Schema {
		return fmt.Errorf("its schema is %.40q, and this version reads %q; the mxward that recorded it is %.40q", which.Schema, Schema, which.Version)
	}
	if err := json.Unmarshal(line, &t.Header); err != nil {
		return err
	}
	if n := len(t.Header.Asked.Selectors); n > audit.MaxSelectors {
		return fmt.Errorf("at most %d selectors are looked at, got %d", audit.MaxSelectors, n)
	}
	return nil
}

// line takes in one line that is not the first.
func (t *Tape) line(text []byte) error {
	var h head
	if err := json.Unmarshal(text, &h); err != nil {
		return err
	}
	switch h.Kind {
	case kindDomain:
		return t.start(text)
	case kindEnd:
		t.ended[h.Domain] = true
	case kindQuestion:
		return take(t, text, heardOf)
	case kindVisit:
		return take(t, text, func(l visitLine) (string, probe.Session, error) { return l.Address.String(), l.Session, nil })
	case kindKnock:
		return take(t, text, func(l knockLine) (string, probe.Step, error) { return l.Address.String(), l.Step, nil })
	case kindCertificate:
		return take(t, text, leafOf)
	case kindWeb:
		return take(t, text, pageOf)
	case kindRegistration:
		return take(t, text, func(l registrationLine) (string, registration, error) {
			told, err := l.Error.err()
			return l.Name.FQDN(), registration{l.Ends, told}, err
		})
	}
	return nil
}

func (t *Tape) start(text []byte) error {
	var l startLine
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	if _, err := dns.ParseName(l.NoSuch); err != nil {
		return fmt.Errorf("no_such: %w", err)
	}
	if _, again := t.starts[l.Domain]; again {
		return fmt.Errorf("%s begins twice", l.Domain)
	}
	t.starts[l.Domain] = l
	t.Domains = append(t.Domains, l.Domain)
	return nil
}

// take keeps what a line says by what was asked: for its domain, and for those that were not asked
// for it themselves, since another had.
func take[Line interface{ of() head }, Heard any](t *Tape, text []byte, read func(Line) (string, Heard, error)) error {
	var l Line
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	what, heard, err := read(l)
	if err != nil {
		return err
	}
	h := l.of()
	for _, k := range []key{{h.Domain, h.Kind, what}, {dns.Name{}, h.Kind, what}} {
		if t.lines[k] == nil {
			t.lines[k] = &turns{domain: h.Domain}
		}
		if one := t.lines[k]; one.domain == h.Domain {
			one.all = append(one.all, heard)
		}
	}
	return nil
}

// find gives what was heard: in turn where it was asked more than once, and the last for ever.
func find[Heard any](r *replaying, kind, what string) (heard Heard, ok bool) {
	t := r.tape
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.lines[key{r.domain, kind, what}]
	if of == nil {
		of = t.lines[key{dns.Name{}, kind, what}]
	}
	if of == nil {
		return heard, false
	}
	heard, ok = of.all[of.next].(Heard)
	of.next = min(of.next+1, len(of.all)-1)
	return heard, ok
}

// Whole reports whether the audit of a domain was taken down to its end.
func (t *Tape) Whole(domain dns.Name) bool { return t.ended[domain] }

// Auditor gives one that asks nobody: what it hears is on the tape. The plan and the message are
// not.
func (t *Tape) Auditor(domain dns.Name) *audit.Auditor {
	asked, start := t.Header.Asked, t.starts[domain]
	played := &replaying{t, domain}
	a := &audit.Auditor{
		Resolver: played, Server: asked.Server, Roots: asked.Roots, Bogus: asked.Bogus, Selectors: asked.Selectors, Senders: asked.Senders,
		Lists: asked.lists(), Origins: audit.Origins{V4: asked.OriginsV4, V6: asked.OriginsV6}, Controls: asked.Controls,
		AllowLoopback: asked.Loopback, Probes: t.probes, Now: start.When, NoSuch: start.NoSuch,
	}
	if asked.Direct {
		a.Asker = played
	}
	if asked.SMTP {
		a.SMTP = played
	}
	if asked.Certificates {
		a.Certs = played
	}
	if asked.Registry {
		a.Registry = played.ends
	}
	if asked.MTASTS {
		a.MTASTS = &mtasts.Fetcher{AllowLoopback: asked.Loopback, Wrap: func(http.RoundTripper) http.RoundTripper { return played }}
	}
	if asked.Autoconfig {
		a.Web = &audit.WebLook{Wrap: func(http.RoundTripper) http.RoundTripper { return played }}
	}
	return a
}

// replaying answers what the audit of one domain asks.
type replaying struct {
	tape   *Tape
	domain dns.Name
}

// answered is what came of a question.
type answered struct {
	said dns.Said
	at   audit.Times
	err  error
}

func heardOf(l questionLine) (string, answered, error) {
	if _, err := l.Question.question(); err != nil {
		return "", answered{}, err
	}
	heard := answered{at: audit.Times{Began: l.Began, Took: l.Took}}
	var err error
	switch {
	case (l.Said == nil) == (l.Error == nil):
		err = errors.New("expected said or error, and one of them")
	case l.Said != nil:
		heard.said, err = l.Said.said()
	default:
		heard.err, err = l.Error.err()
	}
	return questionKey(l.Question, l.Server, l.Network), heard, err
}

func (r *replaying) heard(server netip.AddrPort, network string, q dns.Question) answered {
	heard, ok := find[answered](r, kindQuestion, questionKey(questionOf(q), server, network))
	if !ok {
		return answered{at: audit.Times{Began: r.tape.starts[r.domain].When}, err: fmt.Errorf("ask for %s: %w", q, audit.ErrNotRecorded)}
	}
	return heard
}

// Resolve implements dns.Resolver.
func (r *replaying) Resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	answer, _, err := r.ResolveTimed(ctx, q)
	return answer, err
}

// ResolveTimed implements audit.TimedResolver.
func (r *replaying) ResolveTimed(_ context.Context, q dns.Question) (dns.Answer, audit.Times, error) {
	heard := r.heard(netip.AddrPort{}, "", q)
	return heard.said.Answer, heard.at, heard.err
}

// Ask implements audit.Asker.
func (r *replaying) Ask(ctx context.Context, server netip.AddrPort, network string, q dns.Question) (dns.Said, error) {
	said, _, err := r.AskTimed(ctx, server, network, q)
	return said, err
}

// AskTimed implements audit.TimedAsker.
func (r *replaying) AskTimed(_ context.Context, server netip.AddrPort, network string, q dns.Question) (dns.Said, audit.Times, error) {
	heard := r.heard(server, network, q)
	return heard.said, heard.at, heard.err
}

// Visits implements audit.Visitor.
func (r *replaying) Visits(_ context.Context, targets []probe.Target) []probe.Session {
	var sessions []probe.Session
	for _, t := range targets {
		s, ok := find[probe.Session](r, kindVisit, t.Addr.String())
		if !ok {
			s = probe.Session{Host: t.Host, Address: netip.AddrPortFrom(t.Addr, 25), Began: r.tape.starts[r.domain].When, Steps: []probe.Step{notVisited()}}
		}
		sessions = append(sessions, s)
	}
	return sessions
}

// Knock implements audit.Visitor.
func (r *replaying) Knock(_ context.Context, addr netip.Addr) probe.Step {
	step, ok := find[probe.Step](r, kindKnock, addr.String())
	if !ok {
		return notVisited()
	}
	return step
}

func notVisited() probe.Step {
	return probe.Step{Stage: mail.StageConnect, Lines: []string{}, Trouble: probe.Stopped, Error: audit.ErrNotRecorded.Error()}
}

// shown is the certificate of a server.
type shown struct {
	leaf *x509.Certificate
	err  error
}

func leafOf(l certificateLine) (string, shown, error) {
	var s shown
	var err error
	if l.Error != nil {
		s.err, err = l.Error.err()
	} else {
		s.leaf, err = x509.ParseCertificate(l.Leaf)
	}
	return certificateKey(l.Server, l.Name), s, err
}

// Leaf implements audit.CertSource.
func (r *replaying) Leaf(_ context.Context, at netip.AddrPort, name dns.Name) (*x509.Certificate, error) {
	s, ok := find[shown](r, kindCertificate, certificateKey(at, name))
	if !ok {
		return nil, fmt.Errorf("speak TLS with %s (%s): %w", name, at, audit.ErrNotRecorded)
	}
	return s.leaf, s.err
}

type registration struct {
	ends time.Time
	err  error
}

func (r *replaying) ends(_ context.Context, name dns.Name) (time.Time, error) {
	found, ok := find[registration](r, kindRegistration, name.FQDN())
	if !ok {
		return time.Time{}, fmt.Errorf("ask the registry for %s: %w", name, audit.ErrNotRecorded)
	}
	return found.ends, found.err
}

// page is what a web server said.
type page struct {
	status                int
	contentType, location string
	body                  []byte
	chain                 []*x509.Certificate
	secured               bool
	bodyErr, err          error
}

func pageOf(l webLine) (string, page, error) {
	p := page{status: l.Status, contentType: l.ContentType, location: l.Location, body: l.Body, secured: l.Chain != nil}
	var wrong, bodyWrong error
	p.err, wrong = l.Error.err()
	p.bodyErr, bodyWrong = l.BodyError.err()
	for _, der := range l.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return "", p, err
		}
		p.chain = append(p.chain, c)
	}
	return l.URL, p, errors.Join(wrong, bodyWrong)
}

// RoundTrip implements http.RoundTripper.
func (r *replaying) RoundTrip(request *http.Request) (*http.Response, error) {
	p, ok := find[page](r, kindWeb, request.URL.String())
	switch {
	case !ok:
		return nil, audit.ErrNotRecorded
	case p.err != nil:
		return nil, p.err
	}
	response := &http.Response{StatusCode: p.status, Header: http.Header{}, Body: bodyOf(bytes.Clone(p.body), p.bodyErr), Request: request}
	response.Header.Set("Content-Type", p.contentType)
	response.Header.Set("Location", p.location)
	if p.secured {
		response.TLS = &tls.ConnectionState{HandshakeComplete: true, PeerCertificates: p.chain}
	}
	return response, nil
}
