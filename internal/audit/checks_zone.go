package audit

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/dmarc"
)

// What a TTL and a message should be.
const (
	shortTTL = 5 * time.Minute    // ours; RFC 1912 §2.2 wants days
	longTTL  = 7 * 24 * time.Hour // RFC 8767 §4: what resolvers cap at
	fitsUDP  = 1232               // octets: what travels in one piece everywhere (RFC 9715 §3.1 has 1400 at most)
)

func zoneChecks() []Check {
	return []Check{
		{"zone.cname-at-apex", "the domain itself is an alias", Error, []string{"RFC 1034 §3.6.2", "RFC 1912 §2.4"}, cnameAtApex},
		{"zone.cname-coexistence", "an alias stands beside other records", Error, []string{"RFC 1034 §3.6.2", "RFC 2181 §10.1"}, cnameCoexistence},
		{"zone.wildcard-mail", "a wildcard takes mail for every name", Notice, []string{"RFC 4592 §2.2.1", "RFC 5321 §5.1"}, wildcardMail},
		{"zone.dangling-cname", "an alias leads nowhere", Warning, []string{"RFC 1912 §2.4"}, danglingCNAME},
		{"zone.ttl-low", "a record is forgotten soon", Notice, []string{"RFC 1912 §2.2"}, needLive(ttlLow)},
		{"zone.ttl-high", "a record is kept long", Notice, []string{"RFC 8767 §4", "RFC 1912 §2.2"}, needLive(ttlHigh)},
		{"zone.txt-oversize", "the TXT records of a name are too long", Warning, []string{"RFC 7208 §3.4", "RFC 9715 §3.1"}, needLive(txtOversize)},
	}
}

// kind is what is known of one type at the domain.
type kind struct {
	typ     dns.Type
	err     error
	aliased bool
}

func kindOf[T any](at dns.Name, typ dns.Type, set Fact[T]) kind {
	return kind{typ, set.Err, slices.Contains(set.Aliases, at)}
}

// kinds gives what was asked of the domain itself.
func (f *Facts) kinds() []kind {
	return []kind{
		kindOf(f.Domain, dns.TypeMX, f.MX), kindOf(f.Domain, dns.TypeA, f.Own.A), kindOf(f.Domain, dns.TypeAAAA, f.Own.AAAA),
		kindOf(f.Domain, dns.TypeTXT, f.TXT),
	}
}

// apex reports whether the domain is a zone of its own.
func (f *Facts) apex() bool {
	if f.Zone.Name.IsZero() {
		return dmarc.ListOrg(f.Domain) == f.Domain
	}
	return f.Zone.Name == f.Domain
}

func cnameAtApex(f *Facts) []verdict {
	if !f.apex() {
		return nil // a name inside a zone may be an alias, and mail follows it
	}
	var trouble []verdict
	for _, k := range f.kinds() {
		switch {
		case k.err != nil:
			trouble = []verdict{unknown(f, k.err, ZoneServers, f.q(k.typ))}
		case k.aliased:
			return []verdict{fail("its SOA and NS records stand there too, and an alias allows nothing beside it: what is answered differs from resolver to resolver", f.q(k.typ), f.q(dns.TypeSOA)).
				mend("write the addresses and MX records in place of the alias")}
		}
	}
	return trouble
}

