package edge

import (
	"context"
	"net/netip"
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
	Host         dns.Name // of ours
	EnvelopeFrom string   // without angle brackets; "" is the null sender
	Recipients   []mail.Address
	Helo         string   // as the client said it
	HeaderFrom   dns.Name // the author's domain; zero where there is none
	Results      mailauth.Results
}

func (s *session) observation(now time.Time, r mailauth.Results) Observation {
	return Observation{
		Time: now, Client: s.client, Host: s.host.name,
		EnvelopeFrom: s.env.From.String(), Recipients: addresses(s.env.Recipients),
		Helo: s.hello.Name, HeaderFrom: r.DMARC.Author, Results: r,
	}
}

func addresses(recipients []mail.Recipient) []mail.Address {
	all := make([]mail.Address, len(recipients))
	for i, r := range recipients {
		all[i] = r.Address
	}
	return all
}
