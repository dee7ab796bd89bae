package audit

import (
	"fmt"
	"slices"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/site"
)

// caaAccount holds the records that name accounts against those of the plan. Without a property
// for an authority, or with one that names no account, this row has nothing to say: that is the
// matter of caa.forbids-issuer.
func caaAccount(f *Facts) []verdict {
	if len(f.Plan.Accounts) == 0 {
		return na("the plan names no [[acme-account]]")
	}
	var all []verdict
	none := true
	for _, set := range f.caaSets() {
		if set.Err != nil {
			none = false
			all = append(all, unknown(f, set.Err, ZoneServers, set.question()).at(set.Host.String()))
			continue
		}
		for _, tag := range []string{"issue", "issuewild"} {
			for _, issuer := range issuers(f.Plan.Accounts) {
				about, v := f.accountAt(set, tag, issuer)
				none = none && !about
				all = append(all, v...)
			}
		}
	}
	if none {
		return na("no CAA record is about an authority of the plan's accounts")
	}
	return all
}

// issuers gives each authority once.
func issuers(accounts []site.Account) (all []dns.Name) {
	for _, a := range accounts {
		if !slices.Contains(all, a.Issuer) {
			all = append(all, a.Issuer)
		}
	}
	return all
}

// accountAt judges the properties of one kind for one authority: issuewild is about wildcards
// alone, and takes the place of issue for them (RFC 8659 §4.3). Each property permits by itself,
// and so one that fits is enough. about is whether there is any.
func (f *Facts) accountAt(set CAA, tag string, issuer dns.Name) (about bool, all []verdict) {
	var named []string
	for _, c := range set.Records {
		if c.Tag != tag || caaFault(c) != "" { // else caa.syntax
			continue
		}
		by, accounts := readIssue(c.Value)
		if by != issuer {
			continue
		}
		about = true
		// Two accounts in one property can never both be the one that asks (RFC 8657 §3).
		if len(accounts) == 0 || len(accounts) == 1 && f.Plan.hasAccount(issuer, accounts[0]) {
			return true, nil
		}
		named = append(named, quoted(strings.Join(accounts, " and ")))
	}
	if !about {
		return false, nil
	}
	what, severity := "certificates", Error
	if tag == "issuewild" { // names of mail hosts need none
		what, severity = "wildcard certificates", Warning
	}
	var changes []Change
	for _, a := range f.Plan.Accounts {
		if a.Issuer == issuer {
			changes = append(changes, Change{"add", fmt.Sprintf("%s CAA 0 %s %q", set.At.FQDN(), tag, a.Property())})
			break
		}
	}
	return true, []verdict{fail(fmt.Sprintf("%s may issue %s to %s alone, and the plan's account there is another: it gets none",
		issuer, what, clip(strings.Join(named, ", "))), set.question()).as(severity).at(set.Host.String()).
		mend("name the account that is in use, in the record or in the plan", changes...)}
}

// readIssue reads the value of an issue property (RFC 8659 §4.2): the authority, and the accounts
// that its parameters name (RFC 8657 §3).
func readIssue(value string) (issuer dns.Name, accounts []string) {
	domain, parameters, _ := strings.Cut(value, ";")
	issuer, err := dns.ParseName(strings.TrimSpace(domain))
	if err != nil {
		return dns.Name{}, nil
	}
	for p := range strings.SplitSeq(parameters, ";") {
		if tag, uri, ok := strings.Cut(p, "="); ok && strings.EqualFold(strings.TrimSpace(tag), "accounturi") {
			accounts = append(accounts, strings.Trim(uri, " \t"))
		}
	}
	return issuer, accounts
}

func (p *Planned) hasAccount(issuer dns.Name, uri string) bool {
	return slices.Contains(p.Accounts, site.Account{Issuer: issuer, URI: uri})
}
