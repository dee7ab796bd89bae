package audit

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"mxward/internal/dns"
	"mxward/internal/mailauth/spf"
)

func ptrChecks() []Check {
	return []Check{
		{"ptr.missing", "an MX host's address has no name", Error, []string{"RFC 1912 §2.1", "RFC 8601 §3"}, eachReverse(func(f *Facts, r Reverse) []verdict {
			switch {
			case r.PTR.Err != nil:
				return []verdict{unknown(f, r.PTR.Err, ThirdParty, r.question())}
			case len(r.PTR.Records) > 0:
				return nil
			}
			return []verdict{fail("many receivers take no mail from such an address", r.question()).by(ThirdParty).
				mend("have the provider of the address set it", Change{"add", dns.ReverseName(r.Addr).FQDN() + " PTR " + r.Host.FQDN()})}
		})},
		{"ptr.not-confirmed", "the name of an MX host's address does not lead back", Error, []string{"RFC 8601 §3"}, eachReverse(ptrConfirmed)},
		{"ptr.multiple", "an MX host's address has several names", Notice, []string{"RFC 1912 §2.1"}, eachReverse(func(f *Facts, r Reverse) []verdict {
			switch {
			case r.PTR.Err != nil:
				return []verdict{unknown(f, r.PTR.Err, ThirdParty, r.question())}
			case len(r.PTR.Records) < 2:
				return nil
			}
			return []verdict{fail(fmt.Sprintf("it has %d: %s", len(r.PTR.Records), names(r.PTR.Records)), r.question()).by(ThirdParty).mend("leave the one that the server says in EHLO")}
		})},
		{"ptr.generic", "the name of an MX host's address is one that the provider made up", Warning, []string{"RFC 5321 §2.3.5"}, eachReverse(func(f *Facts, r Reverse) []verdict {
			switch {
			case r.PTR.Err != nil:
				return []verdict{unknown(f, r.PTR.Err, ThirdParty, r.question())}
			case !slices.ContainsFunc(r.PTR.Records, r.spelled):
				return nil
			}
			return []verdict{fail(names(r.PTR.Records)+" spells the address: receivers take it for a dial-up line", r.question()).by(ThirdParty).
				mend("have the provider of the address set the host's name", Change{"replace", dns.ReverseName(r.Addr).FQDN() + " PTR " + r.Host.FQDN()})}
		})},
		{"ptr.zone-lame", "the servers of an address's reverse zone do not serve it", Error, []string{"RFC 1912 §2.8"}, eachReverse(func(f *Facts, r Reverse) []verdict {
			if !f.lameReverse(r) {
				return nil
			}
			return reverseTrouble(f, r)
		})},
		{"ptr.temperror", "the name of an MX host's address cannot be asked for", Warning, []string{"RFC 8601 §2.7.3"}, eachReverse(func(f *Facts, r Reverse) []verdict {
			if r.PTR.Err == nil || f.lameReverse(r) {
				return nil // ptr.zone-lame
			}
			return reverseTrouble(f, r)
		})},
	}
}

func (r Reverse) question() dns.Question {
	return dns.Question{Name: dns.ReverseName(r.Addr), Type: dns.TypePTR}
}

func eachReverse(judge func(*Facts, Reverse) []verdict) func(*Facts) []verdict {
	return needHosts(func(f *Facts) []verdict {
		judged := func(r Reverse) bool { return !f.unreachable(r.Addr) && !f.sendsNone(r.Addr) }
		some := slices.ContainsFunc(f.Reverse, judged)
		if trouble := f.hostTrouble(); !some && trouble != nil {
			return trouble
		}
		if !some && slices.ContainsFunc(f.Reverse, func(r Reverse) bool { return f.sendsNone(r.Addr) }) {
			return na("by the plan no mail leaves from the MX hosts' addresses: they are traps and decoys")
		}
		if !some { // who has a private one has mx.private-address, and nobody can give it a name
			return na("no MX host has an address that is known and the world's")
		}
		var all []verdict
		for _, r := range f.Reverse {
			if !judged(r) {
				continue
			}
			for _, v := range judge(f, r) {
				all = append(all, v.at(r.Addr.String()))
			}
		}
		return all
	})
}

