package audit

import "mxward/internal/dns"

// WellKnown are domains whose MX hosts answer everybody: they are knocked at only where no MX
// host of the domain can be reached.
func WellKnown() []dns.Name {
	return []dns.Name{dns.MustName("gmail.com"), dns.MustName("outlook.com"), dns.MustName("icloud.com")}
}

// PublicOrigins is a public zone that says which networks addresses are in.
func PublicOrigins() Origins {
	return Origins{V4: dns.MustName("origin.asn.cymru.com"), V6: dns.MustName("origin6.asn.cymru.com")}
}
