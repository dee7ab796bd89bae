package site

import (
	"math"
	"net/netip"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/mailauth/mtasts"
)

// table is a table of the plan file.
type table struct {
	name     string
	repeated bool        // [[name]]
	inner    bool        // its tables belong to the one of the parent before them
	shown    bool        // a plain plan has it
	means    bool        // its header alone means something
	add      func(*Plan) // begins another one
	doc      string
}

// field is a key of the plan file. The fields say all that there is to know of the format:
// Parse, Sample and Manual have no other knowledge of it.
type field struct {
	table, key string
	value      setter
	required   bool
	shown      bool   // a plain plan has it, though it is not required
	byDefault  string // in TOML, and read like what a user writes
	otherwise  string // what holds without it, where no value says that
	example    string // in TOML
	doc        string
}

var tables = []table{
	{name: "site", shown: true, doc: "What holds for the whole site. Required."},
	{name: "host", repeated: true, shown: true, add: func(p *Plan) { p.Hosts = append(p.Hosts, Host{}) },
		doc: "A machine, or a decoy, that MX records may name."},
	{name: "domain", repeated: true, shown: true, add: func(p *Plan) { p.Domains = append(p.Domains, Domain{MTASTSMaxAge: policyAge}) },
		doc: "A domain that the site takes mail for."},
	{name: "domain.mx", repeated: true, inner: true, shown: true, add: func(p *Plan) { d := p.domain(); d.Ladder = append(d.Ladder, Rung{}) },
		doc: "A rung of the ladder of the [[domain]] above it: one MX record, and what its host does for this domain. " +
			"Hosts with the same preference share the load and have the same role. Traps are worse than every gate and backup."},
	{name: "domain.spf-flattened", repeated: true, inner: true, add: func(p *Plan) { d := p.domain(); d.Flattened = append(d.Flattened, Flattened{}) },
		doc: "Networks that stand in the SPF record of the [[domain]] above it in place of an include, which spares look-ups: copies, which nobody renews when their source changes. " +
			"mxward check --plan and the watch hold them against the include's policy of the day (spf.flatten-stale), and mxward spf flatten prints them anew. " +
			"The record itself stands in the zone: where the plan has that, it must name these networks, and not include the domain besides."},
	{name: "mta-sts", doc: "The web server of the domains' MTA-STS policies (RFC 8461): https://mta-sts.DOMAIN/.well-known/mta-sts.txt, for each [[domain]] with mta-sts. " +
		"A policy names every host of the ladder, and mxward plan records prints the TXT record that goes with it."},
	{name: "smtp", doc: "Limits and habits of the SMTP listeners."},
	{name: "dns", doc: "The public name server. It answers for its zones and never recurses."},
	{name: "dns.zone", repeated: true, add: func(p *Plan) { p.DNS.Zones = append(p.DNS.Zones, Zone{}) },
		doc: "A zone that the name server serves. Where it has MX records of a [[domain]] or addresses of a [[host]], they must be those of the plan."},
	{name: "resolver", doc: "The recursive resolver that mxward itself uses. It asks from the root servers down; the tables below name the exceptions, and of these the one with the longest name counts."},
	{name: "resolver.stub", repeated: true, add: func(p *Plan) { p.Resolver.Stubs = append(p.Resolver.Stubs, Stub{}) },
		doc: "A zone whose own name servers are given here and not found from the root: a block list on this machine, a zone that the world does not see. They are always asked for the full name."},
	{name: "resolver.forward", repeated: true, add: func(p *Plan) { p.Resolver.Forwards = append(p.Resolver.Forwards, Forward{}) },
		doc: "A zone that other resolvers are asked about, which do the work and are believed. Public resolvers are of no use to a mail host: block lists refuse their questions."},
	{name: "resolver.local", repeated: true, add: func(p *Plan) { p.Resolver.Local = append(p.Resolver.Local, Local{}) },
		doc: "What the resolver itself says about one name, whatever the DNS says. The names above and below it are not concerned."},
	{name: "reports", doc: "The reports of DMARC (RFC 9990): those that this site sends about the mail it takes, a day at a time, to whoever the policies of the authors' domains name; and those that others send here, TLS reports (RFC 8460) too, which are read and stored, and summed up by mxward report. All gates of a store have the same table."},
	{name: "acme-account", repeated: true, add: func(p *Plan) { p.Accounts = append(p.Accounts, Account{}) },
		doc: "An account with which the certificates of the site's names are asked for (RFC 8555), by whatever ACME client. mxward asks for none: it holds CAA records that name accounts (RFC 8657) against these (caa.account-mismatch), and mxward plan records prints such records. Of several accounts at one authority a record need name one."},
	{name: "watch", means: true, doc: "The watch over the site's own domains, as the outside world sees them: mxward serve looks at each [[domain]] every so often, as mxward check does, and tells in the log, in the metrics and by mail what has changed, and what ends soon. With the header alone all keys have their defaults; without it nobody watches. Of several gates with one store one watches; all of them have the same table."},
	{name: "metrics", doc: "Numbers for Prometheus, over HTTP at /metrics."},
}