// lame: the servers of a delegation cannot be found, or answer that the zone is not theirs.
func lame(err error) bool {
	var e *dns.Error
	if !errors.As(err, &e) {
		return false
	}
	refused := len(e.Attempts) > 0 && !slices.ContainsFunc(e.Attempts, func(a dns.Attempt) bool { return a.Said != dns.Refused.String() })
	return e.Trouble == dns.Lame || e.Trouble == dns.BrokenDelegation || e.Trouble == dns.ServerFailed && refused
}

// lameReverse: where another resolver was asked, its SERVFAIL does not say what it was, and the
// servers of the reverse zone do.
func (f *Facts) lameReverse(r Reverse) bool {
	heard := f.Direct[r.question()]
	return lame(r.PTR.Err) || r.PTR.Err != nil && len(heard) > 0 && !slices.ContainsFunc(heard, func(h Heard) bool { return h.Err != nil || h.serves() })
}

// reverseTrouble fails only where our own side is fine: then everybody meets it.
func reverseTrouble(f *Facts, r Reverse) []verdict {
	side := f.blame(r.PTR.Err, ThirdParty)
	switch {
	case side.Ours() || side == Nobody:
		return []verdict{unknown(f, r.PTR.Err, ThirdParty, r.question())}
	case f.Server.IsValid() && !f.bogus(r.PTR.Err) && !f.failsDirectly(r.PTR.Err):
		return []verdict{unknown(f, r.PTR.Err, ThirdParty, r.question()).by(Nobody)} // the resolver's word alone
	}
	return []verdict{fail(clip(r.PTR.Err.Error()), r.question()).by(ThirdParty).mend("tell the provider of the address")}
}

// ptrConfirmed: one name that leads back is enough (RFC 8601 §3).
func ptrConfirmed(f *Facts, r Reverse) []verdict {
	if r.PTR.Err != nil {
		return []verdict{unknown(f, r.PTR.Err, ThirdParty, r.question())}
	}
	if len(r.Names) == 0 {
		return nil // ptr.missing
	}
	asked := []dns.Question{r.question()}
	var trouble error
	for _, h := range r.Names {
		asked = append(asked, addrQuestions(h.Name)...)
		if slices.Contains(h.addrs(), r.Addr) {
			return nil
		}
		if err := h.err(); err != nil {
			trouble = err
		}
	}
	if trouble != nil {
		return []verdict{unknown(f, trouble, ThirdParty, asked...)}
	}
	family := "A"
	if r.Addr.Is6() {
		family = "AAAA"
	}
	name := r.Names[0].Name
	text := names(r.PTR.Records) + " does not have the address"
	if len(r.Names) > 1 {
		text = "none of its names has the address: " + names(r.PTR.Records)
	}
	v := fail(text, asked...).by(ThirdParty).
		mend("give the name the address, or the address another name", Change{"add", fmt.Sprintf("%s %s %s", name.FQDN(), family, r.Addr)})
	if f.Permitted[r.Addr] != spf.Pass { // receivers look at who sends
		v = v.as(Warning)
		v.detail += "; the domain's SPF does not let it send, and so it is taken for a host that only receives"
	}
	return []verdict{v}
}

// spelled reports whether a name holds all the numbers of the IPv4 address.
func (r Reverse) spelled(name dns.Name) bool {
	if !r.Addr.Is4() || name.CountLabels() == 0 {
		return false
	}
	first := name.Labels()[0]
	if len(first) < len("1-2-3-4") && name.CountLabels() > 4 {
		first = strings.Join(name.Labels()[:4], "-")
	}
	numbers := strings.FieldsFunc(first, func(c rune) bool { return c < '0' || c > '9' })
	for i := range numbers {
		numbers[i] = strings.TrimLeft(numbers[i], "0")
	}
	raw := r.Addr.As4()
	for _, octet := range raw {
		i := slices.Index(numbers, strings.TrimLeft(fmt.Sprint(octet), "0"))
		if i < 0 {
			return false
		}
		numbers = slices.Delete(numbers, i, i+1)
	}
	return true
}

func names(list []dns.Name) string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = n.String()
	}
	return clip(strings.Join(words, ", "))
}
