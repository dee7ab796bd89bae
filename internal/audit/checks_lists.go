package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/dns/blocklist"
)

func listChecks() []Check {
	return []Check{
		{"dnsbl.listed-ip", "an MX host's address is on a block list", Error, []string{"RFC 5782 §2.1"}, needAddrLists(addrListed)},
		{"dnsbl.listed-domain", "the domain is on a block list", Error, []string{"RFC 5782 §3"}, needLists(domainListed)},
		{"dnsbl.listed-policy", "an MX host's address is on a policy list", Warning, []string{"RFC 5782 §2.1"}, needAddrLists(addrPolicy)},
		{"dnsbl.list-unusable", "a block list does not answer", Info, []string{"RFC 5782 §5"}, needLists(listsUnusable)},
	}
}

// needLists: lists are asked.
func needLists(judge func(*Facts) []verdict) func(*Facts) []verdict {
	return func(f *Facts) []verdict {
		if !f.Lists.Asked {
			return []verdict{{status: Skipped, detail: "no list is asked"}}
		}
		return judge(f)
	}
}

// needAddrLists puts together what the lists say of each address.
func needAddrLists(judge func(f *Facts, addr string, all []Listing) verdict) func(*Facts) []verdict {
	return needLists(needHosts(func(f *Facts) []verdict {
		var verdicts []verdict
		for _, addr := range targets(f.Lists.Addrs) {
			all := slices.Clone(f.Lists.Addrs)
			all = slices.DeleteFunc(all, func(l Listing) bool { return l.Target != addr })
			verdicts = append(verdicts, judge(f, addr, all).at(addr))
		}
		if len(verdicts) == 0 {
			if trouble := f.hostTrouble(); trouble != nil {
				return trouble
			}
			return na("no MX host has an address that lists have")
		}
		if f.Lists.LeftOut > 0 {
			verdicts = append(verdicts, verdict{status: Skipped, detail: fmt.Sprintf("%d more addresses were not asked for", f.Lists.LeftOut)})
		}
		return verdicts
	}))
}

func targets(all []Listing) []string {
	var some []string
	for _, l := range all {
		if !slices.Contains(some, l.Target) {
			some = append(some, l.Target)
		}
	}
	return some
}

func addrListed(f *Facts, addr string, all []Listing) verdict {
	return listed(f, all, MXHost, blocklist.Listed)
}

// addrPolicy: where a policy says that no mail comes from, mail may well be taken; but answers to
// it, sent from there, are refused.
func addrPolicy(f *Facts, addr string, all []Listing) verdict {
	v := listed(f, all, MXHost, blocklist.Policy)
	if v.status != Fail {
		return v
	}
	return v.as(Warning).mend("mail that goes out from there is refused: send by another host, or let whoever owns the address take it off: " + removal(all, blocklist.Policy))
}

func domainListed(f *Facts) []verdict {
	if len(f.Lists.Domain) == 0 {
		return []verdict{{status: Skipped, detail: "no list of domains is asked"}}
	}
	v := listed(f, f.Lists.Domain, ThirdParty, blocklist.Listed, blocklist.Mixed)
	if v.status == Fail {
		v = v.mend("find out who sends in its name or has changed its web pages, end it, and then ask the list: " + removal(f.Lists.Domain, blocklist.Listed, blocklist.Mixed))
	}
	return []verdict{v}
}

// listed says which of the lists have the target with a code of these classes, and what they say
// of it. What could not be asked never makes it fail.
func listed(f *Facts, all []Listing, theirs Blame, classes ...blocklist.Class) verdict {
	var words []string
	var asked []dns.Question
	severity, ordinary, usable := Info, 0, 0
	for _, l := range all {
		v := l.verdict()
		if v.Unusable != "" {
			continue
		}
		usable++
		asked = append(asked, l.Question)
		bad := len(words)
		for _, class := range classes {
			if text := l.says(v, class); text != "" {
				words = append(words, text)
				severity = worse(severity, weigh(l.List, class, &ordinary))
			}
		}
		if len(words) > bad {
			asked = append(asked, dns.Question{Name: l.Question.Name, Type: dns.TypeTXT})
			asked = append(asked, l.Tests...)
		}
	}
	if len(words) > 0 {
		return fail(strings.Join(words, "; "), asked...).by(theirs).as(severity).mend("find out what was sent from there, end it, and then ask the list: " + removal(all, classes...))
	}
	if usable == 0 {
		return f.noList(all)
	}
	return verdict{status: Pass, detail: notListed(all, usable), asked: asked}
}

