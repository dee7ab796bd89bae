// Package dns is the vocabulary of questions and answers that everything in mxward
// speaks: names, types, one interface that resolves, and typed lookups on top of it
// (RFC 1034, RFC 1035; names by RFC 5890 A-labels; negative answers by RFC 2308).
//
// A zone, a block list, the cache, the iterative resolver and a by-suffix Mux all
// implement Resolver; the DNS server serves one, routing and the auditor ask one, and a
// test is one (see dnstest).
//
// The package moves no bytes: sockets live in dns/server and dns/resolver. Classes other
// than IN are not represented; dns/server answers them by itself.
package dns

import (
	"context"

	wire "github.com/miekg/dns"
)

// Resolver answers one question.
//
// The error means that no answer could be had (a time-out, SERVFAIL, a broken delegation,
// a bogus signature); it is an *Error or wraps one, except where ctx ended first. NXDOMAIN
// and NODATA are Answers, never errors: "could not ask" is not "is not there".
//
// Implementations are safe for use by several goroutines, and the sections of an Answer
// are shared: whoever wants to change a record copies it first.
type Resolver interface {
	Resolve(ctx context.Context, q Question) (Answer, error)
}

// ResolverFunc is a function that is a Resolver.
type ResolverFunc func(ctx context.Context, q Question) (Answer, error)

// Resolve calls f.
func (f ResolverFunc) Resolve(ctx context.Context, q Question) (Answer, error) { return f(ctx, q) }

// Question is what is asked, always in class IN. It is comparable.
type Question struct {
	Name Name
	Type Type

	// DNSSEC asks for signatures and proofs in the sections (the DO bit, RFC 3225).
	DNSSEC bool
	// CheckingDisabled asks for data even where validation fails (the CD bit, RFC 4035 §3.2.2).
	CheckingDisabled bool
}

func (q Question) String() string { return q.Name.String() + " " + q.Type.String() }

// Answer is what a server, a zone or a resolver says to a Question.
type Answer struct {
	Rcode         Rcode
	Authoritative bool // AA: the data is the answerer's own
	Authentic     bool // AD: validated by DNSSEC (RFC 4035 §3.2.3); never set by guess

	// Extended is the extended DNS error that goes along with an answer (RFC 8914): 3 for
	// a stale one, say. 0 is none.
	Extended uint16

	// Packets were sent to servers for it; 0 for what was known: from a cache, a zone.
	Packets int

	// The sections, as RFC 1035 §4.1 lays them out. An alias chain stands at the front
	// of Answer in the order in which it was followed.
	Answer, Authority, Additional []RR
}

// RR is one resource record. Only packages below internal/dns look inside one; the rest
// of mxward uses the typed lookups.
type RR = wire.RR

// Type is an RR type by its number (RFC 1035 §3.2.2 and IANA's registry).
type Type uint16

// The types that mail asks for.
const (
	TypeA     = Type(wire.TypeA)
	TypeNS    = Type(wire.TypeNS)
	TypeCNAME = Type(wire.TypeCNAME)
	TypeSOA   = Type(wire.TypeSOA)
	TypePTR   = Type(wire.TypePTR)
	TypeMX    = Type(wire.TypeMX)
	TypeTXT   = Type(wire.TypeTXT)
	TypeAAAA  = Type(wire.TypeAAAA)
	TypeDS    = Type(wire.TypeDS)
	TypeTLSA  = Type(wire.TypeTLSA)
	TypeANY   = Type(wire.TypeANY)

	TypeDNSKEY = Type(wire.TypeDNSKEY)
	TypeCAA    = Type(wire.TypeCAA)
	TypeSRV    = Type(wire.TypeSRV)
)

// The types that only an audit asks for: SPF's own, which is history (RFC 7208 §3.1), what a zone
// asks its parent for (RFC 7344), how its proofs are hashed, and the whole zone.
const (
	TypeSPF        = Type(wire.TypeSPF)
	TypeCDS        = Type(wire.TypeCDS)
	TypeCDNSKEY    = Type(wire.TypeCDNSKEY)
	TypeNSEC3PARAM = Type(wire.TypeNSEC3PARAM)
	TypeAXFR       = Type(wire.TypeAXFR)
)

// String gives the mnemonic, or TYPEnnn (RFC 3597 §5).
func (t Type) String() string { return wire.Type(t).String() }

// ParseType reads a mnemonic or TYPEnnn, in any case.
func ParseType(s string) (Type, bool) { return parseType(s) }

// Rcode is a response code (RFC 1035 §4.1.1, RFC 2136 §2.2).
type Rcode uint16

// The response codes that mxward sends or expects.
const (
	NoError  = Rcode(wire.RcodeSuccess)
	FormErr  = Rcode(wire.RcodeFormatError)
	ServFail = Rcode(wire.RcodeServerFailure)
	NXDomain = Rcode(wire.RcodeNameError)
	NotImp   = Rcode(wire.RcodeNotImplemented)
	Refused  = Rcode(wire.RcodeRefused)
)

// String gives the mnemonic as dig prints it.
func (r Rcode) String() string { return rcodeString(r) }
