package site

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Kind names a mistake. It never changes its meaning, so that scripts can rely on it.
type Kind string

// The mistakes that Parse finds in the text, key by key.
const (
	Unreadable   Kind = "unreadable"    // the plan cannot be read
	TooLarge     Kind = "too-large"     // more than maxText octets
	NotUTF8      Kind = "not-utf8"      // TOML is UTF-8
	Syntax       Kind = "syntax"        // not TOML
	DuplicateKey Kind = "duplicate-key" // a key or a table twice
	UnknownTable Kind = "unknown-table"
	UnknownKey   Kind = "unknown-key"
	WrongType    Kind = "wrong-type" // a number for a string, [host] for [[host]]
	Missing      Kind = "missing"    // a required key or table
	OutOfRange   Kind = "out-of-range"
	BadName      Kind = "bad-name"
	BadAddress   Kind = "bad-address"
	BadListen    Kind = "bad-listen"
	BadRole      Kind = "bad-role"
	BadMode      Kind = "bad-mode" // of an MTA-STS policy
	BadTarget    Kind = "bad-target"
	BadRecipient Kind = "bad-recipient"
	BadStore     Kind = "bad-store"
	BadSize      Kind = "bad-size"
	BadDuration  Kind = "bad-duration"
	BadPath      Kind = "bad-path"
	BadServer    Kind = "bad-server" // a name server's address
	BadRecord    Kind = "bad-record"
	BadAnchor    Kind = "bad-anchor"
	BadText      Kind = "bad-text"
	BadProfile   Kind = "bad-profile"
	BadSeverity  Kind = "bad-severity"
	BadNetwork   Kind = "bad-network"
	BadURI       Kind = "bad-uri"
	Repeated     Kind = "repeated" // the same value twice in a list
)

// The mistakes that Parse finds between the parts of a plan.
const (
	EmptyPlan        Kind = "empty-plan"
	HostTwice        Kind = "host-twice"
	HostNowhere      Kind = "host-nowhere"   // neither addresses nor an alias
	AliasAndMore     Kind = "alias-and-more" // an alias with addresses or listeners
	AliasOfItself    Kind = "alias-of-itself"
	CertAlone        Kind = "cert-alone"   // cert without key, or key without cert
	ListenTwice      Kind = "listen-twice" // two listeners on one socket
	DomainTwice      Kind = "domain-twice"
	NoRung           Kind = "no-rung"          // a domain without [[domain.mx]]
	NobodyAccepts    Kind = "nobody-accepts"   // only decoys
	RungTwice        Kind = "rung-twice"       // one host on two rungs
	PreferenceMixed  Kind = "preference-mixed" // two roles at one preference
	MXIsAddress      Kind = "mx-is-address"
	MXUnknown        Kind = "mx-unknown"         // not a [[host]]
	MXIsAlias        Kind = "mx-is-alias"        // a CNAME, by host.alias or by a zone file
	TrapTooGood      Kind = "trap-too-good"      // better than a gate or a backup
	BackupTooGood    Kind = "backup-too-good"    // better than every gate
	TwoRolesAddress  Kind = "two-roles-address"  // a trap at the address of a gate
	RefuseListens    Kind = "refuse-listens"     // a decoy at which somebody listens
	DeliverMissing   Kind = "deliver-missing"    // a gate that can hand mail to nobody
	DeliverLoop      Kind = "deliver-loop"       // to one of our own listeners
	RecipientForeign Kind = "recipient-foreign"  // of another domain
	PolicyUnserved   Kind = "policy-unserved"    // an MTA-STS policy without [mta-sts] listen
	PolicyPlain      Kind = "policy-plain"       // plain HTTP for the world
	PolicySelfSigned Kind = "policy-self-signed" // enforced, and a host has no certificate that senders trust
	DKIMAlone        Kind = "dkim-alone"         // selector without key, or key without selector
	ReportsUnsent    Kind = "reports-unsent"     // how to send reports, but not from whom
	WatchMailAlone   Kind = "watch-mail-alone"   // mail of the watch without a sender, or a sender without recipients
	ReceiveForeign   Kind = "receive-foreign"    // reports to an address that is not taken here
	ResolverPublic   Kind = "resolver-public"    // recursion for the world
	ResolverLoop     Kind = "resolver-loop"      // the resolver would ask itself
	UpstreamTwice    Kind = "upstream-twice"     // a zone in two of the resolver's tables
	LocalTwice       Kind = "local-twice"
	LocalEmpty       Kind = "local-empty" // neither addresses nor records
	ZoneTwice        Kind = "zone-twice"
	FlattenedTwice   Kind = "flattened-twice"   // one include twice in a domain
	FlattenedItself  Kind = "flattened-itself"  // a domain that copies from itself
	NetworkWithin    Kind = "network-within"    // a network within another of the list
	AccountTwice     Kind = "account-twice"     // one ACME account twice
	FileMissing      Kind = "file-missing"      // a file that the plan names
	ZoneFault        Kind = "zone-fault"        // a mistake in a zone file
	ZoneNullMX       Kind = "zone-null-mx"      // the zone says that the domain takes no mail
	ZoneMXDiffers    Kind = "zone-mx-differs"   // the zone's MX records are not the ladder
	ZoneAddrsDiffer  Kind = "zone-addrs-differ" // the zone's addresses of a host are others
	ZoneIncludes     Kind = "zone-includes"     // the zone includes what the plan has copies of
	ZoneSPFDiffers   Kind = "zone-spf-differs"  // the zone's SPF record lacks networks of the plan
	ClientOverAll    Kind = "client-over-all"   // max-per-client above max-sessions
)

