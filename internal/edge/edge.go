// Package edge is the policy of the SMTP sessions at our MX hosts (RFC 5321 §2.3.10
// gateway, §3.6.2 no relaying, §4.4 trace information, §4.5.1 postmaster, §6.3 loops): it
// takes mail for the plan's domains and for nobody else, does what the rung's role says,
// judges each message by SPF, DKIM, ARC and DMARC and writes that above it (RFC 8601), hands
// what it took to the queue, and records who knocked, where, how far and when.
//
// Each recipient is judged in two steps: a session gathers Evidence, and Decide, which is
// pure, gives the Verdict.
//
// Not implemented: greylisting, DNSBLs, refusals for SPF, DKIM and DMARC, the use of what
// reputation has learnt, and call-outs for valid recipients.
package edge

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/text/unicode/norm"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth"
	"mxward/internal/queue"
	"mxward/internal/reputation"
	"mxward/internal/site"
	"mxward/internal/smtp"
)

// Queue is what the edge needs of the queue's store; a queue.Store is one.
type Queue interface {
	Enqueue(ctx context.Context, now time.Time, m queue.Message) error
	queue.Bodies
}

// ContactRecorder keeps contacts; a reputation.Store is one.
type ContactRecorder interface {
	Record(ctx context.Context, contacts []reputation.Contact) error
}

// Gate is the policy of all MX hosts of a plan that run in this process. Its fields are
// not changed once Host was called.
type Gate struct {
	Plan     *site.Plan
	Queue    Queue
	Wake     func()          // called after each message that was taken; may be nil
	Contacts ContactRecorder // nil: contacts are not kept
	Resolver dns.Resolver    // for the client's name in Received and the judgement of messages; nil: neither
	Observer Observer        // told of what was taken; may be nil
	Logger   *slog.Logger    // nil: slog.Default

	once     sync.Once
	domains  map[dns.Name]*domain
	log      *events
	recorder *recorder
	names    namer
	judge    mailauth.Judge
}

// domain is one of the plan's domains, indexed.
type domain struct {
	site.Domain
	valid   map[string]bool // canonical local parts; nil where the target knows
	accepts site.Role       // the best role on the ladder that takes mail
}

// prepare indexes the plan.
func (g *Gate) prepare() {
	g.once.Do(func() {
		logger := g.Logger
		if logger == nil {
			logger = slog.Default()
		}
		g.log = &events{logger: logger}
		g.names.resolver, g.names.log = g.Resolver, g.log
		g.judge = mailauth.Judge{Resolver: g.Resolver, ID: g.Plan.AuthservID, Own: []dns.Name{g.Plan.Name}}
		if g.judge.ID.IsZero() {
			g.judge.ID = g.Plan.Name
		}
		for _, h := range g.Plan.Hosts {
			g.judge.Own = append(g.judge.Own, h.Name)
		}
		g.recorder = newRecorder(g.Contacts, g.log)
		g.domains = make(map[dns.Name]*domain, len(g.Plan.Domains))
		for _, d := range g.Plan.Domains {
			g.domains[d.Name] = index(d)
		}
	})
}

func index(d site.Domain) *domain {
	indexed := &domain{Domain: d, accepts: site.Backup}
	for _, r := range d.Ladder {
		if r.Role == site.Gate {
			indexed.accepts = site.Gate
		}
	}
	if len(d.Recipients) > 0 {
		indexed.valid = make(map[string]bool, len(d.Recipients))
		for _, a := range d.Recipients {
			indexed.valid[canonical(a.Local)] = true
		}
	}
	return indexed
}

// canonical gives the form in which local parts are compared. RFC 5321 §2.4 leaves their
// case to the host that knows them, and for a list of recipients that is us: no site has
// two people who differ by case alone. UTF-8 is compared in the form that RFC 6532 §3.1
// recommends.
func canonical(local string) string { return strings.ToLower(norm.NFC.String(local)) }

// Close keeps the contacts that are not yet kept and ends their recording. It is called
// after the SMTP servers have ended; contacts that come later are dropped.
func (g *Gate) Close() error {
	g.prepare()
	return g.recorder.close()
}

// Dropped tells how many contacts were lost to overload or to a failing store.
func (g *Gate) Dropped() uint64 {
	g.prepare()
	return g.recorder.dropped.Load()
}

