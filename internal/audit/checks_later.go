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
		{"smtp.unreachable", "an MX host does not answer", Error},
		{"smtp.banner-missing", "an MX host does not greet", Error},
		{"smtp.banner-mismatch", "an MX host greets with another name", Info},
		{"smtp.helo-unresolvable", "an MX host says a name that has no address", Warning},
		{"smtp.helo-ptr-mismatch", "an MX host says another name than its address has", Notice},
		{"smtp.starttls-missing", "an MX host offers no TLS", Warning},
		{"smtp.tls-old", "an MX host's TLS is old", Warning},
		{"smtp.cert-name", "an MX host's certificate has another name", Warning},
		{"smtp.cert-chain", "an MX host's certificate has no known issuer", Warning},
		{"smtp.cert-expired", "an MX host's certificate has expired", Warning},
		{"smtp.cert-expiring", "an MX host's certificate expires soon", Warning},
		{"smtp.open-relay", "an MX host takes mail for anybody", Critical},
		{"smtp.tarpit", "an MX host answers slowly on purpose", Info},
		{"smtp.temp-reject", "an MX host defers strangers", Info},
		{"smtp.slow", "an MX host is slow", Warning},
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
	} {
		rows = append(rows, Check{ID: area.id, Title: area.title, Severity: area.severity})
	}
	return rows
}