// cnameCoexistence compares a server's answers to several types at one name: with an alias there,
// all of them are the alias's. At the apex, it is zone.cname-at-apex.
func cnameCoexistence(f *Facts) []verdict {
	var all []verdict
	if f.MX.Err != nil {
		all = append(all, unknown(f, f.MX.Err, ZoneServers, f.q(dns.TypeMX)))
	}
	for _, h := range f.inner() {
		if h.err() != nil { // whether it is an alias is not known, at least for one type
			all = append(all, unknown(f, h.err(), ZoneServers, addrQuestions(h.Name)...).at(h.Name.String()))
		}
	}
	for _, name := range f.aliases() {
		if !slices.ContainsFunc(f.Names.Besides, func(b Beside) bool { return b.Name == name }) {
			all = append(all, f.zoneUnknown().at(name.String()))
		}
	}
	for _, b := range f.Names.Besides {
		var aliased, own []dns.Type
		var asked, silent []dns.Question
		for _, t := range besideTypes() {
			h, q := b.Heard[t], dns.Question{Name: b.Name, Type: t}
			end, found := dns.Target(h.Said.Answer, q)
			switch {
			case !h.serves():
				silent = append(silent, q)
				continue
			case end != b.Name:
				aliased = append(aliased, t)
			case found:
				own = append(own, t)
			}
			asked = append(asked, q)
		}
		switch {
		case len(aliased) > 0 && len(own) > 0:
			all = append(all, fail(fmt.Sprintf("it is an alias for who asks for %s, and has %s records of its own", aliased[0], own[0]), asked...).
				at(b.Name.String()).mend("drop the alias, or the rest"))
		case len(silent) > 0:
			all = append(all, f.zoneUnknown(silent...).at(b.Name.String()))
		}
	}
	return all
}

func wildcardMail(f *Facts) []verdict {
	w := f.Names.Wild
	asked := []dns.Question{{Name: w.Name, Type: dns.TypeMX}, {Name: w.Name, Type: dns.TypeA}}
	text, do := "", "add"
	denied := w.Direct.serves() && w.Direct.Said.Rcode == dns.NXDomain
	made := len(f.Control.NoSuch.Records) > 0 && len(w.A.Records) > 0 || denied && f.Server.IsValid()
	switch {
	case w.Name.IsZero():
		return na("no name is so short that it could stand below")
	case made:
		return []verdict{{status: Unknown, blame: LocalResolver, detail: "the resolver makes up records for names that there are not", asked: asked}}
	case denied: // our own resolver had it from another of the zone's servers
		return []verdict{{status: Unknown, blame: ZoneServers, detail: "one of the zone's servers has a wildcard, and another one has none", asked: asked}}
	case w.MX.Err != nil:
		return []verdict{unknown(f, w.MX.Err, ZoneServers, asked[0])}
	case len(w.MX.Records) > 0 && !null(w.MX.Records):
		text, do = fmt.Sprintf("mail for %s, which nobody has made, goes to %s", w.Name, w.MX.Records[0].Host), "replace"
	case len(w.MX.Records) > 0 || !w.MX.Exists:
		return nil
	case w.A.Err != nil:
		return []verdict{unknown(f, w.A.Err, ZoneServers, asked...)}
	case len(w.A.Records) == 0:
		return nil
	default:
		text = fmt.Sprintf("mail for %s, which nobody has made, goes to %s, for want of an MX record", w.Name, w.A.Records[0])
	}
	return []verdict{fail(text+"; DMARC's np never applies, and mistyped names do not bounce", asked...).
		mend("unless that is meant, drop the wildcard or give it a null MX", Change{do, "*." + f.Domain.FQDN() + " MX 0 ."})}
}

func danglingCNAME(f *Facts) []verdict {
	var all []verdict
	for _, a := range f.Names.Well {
		switch {
		case a.Name.IsZero():
		case a.err() != nil:
			all = append(all, unknown(f, a.err(), ZoneServers, a.questions()...).at(a.Name.String()))
		case len(a.A.Aliases) > 0 && !a.leads():
			all = append(all, f.dangling(a).at(a.Name.String()))
		}
	}
	return all
}

// dangling judges an alias at whose end there is nothing. Where another resolver was asked, that is
// its word, which the servers there confirm or not.
func (f *Facts) dangling(a Alias) verdict {
	asked := append(a.questions(), addrQuestions(a.A.Canonical)...)
	text := "which has no address"
	switch {
	case len(a.Direct.Records) > 0:
		return verdict{status: Unknown, blame: LocalResolver, detail: fmt.Sprintf("the resolver says that %s, the end of the alias, is not there, and the servers there have it", a.A.Canonical), asked: asked}
	case a.Free:
		text = fmt.Sprintf("and the domain %s does not exist: who registers it speaks for the name", dmarc.ListOrg(a.A.Canonical))
	case !a.A.Exists:
		text = "which does not exist"
	}
	v := fail(fmt.Sprintf("it is an alias of %s, %s", a.A.Canonical, text), asked...).mend("drop it", Change{"delete", a.Name.FQDN() + " CNAME " + a.A.firstTarget().FQDN()})
	switch {
	case !f.Server.IsValid():
		return v
	case a.Direct.Err != nil:
		v.detail += fmt.Sprintf("; so says the resolver %s, and nobody else could be asked", f.Server.Addr())
		return v.sure(Single)
	}
	v.detail += fmt.Sprintf("; so say the resolver %s and the servers there", f.Server.Addr())
	return v.sure(Confirmed)
}

