package audit

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"time"

	"mxward/internal/dns"
	"mxward/internal/probe"
)

// What is asked may come from a recording (package tape). Then the times are those of then, and
// what nobody asked then is not known now.

// ErrNotRecorded stands for what a recording does not have. It is nobody's fault.
var ErrNotRecorded = errors.New("it is not in the recording")

// Visitor visits mail hosts: a probe.Prober, or a recording of one.
type Visitor interface {
	// Visits gives one session for each target, in their order.
	Visits(ctx context.Context, targets []probe.Target) []probe.Session
	// Knock connects and says nothing.
	Knock(ctx context.Context, addr netip.Addr) probe.Step
}

// CertSource gets the certificate that a server shows, whatever it is: a CertLook, or a
// recording of one.
type CertSource interface {
	Leaf(ctx context.Context, at netip.AddrPort, name dns.Name) (*x509.Certificate, error)
}

// Times are when something was asked, and how long the answer took.
type Times struct {
	Began time.Time
	Took  time.Duration
}

// TimedResolver is a Resolver that says itself when it asked.
type TimedResolver interface {
	dns.Resolver
	ResolveTimed(ctx context.Context, q dns.Question) (dns.Answer, Times, error)
}

// TimedAsker is an Asker that says itself when it asked.
type TimedAsker interface {
	Asker
	AskTimed(ctx context.Context, server netip.AddrPort, network string, q dns.Question) (dns.Said, Times, error)
}

// Since gives the times of what began then and has come to its end.
func Since(began time.Time) Times { return Times{began, time.Since(began)} }

func resolve(ctx context.Context, r dns.Resolver, q dns.Question) (dns.Answer, Times, error) {
	if timed, ok := r.(TimedResolver); ok {
		return timed.ResolveTimed(ctx, q)
	}
	began := time.Now()
	answer, err := r.Resolve(ctx, q)
	return answer, Since(began), err
}

func ask(ctx context.Context, a Asker, server netip.AddrPort, network string, q dns.Question) (dns.Said, Times, error) {
	if timed, ok := a.(TimedAsker); ok {
		return timed.AskTimed(ctx, server, network, q)
	}
	began := time.Now()
	said, err := a.Ask(ctx, server, network, q)
	return said, Since(began), err
}
