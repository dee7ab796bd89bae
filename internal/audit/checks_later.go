package audit

// laterChecks are the ids of areas that are not looked at yet; they are here so that an id
// is never taken for something else.
func laterChecks() []Check {
	var rows []Check
	for _, area := range []struct {
		id, title string
		severity  Severity
	}{
		{"zone.cname-at-apex", "the domain itself is an alias", Error},
		{"zone.cname-coexistence", "an alias stands beside other records", Error},
		{"zone.wildcard-mail", "a wildcard takes mail for every name", Notice},
		{"zone.dangling-cname", "an alias leads nowhere", Warning},
		{"zone.ttl-low", "a record is forgotten soon", Notice},
		{"zone.ttl-high", "a record is kept long", Notice},
		{"zone.txt-oversize", "the TXT records of a name are too long", Warning},
		{"autoconf.srv-missing", "mail programs find no servers", Info},
		{"autoconf.srv-target", "an SRV record leads nowhere", Warning},
		{"autoconf.srv-cert", "a server for mail programs has another name in its certificate", Warning},
		{"autoconf.autoconfig-missing", "there is no autoconfig", Info},
		{"autoconf.autodiscover-missing", "there is no autodiscover", Info},
		{"acme.stale-challenge", "an ACME challenge was left behind", Notice},
		{"acme.delegation-dangling", "ACME challenges are led nowhere", Error},
		{"dnsbl.listed-ip", "an MX host's address is on a block list", Error},
		{"dnsbl.listed-domain", "the domain is on a block list", Error},
		{"dnsbl.listed-policy", "an MX host's address is on a policy list", Warning},
		{"dnsbl.list-unusable", "a block list does not answer", Info},
		{"plan.drift", "the world sees another record than the plan has", Error},
		{"plan.missing-record", "a record of the plan is not there", Error},
		{"plan.extra-record", "a record is there that the plan does not have", Notice},
		{"plan.foreign-record", "a record of the plan's names is somebody else's", Notice},
		{"plan.unsafe-order", "a change of the plan would break mail for a while", Error},
	} {
		rows = append(rows, Check{ID: area.id, Title: area.title, Severity: area.severity})
	}
	return rows
}
