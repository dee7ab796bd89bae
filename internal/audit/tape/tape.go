// Package tape takes down what an audit hears from outside, and plays it again: so a report can
// be judged anew without the network, and a bug report becomes a test.
//
// A tape is NDJSON (docs/json.md says its keys): a header, then for each domain what came of each
// question and each visit, in the order in which it came, errors as well. It is nobody's standard.
// What comes from outside is taken down as it came, below all judgement; so a later version
// judges it by later rules. What nobody asked then is not known when it is played:
// audit.ErrNotRecorded, which is nobody's fault.
//
// Not recorded: the site plan and the message that an audit may compare with, whose owners keep
// them, and the packets of an iterative resolver, of which the end alone counts.
package tape

import (
	"encoding/json"
	"net/netip"
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns"
	"mxward/internal/dns/blocklist"
	"mxward/internal/probe"
)

// Schema is the name and version of the format.
const Schema = "mxward.tape/1"

// The limits of a tape, written and read; ours. The longest line is an answer over TCP whose
// octets are nearly all escaped.
const (
	maxLine = 4 << 20
	maxFile = 64 << 20
	maxBody = 64<<10 + 1 // one octet more than a policy may have (RFC 8461 §3.3)
)

// Header is the first line.
type Header struct {
	Schema  string     `json:"schema"`
	Version string     `json:"version"` // of mxward
	When    time.Time  `json:"when"`
	Domains []dns.Name `json:"domains"`
	Asked   Asked      `json:"asked"`
}

// Asked is what the audit was told to ask, and how.
type Asked struct {
	Server       netip.AddrPort   `json:"server"` // "" for from the root down
	Direct       bool             `json:"direct"` // servers themselves are asked too
	Roots        []netip.AddrPort `json:"roots"`
	Bogus        dns.Name         `json:"bogus"`
	Selectors    []string         `json:"selectors"`
	Senders      []netip.Addr     `json:"senders"`
	Lists        []dns.Name       `json:"lists"` // their zones
	OriginsV4    dns.Name         `json:"origins_v4"`
	OriginsV6    dns.Name         `json:"origins_v6"`
	Registry     bool             `json:"registry"`
	SMTP         bool             `json:"smtp"`
	Controls     []dns.Name       `json:"controls"`
	Certificates bool             `json:"certificates"`
	MTASTS       bool             `json:"mtasts"`
	Autoconfig   bool             `json:"autoconfig"` // its file; false in recordings of old
	Loopback     bool             `json:"loopback"`
	Plan         bool             `json:"plan"`    // it was compared with one, which is not here
	Message      bool             `json:"message"` // one was shown, which is not here
}

func askedBy(a *audit.Auditor) Asked {
	asked := Asked{
		Server: a.Server, Direct: a.Asker != nil, Roots: none(a.Roots), Bogus: a.Bogus, Selectors: none(a.Selectors), Senders: none(a.Senders),
		Lists: []dns.Name{}, OriginsV4: a.Origins.V4, OriginsV6: a.Origins.V6, Registry: a.Registry != nil,
		SMTP: a.SMTP != nil, Controls: none(a.Controls), Certificates: a.Certs != nil, MTASTS: a.MTASTS != nil, Autoconfig: a.Web != nil,
		Loopback: a.AllowLoopback, Plan: a.Plan != nil, Message: a.Message != nil,
	}
	for _, l := range a.Lists {
		asked.Lists = append(asked.Lists, l.Zone)
	}
	return asked
}

func (h Asked) lists() []blocklist.List {
	var lists []blocklist.List
	for _, zone := range h.Lists {
		lists = append(lists, blocklist.ByZone(zone))
	}
	return lists
}

// none is a list that is written as one, though nothing be in it.
func none[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// The kinds of lines. A reader leaves out those that it does not know.
const (
	kindDomain       = "domain"
	kindQuestion     = "question"
	kindVisit        = "visit"
	kindKnock        = "knock"
	kindCertificate  = "certificate"
	kindWeb          = "web"
	kindRegistration = "registration"
	kindEnd          = "end"
)

// head is what each line begins with: its kind, and for which domain it was asked.
type head struct {
	Kind   string   `json:"kind"`
	Domain dns.Name `json:"domain"`
}

func (h head) of() head { return h }

// startLine is how the audit of a domain begins.
type startLine struct {
	head
	When   time.Time `json:"when"`
	NoSuch string    `json:"no_such"` // the label of the names that nobody has
}

// questionLine is a question to the resolver or, over a network, to one server.
type questionLine struct {
	head
	Question question       `json:"question"`
	Server   netip.AddrPort `json:"server"`
	Network  string         `json:"network"`
	Began    time.Time      `json:"began"`
	Took     time.Duration  `json:"took_ns"`
	Said     *said          `json:"said"`
	Error    *fault         `json:"error"`
}

type visitLine struct {
	head
	Address netip.Addr    `json:"address"`
	Session probe.Session `json:"session"`
}

type knockLine struct {
	head
	Address netip.Addr `json:"address"`
	Step    probe.Step `json:"step"`
}

type certificateLine struct {
	head
	Server netip.AddrPort `json:"server"`
	Name   dns.Name       `json:"name"`
	Leaf   []byte         `json:"leaf"` // DER
	Error  *fault         `json:"error"`
}

// webLine is a request for a policy.
type webLine struct {
	head
	URL         string   `json:"url"`
	Status      int      `json:"status"`
	ContentType string   `json:"content_type"`
	Location    string   `json:"location"`
	Body        []byte   `json:"body"`
	BodyError   *fault   `json:"body_error"`
	Chain       [][]byte `json:"chain"` // DER; null without TLS
	Error       *fault   `json:"error"` // for which there was no response
}

type registrationLine struct {
	head
	Name  dns.Name  `json:"name"`
	Ends  time.Time `json:"ends"`
	Error *fault    `json:"error"`
}

// The keys by which what was asked is found again.

func questionKey(q question, server netip.AddrPort, network string) string {
	text, err := json.Marshal(q)
	if err != nil {
		return "" // names and types always can be written
	}
	return server.String() + " " + network + " " + string(text)
}

func certificateKey(at netip.AddrPort, name dns.Name) string { return at.String() + " " + name.FQDN() }