// Host gives the policy of one MX host of the plan.
func (g *Gate) Host(name dns.Name) smtp.Handler {
	g.prepare()
	h := &host{gate: g, name: name, roles: map[dns.Name]site.Role{}, trap: true}
	for _, candidate := range g.Plan.Hosts {
		if candidate.Name == name {
			h.addrs, h.drain = candidate.Addresses, candidate.Drain
		}
	}
	for _, d := range g.Plan.Domains {
		for _, r := range d.Ladder {
			if r.Host != name {
				continue
			}
			h.roles[d.Name] = r.Role
			takes := takesMail(r.Role)
			if h.postmaster.IsZero() || takes && h.trap {
				h.postmaster = d.Name
			}
			h.trap = h.trap && !takes
		}
	}
	if len(h.roles) == 0 { // on no ladder: it will be, or it was
		h.trap = false
		if len(g.Plan.Domains) > 0 {
			h.postmaster = g.Plan.Domains[0].Name
		}
	}
	return h
}

func takesMail(r site.Role) bool { return r == site.Gate || r == site.Backup }

// Ladder gives a domain's ladder as the judgement of order wants it.
func Ladder(d site.Domain) []reputation.Rung {
	rungs := make([]reputation.Rung, len(d.Ladder))
	for i, r := range d.Ladder {
		rungs[i] = reputation.Rung{Preference: r.Preference, Host: r.Host, Decoy: !takesMail(r.Role)}
	}
	return rungs
}

// host is the policy of one MX host.
type host struct {
	gate       *Gate
	name       dns.Name
	addrs      []netip.Addr
	roles      map[dns.Name]site.Role // by domain
	trap       bool                   // it takes no mail for any domain
	drain      bool                   // it takes no mail for now
	postmaster dns.Name               // whose postmaster answers for the host
}

// NewSession implements smtp.Handler.
func (h *host) NewSession(ctx context.Context, c smtp.Conn) (smtp.Session, smtp.Greeting) {
	s := &session{host: h, conn: c, client: c.Remote.Addr().Unmap().WithZone("")}
	h.gate.log.connected(s)
	// The server says its name first (RFC 5321 §4.3.1). No enhanced code: RFC 2034 §4.
	greeting := smtp.Greeting{Reply: mail.Reply{Code: 220, Text: "mxward"}}
	switch {
	case h.drain:
		// The client's next step is the next host, where its knock here excuses it.
		greeting.Reply = mail.Reply{Code: 421, Text: h.name.String() + " takes no mail for now; try the next MX host, or come back later"}
	case h.trap:
		greeting.Pace, greeting.Soft = h.gate.Plan.SMTP.TrapPace, true
	}
	return s, greeting
}

// Refused implements smtp.Refuser: a client that found no room has knocked all the same.
func (h *host) Refused(c smtp.Conn) {
	s := &session{host: h, conn: c, client: c.Remote.Addr().Unmap().WithZone("")}
	h.gate.recorder.put(s.contact(mail.StageConnect))
}

// evidence gathers what Decide wants to know of a recipient; local is the address that the
// client has reached.
func (h *host) evidence(a mail.Address, local netip.Addr) Evidence {
	e := Evidence{Recipient: h.resolve(a, local), Soft: h.trap}
	d, ok := h.gate.domains[e.Recipient.Domain]
	if !ok {
		return e
	}
	e.Ours, e.Role = true, h.role(d)
	switch {
	case d.valid == nil:
		e.Mailbox = Unknown
	case d.valid[canonical(e.Recipient.Local)]:
		e.Mailbox = Listed
	default:
		e.Mailbox = NotListed
	}
	return e
}

// resolve gives the domain whose postmaster is meant to the two addresses of a postmaster
// that name none: the bare one, and the one at an address of this host.
func (h *host) resolve(a mail.Address, local netip.Addr) mail.Address {
	bare := a.Domain.IsZero() && !a.Literal.IsValid()
	literal := a.Literal.Unmap()
	here := literal.IsValid() && (literal == local.Unmap() || slices.Contains(h.addrs, literal))
	if a.IsPostmaster() && (bare || here) && !h.postmaster.IsZero() { // RFC 5321 §4.5.1
		return mail.Address{Local: a.Local, Domain: h.postmaster}
	}
	return a
}

// role gives what this host does for a domain of ours. It may stand on none of the
// domain's rungs, for clients keep old MX records; then a host that takes mail at all
// takes this, too, as the domain's own rungs would.
func (h *host) role(d *domain) site.Role {
	if role, ok := h.roles[d.Name]; ok {
		return role
	}
	if h.trap {
		return site.Trap
	}
	return d.accepts
}
