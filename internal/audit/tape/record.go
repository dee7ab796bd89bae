package tape

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns"
	"mxward/internal/probe"
)

// Recorder takes down the audits of some domains. Each line is written as soon as it is known.
type Recorder struct {
	Header Header

	mu   sync.Mutex
	w    io.Writer
	size int
	lost error // the first of what could not be taken down
	err  error // of the file: after it nothing more is written
}

// Record begins a tape of what a asks about domains.
func Record(w io.Writer, a *audit.Auditor, domains []dns.Name, version string) (*Recorder, error) {
	r := &Recorder{w: w, Header: Header{Schema: Schema, Version: version, When: now(), Domains: none(domains), Asked: askedBy(a)}}
	r.put(r.Header)
	return r, r.Err()
}

// now is the time as it is read again.
func now() time.Time { return time.Now().UTC().Round(0) }

// Err says why the tape has not all that was heard, or gives nil.
func (r *Recorder) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return cmp.Or(r.err, r.lost)
}

func (r *Recorder) put(line any) {
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	err := out.Encode(line)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.err != nil:
		return
	case err != nil:
		r.lost = cmp.Or(r.lost, fmt.Errorf("write what was heard: %w", err))
		return
	case b.Len() > maxLine:
		r.lost = cmp.Or(r.lost, fmt.Errorf("an answer of %d octets: a line of a recording has at most %d", b.Len(), maxLine))
		return
	case r.size+b.Len() > maxFile:
		r.err = fmt.Errorf("a recording has at most %d octets: record fewer domains", maxFile)
	}
	if r.err != nil {
		return
	}
	n, err := r.w.Write(b.Bytes())
	r.size, r.err = r.size+n, err
}

// lose notes what could not be taken down. It will not be known when the rest is played.
func (r *Recorder) lose(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = cmp.Or(r.lost, err)
}

// Begin gives an auditor that asks as a does, for one domain, and is taken down; end ends that.
func (r *Recorder) Begin(a *audit.Auditor, domain dns.Name) (taped *audit.Auditor, end func()) {
	b := *a
	b.Now, b.NoSuch = now(), audit.NewNoSuch()
	r.put(startLine{head{kindDomain, domain}, b.Now, b.NoSuch})
	live := &recording{Recorder: r, live: a, domain: domain}
	b.Resolver = live
	if a.Asker != nil {
		b.Asker = live
	}
	if a.SMTP != nil {
		b.SMTP = live
	}
	if a.Certs != nil {
		b.Certs = live
	}
	if a.Registry != nil {
		b.Registry = live.ends
	}
	if a.MTASTS != nil {
		fetcher := *a.MTASTS
		fetcher.Wrap = func(next http.RoundTripper) http.RoundTripper { return recordedWeb{live, next} }
		b.MTASTS = &fetcher
	}
	if a.Web != nil {
		web := *a.Web
		web.Wrap = func(next http.RoundTripper) http.RoundTripper { return recordedWeb{live, next} }
		b.Web = &web
	}
	return &b, func() { r.put(head{kindEnd, domain}) }
}

// recording stands between the audit of one domain and what it asks.
type recording struct {
	*Recorder
	live   *audit.Auditor
	domain dns.Name
}

func (r *recording) head(kind string) head { return head{kind, r.domain} }

// Resolve implements dns.Resolver.
func (r *recording) Resolve(ctx context.Context, q dns.Question) (dns.Answer, error) {
	answer, _, err := r.ResolveTimed(ctx, q)
	return answer, err
}

// ResolveTimed implements audit.TimedResolver.
func (r *recording) ResolveTimed(ctx context.Context, q dns.Question) (dns.Answer, audit.Times, error) {
	began := time.Now()
	answer, err := r.live.Resolver.Resolve(ctx, q)
	at := audit.Since(began)
	r.question(questionLine{head: r.head(kindQuestion), Question: questionOf(q)}, at, dns.Said{Answer: answer}, err)
	return answer, at, err
}

// Ask implements audit.Asker.
func (r *recording) Ask(ctx context.Context, server netip.AddrPort, network string, q dns.Question) (dns.Said, error) {
	said, _, err := r.AskTimed(ctx, server, network, q)
	return said, err
}

// AskTimed implements audit.TimedAsker.
func (r *recording) AskTimed(ctx context.Context, server netip.AddrPort, network string, q dns.Question) (dns.Said, audit.Times, error) {
	began := time.Now()
	said, err := r.live.Asker.Ask(ctx, server, network, q)
	at := audit.Since(began)
	r.question(questionLine{head: r.head(kindQuestion), Question: questionOf(q), Server: server, Network: network}, at, said, err)
	return said, at, err
}

func (r *recording) question(line questionLine, at audit.Times, said dns.Said, err error) {
	line.Began, line.Took, line.Error = at.Began.UTC(), at.Took, faultOf(err)
	if err == nil {
		if line.Said, err = saidOf(said); err != nil {
			r.lose(fmt.Errorf("take down the answer to %s %s: %w", line.Question.Name, line.Question.Type, err))
			return
		}
	}
	r.put(line)
}

// Visits implements audit.Visitor.
func (r *recording) Visits(ctx context.Context, targets []probe.Target) []probe.Session {
	sessions := r.live.SMTP.Visits(ctx, targets)
	for i, s := range sessions {
		r.put(visitLine{r.head(kindVisit), targets[i].Addr, s})
	}
	return sessions
}

// Knock implements audit.Visitor.
func (r *recording) Knock(ctx context.Context, addr netip.Addr) probe.Step {
	step := r.live.SMTP.Knock(ctx, addr)
	r.put(knockLine{r.head(kindKnock), addr, step})
	return step
}

// Leaf implements audit.CertSource.
func (r *recording) Leaf(ctx context.Context, at netip.AddrPort, name dns.Name) (*x509.Certificate, error) {
	leaf, err := r.live.Certs.Leaf(ctx, at, name)
	line := certificateLine{head: r.head(kindCertificate), Server: at, Name: name, Error: faultOf(err)}
	if leaf != nil {
		line.Leaf = leaf.Raw
	}
	r.put(line)
	return leaf, err
}

func (r *recording) ends(ctx context.Context, name dns.Name) (time.Time, error) {
	ends, err := r.live.Registry(ctx, name)
	r.put(registrationLine{r.head(kindRegistration), name, ends, faultOf(err)})
	return ends, err
}

// recordedWeb takes down what a web server says.
type recordedWeb struct {
	*recording
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (w recordedWeb) RoundTrip(request *http.Request) (*http.Response, error) {
	line := webLine{head: w.head(kindWeb), URL: request.URL.String()}
	response, err := w.next.RoundTrip(request)
	if err != nil {
		line.Error = faultOf(err)
		w.put(line)
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	_ = response.Body.Close()
	line.Status, line.ContentType, line.Location = response.StatusCode, response.Header.Get("Content-Type"), response.Header.Get("Location")
	line.Body, line.BodyError = body, faultOf(err)
	if response.TLS != nil {
		line.Chain = [][]byte{}
		for _, c := range response.TLS.PeerCertificates {
			line.Chain = append(line.Chain, c.Raw)
		}
	}
	w.put(line)
	response.Body = bodyOf(body, err)
	return response, nil
}

// bodyOf is a body that ends with an error, if there is one.
func bodyOf(body []byte, err error) io.ReadCloser {
	if err == nil {
		err = io.EOF
	}
	return io.NopCloser(io.MultiReader(bytes.NewReader(body), broken{err}))
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }
