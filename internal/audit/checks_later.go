package audit

// laterChecks are the ids of areas that are not looked at yet; they are here so that an id
// is never taken for something else.
func laterChecks() []Check {
	var rows []Check
	for _, area := range []struct {
		id, title string
		severity  Severity
	}{
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
