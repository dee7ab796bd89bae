package edge

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth"
)

// Observer is told of each message that was taken, when it is on stable storage. It must
// be quick: the client waits for its 250 meanwhile.
type Observer interface {
	Observe(ctx context.Context, o Observation)
}

// Observation is a message that was taken, as reports about it need it (RFC 9990).
type Observation struct {
	Time         time.Time
	Client       netip.Addr
	Host         dns.Name   // of ours
	EnvelopeFrom string     // without angle brackets; "" is the null sender
	Recipients   []dns.Name // their domains, each once; one without a domain is left out
	Helo         string     // as the client said it
	HeaderFrom   dns.Name   // the author's domain; zero where there is none
	Results      mailauth.Results
}

func (s *session) observation(now time.Time, r mailauth.Results) Observation {
	return Observation{
		Time: now, Client: s.client, Host: s.host.name,
		EnvelopeFrom: s.env.From.String(), Recipients: domains(s.env.Recipients),
		Helo: s.hello.Name, HeaderFrom: r.DMARC.Author, Results: r,
	}
}

func domains(recipients []mail.Recipient) []dns.Name {
	var names []dns.Name
	for _, r := range recipients {
		if d := r.Address.Domain; !d.IsZero() && !slices.Contains(names, d) {
			names = append(names, d)
		}
	}
	return names
}