// weigh: a major list, or two that are not minor, make receivers refuse; one says only that
// something has happened.
func weigh(l blocklist.List, class blocklist.Class, ordinary *int) Severity {
	switch {
	case class == blocklist.Mixed, l.Weight == blocklist.Minor:
		return Notice
	case l.Weight == blocklist.Major:
		return Error
	}
	if *ordinary++; *ordinary > 1 {
		return Error
	}
	return Warning
}

func worse(a, b Severity) Severity {
	if b.AtLeast(a) {
		return b
	}
	return a
}

// says gives what a list says of its target in words: its codes of a class, and its own text.
func (l Listing) says(v blocklist.Verdict, class blocklist.Class) string {
	var codes []string
	for _, c := range v.Codes {
		if c.Class == class {
			codes = append(codes, c.Meaning)
		}
	}
	if len(codes) == 0 {
		return ""
	}
	answers := make([]string, len(l.Answer.Addrs))
	for i, a := range l.Answer.Addrs {
		answers[i] = a.String()
	}
	text := fmt.Sprintf("%s has %s (%s: %s)", l.List.Name, l.Target, clipTo(strings.Join(answers, ", "), maxListDetail), clipTo(strings.Join(codes, ", "), maxListDetail))
	for _, own := range l.Texts {
		text += ", " + quoted(clipTo(own, maxListDetail))
	}
	return text
}

// notListed says how many lists do not have the target, and which think well of it.
func notListed(all []Listing, usable int) string {
	text := fmt.Sprintf("%d of %d lists answer", usable, len(all))
	for _, l := range all {
		if good := l.says(l.verdict(), blocklist.Allow); good != "" {
			text += "; " + good
		}
	}
	return text
}

func removal(all []Listing, classes ...blocklist.Class) string {
	var where []string
	for _, l := range all {
		for _, class := range classes {
			if l.verdict().Is(class) && !slices.Contains(where, l.List.Removal) && l.List.Removal != "" {
				where = append(where, l.List.Removal)
			}
		}
	}
	return cmp.Or(strings.Join(where, ", "), "whoever runs it")
}

// noList: no list could be asked, which leaves nothing open about the domain's own records.
func (f *Facts) noList(all []Listing) verdict {
	side, text := f.unusable(all[0])
	return verdict{status: Unknown, blame: side, detail: "no list could be asked: " + all[0].List.Name + ": " + text, asked: all[0].Tests, aside: true}
}

// unusable says on whose side it lies that a list cannot be asked.
func (f *Facts) unusable(l Listing) (Blame, string) {
	v := l.verdict()
	made := len(f.Control.NoSuch.Records) > 0
	switch {
	case v.Unusable == blocklist.Silent:
		return f.blame(v.Err, ThirdParty), clip(v.Text)
	case v.Unusable == blocklist.Refuses && f.Server.IsValid():
		return LocalResolver, v.Text + "; lists do not answer public resolvers, nor those that ask very much"
	case v.Unusable == blocklist.Refuses:
		return LocalNetwork, v.Text + "; it may be that much is asked from this network, or that its addresses have no names"
	case v.Unusable == blocklist.Foreign && made:
		return LocalResolver, v.Text + ", as for any name that there is not"
	case v.Unusable == blocklist.NoTest && f.Server.IsValid():
		return Nobody, v.Text
	}
	return ThirdParty, v.Text
}

// listsUnusable has one verdict for each list and reason. What lies on our own side fails, so
// that it is mended; a list that has gone is nobody's here.
func listsUnusable(f *Facts) []verdict {
	var all []verdict
	for _, l := range slices.Concat(f.Lists.Addrs, f.Lists.Domain) {
		if l.verdict().Unusable == "" {
			continue
		}
		side, text := f.unusable(l)
		v := verdict{status: Unknown, detail: text, asked: append(slices.Clone(l.Tests), l.Question), aside: true}
		if side.Ours() && l.verdict().Unusable != blocklist.Silent {
			v = fail(text, v.asked...).mend(f.askByOneself())
		}
		v = v.by(side).at(l.List.Zone.String())
		same := func(o verdict) bool { return o.target == v.target && o.detail == v.detail }
		if !slices.ContainsFunc(all, same) {
			all = append(all, v)
		}
	}
	return all
}

func (f *Facts) askByOneself() string {
	if f.Server.IsValid() {
		return "ask from the root down, without another resolver; a mail host needs a resolver of its own for the lists"
	}
	return "a mail host needs a resolver of its own, at an address with a name of its own"
}