// Error is one mistake.
type Error struct {
	Kind   Kind   `json:"kind"`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`   // 0 where no line is at fault: something is missing
	Option string `json:"option,omitempty"` // table and key, domain.mx.host

	Expected string `json:"expected,omitempty"`
	Got      string `json:"got,omitempty"`
	Hint     string `json:"hint,omitempty"` // what to do, where that is not plain

	Text string `json:"text,omitempty"` // in place of Expected and Got: what another package said, whole
}

// Error gives the mistake as file:line: option: expected …, got …; hint.
func (e *Error) Error() string {
	if e.Text != "" {
		return e.Text
	}
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ":")
		if e.Line > 0 {
			b.WriteString(strconv.Itoa(e.Line) + ":")
		}
		b.WriteByte(' ')
	}
	if e.Option != "" {
		b.WriteString(e.Option + ": ")
	}
	fmt.Fprintf(&b, "expected %s, got %s", e.Expected, e.Got)
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Errors is every mistake of a plan, in the order of the file.
type Errors []*Error

// Error gives one mistake a line.
func (list Errors) Error() string {
	texts := make([]string, len(list))
	for i, e := range list {
		texts[i] = e.Error()
	}
	return strings.Join(texts, "\n")
}

// Unwrap gives the single mistakes.
func (list Errors) Unwrap() []error {
	all := make([]error, len(list))
	for i, e := range list {
		all[i] = e
	}
	return all
}

// sorted puts the mistakes of the plan first, by line, and those of other files after them
// in the order in which they were found.
func (list Errors) sorted(plan string) Errors {
	elsewhere := func(e *Error) int {
		if e.Text == "" && e.File == plan {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(list, func(a, b *Error) int {
		if o := cmp.Compare(elsewhere(a), elsewhere(b)); o != 0 || elsewhere(a) == 1 {
			return o
		}
		return cmp.Compare(a.Line, b.Line)
	})
	return list
}

// maxQuoted bounds what a message repeats of the text, in characters.
const maxQuoted = 80

func quote(s string) string {
	if utf8.RuneCountInString(s) > maxQuoted {
		s = string([]rune(s)[:maxQuoted]) + "…"
	}
	return strconv.Quote(s)
}

func itoa(n int) string { return strconv.Itoa(n) }
