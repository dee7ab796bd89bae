package render

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns"
	"mxward/internal/probe"
)

// The limits of what is drawn, ours; audit looks at few more.
const (
	maxRungs     = 20
	maxAddresses = 32 // of one host
	maxNames     = 3  // of one address
)

// Ladder is the way that mail takes: the hosts by preference, and what is known of each.
type Ladder struct {
	Rungs []Rung
	Note  string // why there are none, or are not all
}

// Rung is one host.
type Rung struct {
	Host       dns.Name
	Preference string // "" where no MX record names it
	Alias      string // what it is an alias of
	Addresses  []Address
	Trouble    string // why there are no addresses
	Open       bool   // the trouble is that they could not be asked for
}

// Address is one address of a host, with the names that it has in the DNS.
type Address struct {
	Addr        netip.Addr
	Names       []PTR
	Trouble     string // why there are no names
	Open        bool
	Certificate *Certificate // nil where no session showed one
}

// PTR is a name of an address, and whether the name has that address.
type PTR struct {
	Name      dns.Name
	Confirmed bool
	Open      bool // that could not be asked
}

// Certificate is what an MX host shows in a session. It comes from a session's facts; where
// there are none, none is drawn.
type Certificate struct {
	Names   []string
	Issuer  string
	Ends    time.Time
	Begins  time.Time
	Trouble string // why it does not hold
}

// Summary is the certificate in a few words.
func (c Certificate) Summary() string {
	words := "until " + c.Ends.UTC().Format(time.DateOnly)
	if len(c.Names) > 0 {
		words += ", " + c.Names[0]
	}
	if more := len(c.Names) - 1; more > 0 {
		words += " and " + strconv.Itoa(more) + " more"
	}
	if c.Issuer != "" {
		words += ", by " + c.Issuer
	}
	if c.Trouble != "" {
		words += ": " + c.Trouble
	}
	return clip(words, maxShown)
}

// newLadder takes the hosts from the facts.
func newLadder(f *audit.Facts) Ladder {
	l := Ladder{Note: ladderNote(f)}
	hosts := slices.Clone(f.Hosts)
	slices.SortStableFunc(hosts, func(a, b audit.Host) int { return cmp.Compare(a.Preference, b.Preference) })
	for _, h := range hosts[:min(maxRungs, len(hosts))] {
		l.Rungs = append(l.Rungs, newRung(f, h))
	}
	return l
}

func ladderNote(f *audit.Facts) string {
	records := f.MX.Records
	switch {
	case f.MX.Err != nil:
		return "the MX records could not be asked for: " + clip(f.MX.Err.Error(), maxShown)
	case len(records) == 1 && records[0].Host == dns.Root:
		return "the domain says by a null MX that it takes no mail"
	case len(f.Hosts) == 0 && !f.MX.Exists:
		return "the domain does not exist"
	case len(f.Hosts) == 0:
		return "nothing says where mail for the domain goes"
	case len(records) == 0:
		return "there is no MX record: mail goes to the domain's own address"
	case len(records) > min(maxRungs, len(f.Hosts)):
		return "of " + strconv.Itoa(len(records)) + " MX records not all are looked at"
	}
	return ""
}

func newRung(f *audit.Facts, h audit.Host) Rung {
	r := Rung{Host: h.Name, Preference: strconv.Itoa(int(h.Preference))}
	if len(f.MX.Records) == 0 {
		r.Preference = ""
	}
	if len(h.A.Aliases) > 0 && r.Preference != "" {
		r.Alias = h.A.Canonical.String()
	}
	addrs := slices.Concat(h.A.Records, h.AAAA.Records)
	switch err := cmp.Or(errText(h.A.Err), errText(h.AAAA.Err)); {
	case len(addrs) == 0 && err != "":
		r.Trouble, r.Open = "unknown: "+err, true
	case len(addrs) == 0 && !h.A.Exists:
		r.Trouble = "does not exist"
	case len(addrs) == 0:
		r.Trouble = "no address"
	}
	for _, addr := range addrs[:min(maxAddresses, len(addrs))] {
		r.Addresses = append(r.Addresses, newAddress(f, h, addr))
	}
	return r
}

func newAddress(f *audit.Facts, h audit.Host, addr netip.Addr) Address {
	a := Address{Addr: addr, Certificate: shown(f, h.Name, addr)}
	i := slices.IndexFunc(f.Reverse, func(r audit.Reverse) bool { return r.Addr == addr })
	if i < 0 {
		a.Trouble, a.Open = "not looked at", true
		return a
	}
	switch ptr := f.Reverse[i].PTR; {
	case ptr.Err != nil:
		a.Trouble, a.Open = "unknown: "+errText(ptr.Err), true
	case len(ptr.Records) == 0:
		a.Trouble = "no PTR record"
	}
	for _, h := range f.Reverse[i].Names {
		confirmed := slices.Contains(slices.Concat(h.A.Records, h.AAAA.Records), addr)
		a.Names = append(a.Names, PTR{h.Name, confirmed, !confirmed && (h.A.Err != nil || h.AAAA.Err != nil)})
	}
	return a
}

// shown gives the certificate that the host showed at an address, nil where there was no session
// with TLS.
func shown(f *audit.Facts, host dns.Name, addr netip.Addr) *Certificate {
	if f.SMTP == nil {
		return nil
	}
	for _, v := range slices.Concat(f.SMTP.Visits, f.SMTP.Named) {
		if v.Address.Addr() != addr || v.Host != host || v.TLS == nil || v.TLS.Leaf() == nil {
			continue
		}
		leaf := v.TLS.Leaf()
		c := &Certificate{Names: leaf.DNSNames, Issuer: leaf.Issuer.CommonName, Ends: leaf.NotAfter, Begins: leaf.NotBefore}
		c.Trouble = cmp.Or(errText(v.TLS.Dates(f.When)), errText(v.TLS.Name(host)))
		if v.TLS.Trust == probe.Untrusted {
			c.Trouble = cmp.Or(c.Trouble, v.TLS.TrustError)
		}
		return c
	}
	return nil
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return clip(err.Error(), maxShown)
}

// Certificates reports whether there are any.
func (l Ladder) Certificates() bool { return len(l.clocks()) > 0 }

// clocks gives the ends of the certificates.
func (l Ladder) clocks() []Clock {
	var clocks []Clock
	for _, r := range l.Rungs {
		for _, a := range r.Addresses {
			if a.Certificate != nil {
				clocks = append(clocks, Clock{"certificate", r.Host.String() + " " + addrText(a.Addr), a.Certificate.Ends, a.Certificate.Begins})
			}
		}
	}
	return clocks
}