// ttls calls with the times of the records that mail asks for, as the zone's servers have them; a
// resolver's are what is left of them.
func (f *Facts) ttls(see func(dns.Type, time.Duration)) {
	for _, s := range f.Zone.Servers {
		if s.MX.serves() {
			if set, err := dns.LookupMX(context.Background(), dns.Given(s.MX.Said.Answer), f.Domain); err == nil && len(set.Records) > 0 {
				see(dns.TypeMX, set.TTL)
			}
		}
		if s.TXT.serves() {
			if set, err := dns.LookupTXT(context.Background(), dns.Given(s.TXT.Said.Answer), f.Domain); err == nil && len(set.Records) > 0 {
				see(dns.TypeTXT, set.TTL)
			}
		}
	}
}

// ttlTypes are those whose times are looked at.
func ttlTypes() []dns.Type { return []dns.Type{dns.TypeMX, dns.TypeTXT} }

// unheard gives a verdict for each type of which no server of the zone says anything.
func (f *Facts) unheard() (all []verdict) {
	heard := map[dns.Type]bool{}
	for _, s := range f.Zone.Servers {
		heard[dns.TypeMX], heard[dns.TypeTXT] = heard[dns.TypeMX] || s.MX.serves(), heard[dns.TypeTXT] || s.TXT.serves()
	}
	for _, t := range ttlTypes() {
		if !heard[t] {
			all = append(all, f.zoneUnknown(f.q(t)))
		}
	}
	return all
}

func ttlLow(f *Facts) []verdict {
	least := map[dns.Type]time.Duration{}
	f.ttls(func(t dns.Type, ttl time.Duration) {
		if known, ok := least[t]; !ok || ttl < known {
			least[t] = ttl
		}
	})
	all := f.unheard()
	for _, t := range ttlTypes() {
		if ttl, ok := least[t]; ok && ttl < shortTTL {
			all = append(all, fail(fmt.Sprintf("the %s records are kept for %.0f seconds: when the zone's servers are gone for a moment, so are they, and with them mail", t, ttl.Seconds()), f.q(t)).
				mend("an hour or more is usual, but for the time of a change"))
		}
	}
	return all
}

func ttlHigh(f *Facts) []verdict {
	most := map[dns.Type]time.Duration{}
	f.ttls(func(t dns.Type, ttl time.Duration) { most[t] = max(most[t], ttl) })
	all := f.unheard()
	for _, t := range ttlTypes() {
		if most[t] > longTTL {
			all = append(all, fail(fmt.Sprintf("the %s records are kept for %.1f days: a mistake in them lasts as long", t, most[t].Hours()/24), f.q(t)).mend("a day is enough"))
		}
	}
	return all
}

func txtOversize(f *Facts) []verdict {
	size := 0
	for _, s := range f.Zone.Servers {
		if s.TXT.serves() {
			size = max(size, s.TXT.Said.Size)
		}
	}
	switch {
	case size == 0:
		return []verdict{f.zoneUnknown(f.q(dns.TypeTXT))}
	case size <= fitsUDP:
		return nil
	}
	return []verdict{fail(fmt.Sprintf("they make an answer of %d octets, and no more than %d come in one datagram everywhere: who cannot ask over TCP sees no SPF", size, fitsUDP), f.q(dns.TypeTXT)).
		mend("drop what is no longer needed: most services look at their proof of ownership once")}
}
