// Package site is the plan of a mail site: one TOML file that says which hosts there are,
// which domains, what each rung of a domain's MX ladder does, and where accepted mail goes
// (RFC 5321 §5.1 for the ladder). Everything else follows from it.
//
// Parse is strict: what it does not know, and what cannot work, is an error with file and
// line, and all errors come at once.
package site

import (
	"net/netip"
	"slices"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/mtasts"
)

// Plan is a valid plan. What a user may leave out has its default filled in.
type Plan struct {
	File string // where it was read, for messages

	Name       dns.Name // this site's name for HELO and Received, [site] name
	AuthservID dns.Name // of our Authentication-Results, [site] authserv-id; zero is Name

	Store string // the store's URL, [site] store: sqlite:PATH or postgres://…

	Hosts    []Host
	Domains  []Domain
	MTASTS   MTASTS
	SMTP     SMTP
	DNS      DNS
	Resolver Resolver
	Reports  Reports
	Metrics  Metrics
	Watch    Watch
	Accounts []Account // with which certificates are asked for

	hosts, domains map[dns.Name]int // where they are; nil in a plan that was not parsed
}

// Host is a [[host]]: a machine that MX records may name.
//
// Listen is complete: a host that only refuses, or is an alias, has nothing in it. Like the
// other Listens of a plan it takes 0.0.0.0 for all of IPv4 and :: for all of IPv6, each
// without the other ("tcp4" and "tcp6" of package net), so that a plan may have both.
type Host struct {
	Name      dns.Name
	Addresses []netip.Addr     // as the world sees them
	Listen    []netip.AddrPort // where the SMTP listener binds (see below); default Addresses, port 25
	Cert, Key string           // PEM files; "" makes a self-signed certificate
	Drain     bool             // greets everybody with 421, for maintenance
	Alias     dns.Name         // this name is a CNAME for another; zero for a real host
}

// Domain is a [[domain]]: a domain that we take mail for.
type Domain struct {
	Name       dns.Name
	Ladder     []Rung         // by preference, best first
	Deliver    Target         // where accepted mail goes
	Recipients []mail.Address // the only valid recipients; empty: the target knows

	MTASTS       mtasts.Mode   // of its policy, [[domain]] mta-sts; "": it has none
	MTASTSMaxAge time.Duration // of the policy, whole seconds, default two weeks

	Flattened []Flattened // what stands in its SPF record in place of includes
}

// Policy gives the domain's MTA-STS policy; false where it has none. It covers every host of
// the ladder, whatever its role: a sender that meets a host outside of the policy passes it
// over and reports that as a fault (RFC 8461 §4.1), and what a host does may change before the
// senders' copies of the policy have expired.
func (d Domain) Policy() (mtasts.Policy, bool) {
	p := mtasts.Policy{Mode: d.MTASTS, MaxAge: d.MTASTSMaxAge}
	for _, r := range d.Ladder {
		if m := (mtasts.Pattern{Name: r.Host}); !slices.Contains(p.MX, m) {
			p.MX = append(p.MX, m)
		}
	}
	return p, d.MTASTS != ""
}

// Rung is a [[domain.mx]]: one MX record and what its host does for this domain.
type Rung struct {
	Preference uint16
	Host       dns.Name
	Role       Role
}

// Role is what a rung does.
type Role string

// The roles.
const (
	Gate   Role = "gate"   // accepts
	Backup Role = "backup" // accepts, and delivers to better rungs
	Trap   Role = "trap"   // talks slowly, 451 after RCPT; never accepts, never 5yz
	Refuse Role = "refuse" // a decoy: nobody listens, attempts are observed
)

// Scheme is how accepted mail goes on.
type Scheme string

// The schemes of a Target.
const (
	ToSMTP    Scheme = "smtp"    // smtp://host[:port], default port 25
	ToLMTP    Scheme = "lmtp"    // lmtp://host[:port], default port 24; lmtp:/path/of/socket
	ToMaildir Scheme = "maildir" // maildir:/path: one Maildir for each recipient below it
	ToMX      Scheme = "mx"      // mx: — by the domain's MX records
)

// Target is where accepted mail goes.
type Target struct {
	Scheme Scheme
	Host   string // smtp, lmtp: a name or an address
	Port   uint16
	Path   string // lmtp by socket, maildir
}

// MTASTS is [mta-sts]: where the policies of the domains are served.
type MTASTS struct {
	Listen    []netip.AddrPort
	Cert, Key string // PEM files; "" serves plain HTTP on loopback, for a reverse proxy
}

// SMTP is [smtp]: limits and habits of the listeners.
type SMTP struct {
	MaxSize       int64         // octets of a message, default 50 MiB
	MaxRecipients int           // of a message, default 100 (RFC 5321 §4.5.3.1.8 wants at least that)
	MaxSessions   int           // at once, default 5,000
	MaxPerClient  int           // sessions at once of one address, default 50
	TrapPace      time.Duration // the pause before each octet at a trap, default 1 s
}

// DNS is [dns]: the public name server.
type DNS struct {
	Listen []netip.AddrPort
	Zones  []Zone
}

// Zone is a [[dns.zone]].
type Zone struct {
	Name dns.Name
	File string // in master-file format, relative to the plan's folder
}

// Resolver is [resolver]: the iterative resolver that mxward itself uses, and that it
// offers on Listen.
type Resolver struct {
	Listen    []netip.AddrPort // loopback addresses only
	RootHints string           // a file like named.root; "" for the built-in list

	CacheSize int64         // octets of memory for the cache, default 64 MiB
	StaleFor  time.Duration // how long what has expired serves where the DNS cannot be asked, default 24 h; 0: not at all

	Validate             bool       // by DNSSEC, default true
	TrustAnchors         []string   // as dnssec.ParseAnchor reads them; empty: the root's
	NegativeTrustAnchors []dns.Name // zones that are believed though their signatures are broken

	RebindProtection bool       // no private addresses from the world, default false
	PrivateZones     []dns.Name // except of these

	Stubs    []Stub
	Forwards []Forward
	Local    []Local
}

// Stub is a [[resolver.stub]]: a zone whose authoritative servers are asked directly.
type Stub struct {
	Name    dns.Name
	Servers []netip.AddrPort
}

// Forward is a [[resolver.forward]]: a zone, Root for all names, that recursive resolvers
// are asked about.
type Forward struct {
	Name    dns.Name
	Servers []netip.AddrPort
	TLS     TLS
}

// TLS says whether a Forward's servers are asked over TLS, and for which name their
// certificates must be; without a name, for their addresses.
type TLS struct {
	On   bool
	Name dns.Name
}

// Local is a [[resolver.local]]: what the resolver itself says about a name.
type Local struct {
	Name      dns.Name
	Addresses []netip.Addr
	Records   []string // as dns.ParseRecord reads them
}

// Reports is [reports]: the reports of DMARC and TLS, sent and received. Without From none is
// sent, and nothing is counted for any.
type Reports struct {
	From         mail.Address
	Org          string // a name for people; "" for From's domain
	Contact      string
	DKIMSelector string
	DKIMKey      string         // PEM file
	Receive      []mail.Address // at domains of the plan
}

// Metrics is [metrics]: what Prometheus reads. Without Listen, nobody can.
type Metrics struct {
	Listen netip.AddrPort
}