var fields = []field{
	{table: "site", key: "name", required: true, example: `"gate.example.com"`,
		value: into(hostName, func(p *Plan) *dns.Name { return &p.Name }),
		doc:   "How the site calls itself in HELO and in Received lines. Its addresses should have this name in their PTR records."},
	{table: "site", key: "authserv-id", example: `"example.com"`, otherwise: "default: the name of the site",
		value: into(hostName, func(p *Plan) *dns.Name { return &p.AuthservID }),
		doc:   "In whose name Authentication-Results stand above the mail that is taken; such fields that come with it in this name, or in that of the site or of a host, are removed. All gates of a domain should have the same, and the programs behind them should trust no other."},
	{table: "site", key: "store", required: true, example: `"sqlite:/var/lib/mxward/mxward.db"`,
		value: into(storeURL, func(p *Plan) *string { return &p.Store }),
		doc:   "Where the queue lives: in a file of this machine (sqlite:/path; a relative path begins at the plan's folder), or in a PostgreSQL that several gates share (postgres://user@host/database)."},

	{table: "host", key: "name", required: true, example: `"mx1.example.com"`,
		value: into(hostName, func(p *Plan) *dns.Name { return &p.host().Name }),
		doc:   "The name that MX records give."},
	{table: "host", key: "addresses", shown: true, example: `["192.0.2.1", "2001:db8::1"]`,
		value:     into(listOf(address, "IP addresses"), func(p *Plan) *[]netip.Addr { return &p.host().Addresses }),
		otherwise: "required, unless the host is an alias",
		doc:       "The host's addresses as the world sees them, as in its A and AAAA records."},
	{table: "host", key: "listen", example: `["192.0.2.1:25", "[2001:db8::1]:25"]`,
		value:     into(listOf(socket, "addresses with ports"), func(p *Plan) *[]netip.AddrPort { return &p.host().Listen }),
		otherwise: "default: port 25 of each of the addresses, and nothing for a host that only refuses",
		doc:       "Where the SMTP listener binds, if that is elsewhere: behind a NAT, or on all addresses with 0.0.0.0:25 and [::]:25."},
	{table: "host", key: "cert", example: `"/etc/mxward/mx1.crt"`,
		value:     into(fileName, func(p *Plan) *string { return &p.host().Cert }),
		otherwise: "default: a self-signed certificate",
		doc:       "The certificate chain for STARTTLS, in PEM."},
	{table: "host", key: "key", example: `"/etc/mxward/mx1.key"`,
		value:     into(fileName, func(p *Plan) *string { return &p.host().Key }),
		otherwise: "required beside cert",
		doc:       "The private key of the certificate, in PEM."},
	{table: "host", key: "drain", example: `true`,
		value:     into(yesNo(), func(p *Plan) *bool { return &p.host().Drain }),
		otherwise: "default: false",
		doc:       "Take no mail here for a while: every client is greeted with 421 and goes on to the next host. Its knock is recorded all the same."},
	{table: "host", key: "alias", example: `"mail.example.net"`,
		value:     into(hostName, func(p *Plan) *dns.Name { return &p.host().Alias }),
		otherwise: "default: none",
		doc:       "The host that this name is a CNAME for. No MX record may name an alias (RFC 2181 section 10.3), and an alias has no addresses."},

	{table: "domain", key: "name", required: true, example: `"example.com"`,
		value: into(domainName, func(p *Plan) *dns.Name { return &p.domain().Name }),
		doc:   "The part of the addresses after the @."},
	{table: "domain", key: "deliver", shown: true, example: `"lmtp://127.0.0.1:24"`,
		value:     into(target, func(p *Plan) *Target { return &p.domain().Deliver }),
		otherwise: "required where a rung is a gate; default: mx:",
		doc: "Where accepted mail goes: smtp://host[:port] (port 25), lmtp://host[:port] (port 24), lmtp:/path/of/socket, " +
			"maildir:/path (one Maildir for each recipient below it), or mx: for the better rungs that the DNS names, where the site is only a backup."},
	{table: "domain", key: "recipients", example: `["alice@example.com", "dmarc@example.com", "postmaster@example.com"]`,
		value:     into(listOf(recipient, "mail addresses"), func(p *Plan) *[]mail.Address { return &p.domain().Recipients }),
		otherwise: "default: the place of delivery knows",
		doc:       "The only valid recipients, written whole."},
	{table: "domain", key: "mta-sts", example: `"testing"`,
		value:     into(policyMode, func(p *Plan) *mtasts.Mode { return &p.domain().MTASTS }),
		otherwise: "default: no policy",
		doc: "The mode of the domain's MTA-STS policy, which [mta-sts] serves. testing: senders report trouble and deliver all the same. " +
			"enforce: they deliver only to hosts with a certificate that an authority vouches for. none: the policy is taken back; leave it so for as long as mta-sts-max-age was before the key goes."},
	{table: "domain", key: "mta-sts-max-age", example: `"672h"`,
		value:     into(policyMaxAge, func(p *Plan) *time.Duration { return &p.domain().MTASTSMaxAge }),
		otherwise: `default: "336h", two weeks`,
		doc:       "How long senders keep the policy."},

	{table: "domain.mx", key: "preference", required: true, example: "10",
		value: into(integer[uint16]("a number", 0, math.MaxUint16), func(p *Plan) *uint16 { return &p.rung().Preference }),
		doc:   "The preference of the MX record. Clients try low numbers first (RFC 5321 section 5.1)."},
	{table: "domain.mx", key: "host", required: true, example: `"mx1.example.com"`,
		value: into(mxName, func(p *Plan) *dns.Name { return &p.rung().Host }),
		doc:   "The host that the MX record names: never an address, and never an alias."},
	{table: "domain.mx", key: "role", required: true, example: `"gate"`,
		value: into(role, func(p *Plan) *Role { return &p.rung().Role }),
		doc: "gate accepts mail and delivers it. backup accepts mail and holds it for the better rungs. " +
			"trap talks slowly, answers 451 after RCPT, and accepts nothing. refuse is a decoy at which nobody listens. " +
			"A trap stands after every gate and backup: qmail, OpenSMTPD, Haraka and others never get past one that stands before. " +
			"A refuse rung may stand first, as in nolisting, and senders get past it, but it has a price: " +
			"rspamd's mx_check module looks at the best MX of a sender's domain, and counts a closed port there as a bad sign " +
			"in the mail that the domain itself sends."},

	{table: "domain.spf-flattened", key: "include", required: true, example: `"_spf.example.net"`,
		value: into(policyDomain, func(p *Plan) *dns.Name { return &p.flattened().Include }),
		doc:   "The domain whose policy the networks were copied from: what stands behind include: in a record that has no copies."},
	{table: "domain.spf-flattened", key: "networks", required: true, example: `["192.0.2.0/24", "2001:db8::/32"]`,
		value: into(listOf(network, "networks"), func(p *Plan) *[]netip.Prefix { return &p.flattened().Networks }),
		doc:   "The copies, as behind ip4: and ip6: in the record. An address alone is a network of one."},

	{table: "mta-sts", key: "listen", example: `["192.0.2.1:443"]`,
		value:     into(listOf(socket, "addresses with ports"), func(p *Plan) *[]netip.AddrPort { return &p.MTASTS.Listen }),
		otherwise: "default: mxward serves no policies",
		doc:       "Where the policies are served: over HTTPS with cert and key, else over plain HTTP for a reverse proxy of this machine, on loopback addresses only."},
	{table: "mta-sts", key: "cert", example: `"/etc/mxward/mta-sts.crt"`,
		value:     into(fileName, func(p *Plan) *string { return &p.MTASTS.Cert }),
		otherwise: "default: plain HTTP",
		doc:       "The certificate chain, in PEM. It must be for mta-sts.DOMAIN of each domain with a policy, and of an authority that senders trust."},
	{table: "mta-sts", key: "key", example: `"/etc/mxward/mta-sts.key"`,
		value:     into(fileName, func(p *Plan) *string { return &p.MTASTS.Key }),
		otherwise: "required beside cert",
		doc:       "The private key of the certificate, in PEM."},

	{table: "smtp", key: "max-size", byDefault: `"50MiB"`, example: `"50MB"`,
		value: into(size, func(p *Plan) *int64 { return &p.SMTP.MaxSize }),
		doc:   "The largest message. kB, MB and GB are powers of 1000; KiB, MiB and GiB are powers of 1024; a bare number is octets."},
	{table: "smtp", key: "max-recipients", byDefault: "100", example: "100",
		value: into(integer("a number", 100, 100_000), func(p *Plan) *int { return &p.SMTP.MaxRecipients }),
		doc:   "The most recipients of one message. RFC 5321 section 4.5.3.1.8 wants at least 100."},
	{table: "smtp", key: "max-sessions", byDefault: "5000", example: "5000",
		value: into(integer("a number", 1, 1_000_000), func(p *Plan) *int { return &p.SMTP.MaxSessions }),
		doc:   "The most SMTP sessions at once."},
	{table: "smtp", key: "max-per-client", byDefault: "50", example: "50",
		value: into(integer("a number", 1, 1_000_000), func(p *Plan) *int { return &p.SMTP.MaxPerClient }),
		doc:   "The most sessions at once of one address; not more than max-sessions."},
	{table: "smtp", key: "trap-pace", byDefault: `"1s"`, example: `"1s"`,
		value: into(pace, func(p *Plan) *time.Duration { return &p.SMTP.TrapPace }),
		doc:   "How long a trap waits before each octet that it sends."},

	{table: "dns", key: "listen", example: `["192.0.2.1:53"]`,
		value:     into(listOf(socket, "addresses with ports"), func(p *Plan) *[]netip.AddrPort { return &p.DNS.Listen }),
		otherwise: "default: no name server",
		doc:       "Where the name server binds, on UDP and TCP."},
	{table: "dns.zone", key: "name", required: true, example: `"example.com"`,
		value: into(zoneName, func(p *Plan) *dns.Name { return &p.zone().Name }),
		doc:   "The zone's apex."},
	{table: "dns.zone", key: "file", required: true, example: `"zones/example.com.zone"`,
		value: into(fileName, func(p *Plan) *string { return &p.zone().File }),
		doc:   "The zone in master-file format (RFC 1035 section 5)."},

	{table: "resolver", key: "listen", example: `["127.0.0.1:53"]`,
		value:     into(listOf(socket, "addresses with ports"), func(p *Plan) *[]netip.AddrPort { return &p.Resolver.Listen }),
		otherwise: "default: none, so that only mxward uses it",
		doc:       "Where other programs of this machine may ask it too: loopback addresses only, for an open resolver is a weapon."},
	{table: "resolver", key: "root-hints", example: `"root.hints"`,
		value:     into(fileName, func(p *Plan) *string { return &p.Resolver.RootHints }),
		otherwise: "default: the built-in list of root servers",
		doc:       "The root servers to begin with, in the format of IANA's named.root."},

	{table: "resolver", key: "cache-size", byDefault: `"64MiB"`, example: `"256MiB"`,
		value: into(cacheSize, func(p *Plan) *int64 { return &p.Resolver.CacheSize }),
		doc:   "The memory that the cache may take; what was not asked for longest makes room. Units as in [smtp] max-size."},
	{table: "resolver", key: "stale-for", byDefault: `"24h"`, example: `"24h"`,
		value: into(staleFor, func(p *Plan) *time.Duration { return &p.Resolver.StaleFor }),
		doc:   "How long an answer still serves after its end, where its servers cannot be reached (RFC 8767); \"0s\" for not at all. No mail bounces by such an answer, and those of stub zones never serve."},
	{table: "resolver", key: "validate", byDefault: "true", example: "true",
		value: into(yesNo(), func(p *Plan) *bool { return &p.Resolver.Validate }),
		doc:   "Whether answers are validated by DNSSEC. Without it nothing is proved, and DANE is off."},
	{table: "resolver", key: "trust-anchors", example: `[". DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"]`,
		value:     into(listOf(trustAnchor, "DS or DNSKEY records"), func(p *Plan) *[]string { return &p.Resolver.TrustAnchors }),
		otherwise: "default: the keys of the Internet's root, where root-hints is not given",
		doc:       "The keys that validation begins with, as records of their zones."},
	{table: "resolver", key: "negative-trust-anchors", example: `["broken.example.net"]`,
		value:     into(listOf(zoneName, "domain names"), func(p *Plan) *[]dns.Name { return &p.Resolver.NegativeTrustAnchors }),
		otherwise: "default: none",
		doc:       "Zones whose operators have broken their signatures, to be believed without them for a while (RFC 7646). Take each out again when it is mended."},
	{table: "resolver", key: "rebind-protection", byDefault: "false", example: "true",
		value: into(yesNo(), func(p *Plan) *bool { return &p.Resolver.RebindProtection }),
		doc:   "Take private addresses out of what the world answers, so that no stranger's name leads into this network."},
	{table: "resolver", key: "private-zones", example: `["corp.example"]`,
		value:     into(listOf(zoneName, "domain names"), func(p *Plan) *[]dns.Name { return &p.Resolver.PrivateZones }),
		otherwise: "default: none but the stubs",
		doc:       "Zones that may have private addresses all the same."},

	{table: "resolver.stub", key: "name", required: true, example: `"bl.example.net"`,
		value: into(zoneName, func(p *Plan) *dns.Name { return &p.stub().Name }),
		doc:   "The zone's apex."},
	{table: "resolver.stub", key: "servers", required: true, example: `["127.0.0.1:5353"]`,
		value: into(listOf(nameServer, "addresses with or without a port"), func(p *Plan) *[]netip.AddrPort { return &p.stub().Servers }),
		doc:   "The zone's authoritative name servers, at port 53 or another; loopback is allowed."},
	{table: "resolver.forward", key: "name", required: true, example: `"."`,
		value: into(zoneName, func(p *Plan) *dns.Name { return &p.forward().Name }),
		doc:   "The zone's apex, or . for all names."},
	{table: "resolver.forward", key: "servers", required: true, example: `["192.0.2.53"]`,
		value: into(listOf(nameServer, "addresses with or without a port"), func(p *Plan) *[]netip.AddrPort { return &p.forward().Servers }),
		doc:   "The resolvers to ask, at port 53, with tls at port 853, or at another."},
	{table: "resolver.forward", key: "tls", example: `"dns.example.net"`,
		value:     into(overTLS, func(p *Plan) *TLS { return &p.forward().TLS }),
		otherwise: "default: false",
		doc:       "Ask over TLS and no other way (RFC 7858). The servers' certificates must be for this name, or with true for their addresses."},
	{table: "resolver.local", key: "name", required: true, example: `"db.internal.example.com"`,
		value: into(zoneName, func(p *Plan) *dns.Name { return &p.local().Name }),
		doc:   "The name."},
	{table: "resolver.local", key: "addresses", example: `["192.0.2.7"]`,
		value:     into(listOf(address, "IP addresses"), func(p *Plan) *[]netip.Addr { return &p.local().Addresses }),
		otherwise: "required, unless there are records",
		doc:       "Its addresses."},
	{table: "resolver.local", key: "records", example: `["MX 10 mx1.example.com", "300 TXT \"hello\""]`,
		value:     into(listOf(record, "records"), func(p *Plan) *[]string { return &p.local().Records }),
		otherwise: "default: none",
		doc:       "Its other records as in a zone file, without the name. The TTL before the type may be left out and is an hour then."},

	{table: "reports", key: "from", example: `"dmarc-reports@example.com"`,
		value:     into(recipient, func(p *Plan) *mail.Address { return &p.Reports.From }),
		otherwise: "default: no reports are sent, and nothing is counted for them",
		doc: "Who sends the reports, in the envelope too: bounces come there. The address's domain stands in each report as its reporter, and receivers want the message to pass DMARC as that domain's: " +
			"give its SPF record the addresses of this site, or better sign with dkim-key."},
	{table: "reports", key: "org", example: `"Example Ltd"`,
		value:     into(phrase, func(p *Plan) *string { return &p.Reports.Org }),
		otherwise: "default: the domain of from",
		doc:       "The reporter's name for people."},
	{table: "reports", key: "contact", example: `"https://example.com/dmarc"`,
		value:     into(phrase, func(p *Plan) *string { return &p.Reports.Contact }),
		otherwise: "default: none",
		doc:       "Where people find help with the reports."},
	{table: "reports", key: "dkim-selector", example: `"2026a"`,
		value:     into(selector, func(p *Plan) *string { return &p.Reports.DKIMSelector }),
		otherwise: "required beside dkim-key",
		doc:       "The selector of the key: its record stands at SELECTOR._domainkey.DOMAIN, where DOMAIN is that of from. mxward dkim key makes both."},
	{table: "reports", key: "dkim-key", example: `"/etc/mxward/2026a.pem"`,
		value:     into(fileName, func(p *Plan) *string { return &p.Reports.DKIMKey }),
		otherwise: "default: reports are not signed",
		doc:       "The private key that signs the reports, in PEM."},
	{table: "reports", key: "receive", example: `["dmarc@example.com"]`,
		value:     into(listOf(recipient, "mail addresses"), func(p *Plan) *[]mail.Address { return &p.Reports.Receive }),
		otherwise: "default: none",
		doc: "Addresses at the plan's domains to which reports of others come: what rua, ruf and the TLS-RPT record name. " +
			"Mail for them is read on its way and delivered as any other, so that what cannot be read is there for a person. It is never counted for reports of ours: reports about reports would have no end."},

	{table: "acme-account", key: "issuer", required: true, example: `"ca.example.net"`,
		value: into(hostName, func(p *Plan) *dns.Name { return &p.account().Issuer }),
		doc:   "The authority, by the domain that it names as its own in CAA records, such as letsencrypt.org."},
	{table: "acme-account", key: "uri", required: true, example: `"https://ca.example.net/acct/1234"`,
		value: into(accountURI, func(p *Plan) *string { return &p.account().URI }),
		doc:   "The account's URI, exactly as the authority gave it to the ACME client when it registered: it is compared octet by octet."},

	{table: "watch", key: "interval", byDefault: `"1h"`, example: `"6h"`,
		value: into(watchInterval, func(p *Plan) *time.Duration { return &p.Watch.Interval }),
		doc:   "How often each domain is looked at. What is seen for the first time is looked at again after five minutes, and told when it is still so."},
	{table: "watch", key: "mail-to", example: `["postmaster@example.net"]`,
		value:     into(listOf(recipient, "mail addresses"), func(p *Plan) *[]mail.Address { return &p.Watch.MailTo }),
		otherwise: "default: nobody gets mail",
		doc:       "Who is told by mail. Better somebody whose mail does not need the domains that are watched."},
	{table: "watch", key: "mail-from", example: `"mxward@example.com"`,
		value:     into(recipient, func(p *Plan) *mail.Address { return &p.Watch.MailFrom }),
		otherwise: "default: from of [reports]; required beside mail-to without that",
		doc:       "Who sends it. It is signed with the dkim-key of [reports] where from there is of the same domain."},
	{table: "watch", key: "severity", byDefault: `"warning"`, example: `"error"`,
		value: into(watchSeverity, func(p *Plan) *string { return &p.Watch.Severity }),
		doc:   "What is milder is not told; the metrics count it."},
	{table: "watch", key: "profile", byDefault: `"mail"`, example: `"strict"`,
		value: into(watchProfile, func(p *Plan) *string { return &p.Watch.Profile }),
		doc:   "What the domains are for, as --profile of mxward check."},
	{table: "watch", key: "selectors", example: `["2026a"]`,
		value:     into(listOf(selector, "DKIM selectors"), func(p *Plan) *[]string { return &p.Watch.Selectors }),
		otherwise: "default: that of [reports], and those that the domain's provider is known to have",
		doc:       "The selectors of the DKIM keys to look at, in all domains: no question can list them."},
	{table: "watch", key: "smtp", byDefault: "true", example: "false",
		value: into(yesNo(), func(p *Plan) *bool { return &p.Watch.SMTP }),
		doc:   "Whether the MX hosts are visited, once at each look, as a stranger would. Without it nothing is known of their certificates."},
	{table: "watch", key: "registries", byDefault: "false", example: "true",
		value: into(yesNo(), func(p *Plan) *bool { return &p.Watch.Registries }),
		doc:   "Whether third parties are asked too: the registry when a domain's registration ends (RDAP), and a public zone for the networks of its name servers."},
	{table: "watch", key: "baseline", example: `"known.toml"`,
		value:     into(fileName, func(p *Plan) *string { return &p.Watch.Baseline }),
		otherwise: "default: none",
		doc:       "What is known and shall not be told until a day, as --baseline of mxward check. It is read at the start."},

	{table: "metrics", key: "listen", example: `"127.0.0.1:9125"`,
		value:     into(socket, func(p *Plan) *netip.AddrPort { return &p.Metrics.Listen }),
		otherwise: "default: no metrics",
		doc:       "Where to listen. Whoever can connect there can read them."},
}

// The one that is being read is the last.
func (p *Plan) host() *Host       { return &p.Hosts[len(p.Hosts)-1] }
func (p *Plan) domain() *Domain   { return &p.Domains[len(p.Domains)-1] }
func (p *Plan) account() *Account { return &p.Accounts[len(p.Accounts)-1] }
func (p *Plan) flattened() *Flattened {
	copies := p.domain().Flattened
	return &copies[len(copies)-1]
}
func (p *Plan) zone() *Zone { return &p.DNS.Zones[len(p.DNS.Zones)-1] }
func (p *Plan) stub() *Stub { return &p.Resolver.Stubs[len(p.Resolver.Stubs)-1] }
func (p *Plan) forward() *Forward {
	return &p.Resolver.Forwards[len(p.Resolver.Forwards)-1]
}
func (p *Plan) local() *Local { return &p.Resolver.Local[len(p.Resolver.Local)-1] }
func (p *Plan) rung() *Rung {
	ladder := p.domain().Ladder
	return &ladder[len(ladder)-1]
}
