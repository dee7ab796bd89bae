package audit

import (
	"net/netip"
	"slices"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/dmarc"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/mailauth/spf"
	"mxward/internal/mailauth/tlsa"
)

// Facts is all that was found out about a domain. Whatever could not be had has its error
// in its place.
type Facts struct {
	Domain    dns.Name
	Selectors []string
	When      time.Time
	Server    netip.AddrPort // the resolver's; zero where it asks from the root down
	Lab       bool           // servers may be on this host
	Log       []Exchange     // all that was asked, by name, type and server
	Packets   int            // sent for this domain
	Brief     bool           // findings come without their evidence
	// Unfinished is a domain that was left: see Auditor.Hasty. Nothing can be judged by its facts.
	Unfinished bool

	Control Control
	Zone    Zone
	// Direct is what the zone's own servers say to questions that the resolver failed at.
	Direct map[dns.Question][]Heard

	MX      Fact[dns.MX]
	Own     Host // the addresses of the domain itself
	Hosts   []Host
	Reverse []Reverse
	TXT     Fact[string]
	SMTP    *SMTP // nil where no host was visited

	SPF    *spf.Tree
	DMARC  dmarc.Report
	DKIM   []Selector
	MTASTS *mtasts.Survey // nil where it was not asked for
	TLSRPT Fact[string]
	DANE   *tlsa.Survey
	BIMI   Fact[string]
	CAA    CAA

	Lists      Lists
	Programs   Programs
	Challenges []Challenge
	Names      Names
	// What is asked behind the first answers (gather_more.go).
	HostTXT   map[dns.Name]Fact[string] // of MX hosts in the domain's zone
	HostCAA   []CAA                     // of those, and of the policy host
	OldSPF    Fact[string]              // of SPF's own type
	BelowDKIM Fact[string]              // at _domainkey: whether there can be keys
	Others    map[dns.Name]Zone         // where names that do not exist would be registered
	Senders   []Sender                  // of those that were named
	Transfers map[netip.Addr]Heard      // how a transfer of the zone begins, by the servers that serve it
	Permitted map[netip.Addr]spf.Result // what SPF says of the MX hosts' addresses

	Origins      map[netip.Addr]Fact[uint32] // autonomous systems of the name servers; nil where nobody was asked
	Registration *Registration               // nil where nobody was asked
	Plan         *Planned                    // nil without a plan
	Shown        *Shown                      // nil where no message of the domain was shown

	common  []Exchange        // what was asked for many domains
	surveys map[string]survey // of one judgment
}

// Fact is one typed answer, or why there is none.
type Fact[T any] struct {
	dns.Set[T]
	Err error
}

// fact takes what a typed lookup gives.
func fact[T any](set dns.Set[T], err error) Fact[T] { return Fact[T]{set, err} }

// firstTarget gives what the alias at the name itself says, which others may follow.
func (f Fact[T]) firstTarget() dns.Name {
	if len(f.Aliases) > 1 {
		return f.Aliases[1]
	}
	return f.Canonical
}

// Control is what is known of our own side, by questions whose answers are the same for
// everybody.
type Control struct {
	Resolver Fact[dns.Name] // the root's servers, as the resolver gives them
	Took     time.Duration
	NoSuch   Fact[netip.Addr] // of a top-level name that nobody has
	Signed   Heard            // the root's SOA with signatures, as the resolver gives it
	TCP      *Heard           // the resolver itself over TCP; nil where it has no address
	Roots    []Heard          // the root's SOA with signatures from root servers themselves
	OverTCP  []Heard          // the same over TCP
	Forged   *Forged          // nil where no such name is known
}

// Heard is what one server says to one question, or why nothing was heard.
type Heard struct {
	Server netip.AddrPort
	Said   dns.Said
	Err    error
}

// serves reports whether the answer is one of the zone's data.
func (h Heard) serves() bool {
	return h.Err == nil && h.Said.Authoritative && (h.Said.Rcode == dns.NoError || h.Said.Rcode == dns.NXDomain)
}

// Zone is the zone that the domain is in, how its parent delegates it, and its servers, each
// by itself.
type Zone struct {
	Name   dns.Name // zero where the way to it ended above
	Parent dns.Name // the zone above, or where the way ended
	// Absent: the servers of Parent say that the domain does not exist.
	Absent bool
	// Err is why the way ended: no server of Parent answered.
	Err       error
	Parents   []Heard // what the parent's servers said
	Referral  dns.Referral
	Names     []NameServer
	Servers   []Server
	Keys      Fact[dns.Key] // by a server of its own
	Signed    Heard         // the SOA with its signatures, by the same
	Undivided bool          // one server has both zones, and so no referral was seen
	// Of a zone with keys, by the server that gave them.
	Hashing Fact[dns.Hashing]
	CDS     Fact[dns.DS]
	CDNSKEY Fact[dns.Key]
}

// NameServer is one name in an NS record.
type NameServer struct {
	Name              dns.Name
	AtParent, AtChild bool
	Addrs             Fact[netip.Addr]
}

// Server is one address of a name server.
type Server struct {
	Name             dns.Name
	Addr             netip.Addr
	SOA, NS, MX, TXT Heard // over UDP
	TCP              Heard // the SOA over TCP
	Unasked          bool  // its address is not one to send questions to
}

// Host is a host that takes mail.
type Host struct {
	Name       dns.Name
	Preference uint16
	A, AAAA    Fact[netip.Addr]
}

// addrs gives those of both families.
func (h Host) addrs() []netip.Addr { return slices.Concat(h.A.Records, h.AAAA.Records) }

// err gives the trouble with either family.
func (h Host) err() error {
	if h.A.Err != nil {
		return h.A.Err
	}
	return h.AAAA.Err
}

// Reverse is what the DNS says of an MX host's address.
type Reverse struct {
	Host  dns.Name
	Addr  netip.Addr
	PTR   Fact[dns.Name]
	Names []Host // of PTR, as many as are looked at, with their addresses
}

// Selector is one DKIM selector that was named, or that the domain's provider uses.
type Selector struct {
	Name    string
	At      dns.Name // whose key it is: the domain's, or that of a signature in its name
	Survey  dkim.Survey
	Err     error // it makes no name
	Guessed bool  // nobody named it
}

// CAA is the set that holds for a name (RFC 8659 §3).
type CAA struct {
	Fact[dns.CAA]
	Host dns.Name // the name
	At   dns.Name // where it was found, or where asking failed
}
