package site

import (
	"net/url"
	"slices"
	"strings"

	"mxward/internal/dns"
)

// Account is an [[acme-account]]: one with which certificates for the site's names are asked for.
type Account struct {
	Issuer dns.Name // the authority, as it is called in CAA records
	URI    string   // compared octet by octet (RFC 8657 §3)
}

// Property gives the value of the CAA property that lets this account alone have certificates
// of this authority (RFC 8657 §3).
func (a Account) Property() string { return a.Issuer.String() + "; accounturi=" + a.URI }

var accountURI = text("the URI of an ACME account", parseAccountURI)

// parseAccountURI wants what can stand in a CAA parameter: visible ASCII without a semicolon
// (RFC 8659 §4.2).
func parseAccountURI(s string) (string, *Error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || !u.IsAbs() || u.Host == "":
		return "", &Error{Kind: BadURI, Hint: "write it whole, like https://ca.example.net/acct/1234"}
	case strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || c == ';' }):
		return "", &Error{Kind: BadURI, Hint: "a CAA record has no room for spaces and semicolons in it"}
	}
	return s, nil
}

func atAccount(i int, key string) place { return place{table: "acme-account", outer: i, key: key} }

func checkAccountTwice(d *draft, report reporter) {
	for i, a := range d.Accounts {
		if first := slices.Index(d.Accounts, a); first < i && a.URI != "" && !a.Issuer.IsZero() {
			report(atAccount(i, "uri"), "each account once", quote(a.URI)+" again", "the first is in "+d.lineText(atAccount(first, "uri")))
		}
	}
}
