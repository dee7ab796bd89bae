package dnssec

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// clockSkew is by how much clocks may differ, ours and the signer's.
const clockSkew = 5 * time.Minute

// Set is an RRset with its signatures.
type Set struct {
	Name    dns.Name
	Type    dns.Type
	Records []dns.RR
	Sigs    []*wire.RRSIG
}

// String names the set for people.
func (s Set) String() string { return s.Name.String() + " " + s.Type.String() }

// Group sorts the records of a section into sets, in the order in which they come, with
// the signatures that cover them. Signatures over nothing are left out.
func Group(section []dns.RR) []Set {
	type key struct {
		name dns.Name
		typ  dns.Type
	}
	at := map[key]int{}
	var sets []Set
	for _, rr := range section {
		h := rr.Header()
		if h.Rrtype == wire.TypeRRSIG || h.Rrtype == wire.TypeOPT {
			continue
		}
		k := key{dns.NameOf(h.Name), dns.Type(h.Rrtype)}
		i, ok := at[k]
		if !ok {
			i = len(sets)
			at[k] = i
			sets = append(sets, Set{Name: k.name, Type: k.typ})
		}
		sets[i].Records = append(sets[i].Records, rr)
	}
	for _, rr := range section {
		if sig, ok := rr.(*wire.RRSIG); ok {
			if i, ok := at[key{dns.NameOf(sig.Hdr.Name), dns.Type(sig.TypeCovered)}]; ok {
				sets[i].Sigs = append(sets[i].Sigs, sig)
			}
		}
	}
	return sets
}

// Signer gives the zone that a set's signatures name and that may have signed it: label by
// label at or above the owner, and in the zone whose servers gave the set. Where several
// are named, that zone itself is preferred. The zero Name means that nobody has signed.
func (s Set) Signer(servers dns.Name) dns.Name {
	var found dns.Name
	for _, sig := range s.Sigs {
		signer := dns.NameOf(sig.SignerName)
		if !s.Name.In(signer) || !signer.In(servers) || s.Type == dns.TypeDS && signer == s.Name && signer != dns.Root {
			continue
		}
		if found.IsZero() || signer == servers {
			found = signer
		}
	}
	return found
}

// Verdict is what a good signature says.
type Verdict struct {
	Sig      *wire.RRSIG
	Until    time.Time     // the signature's end
	TTL      time.Duration // the TTL that the zone gave the set
	Expanded bool          // the set was made from a wildcard: the caller needs a proof
	Labels   int           // of the closest encloser then
}

// Verify wants one signature by the zone over the set (RFC 4035 §5.3). The error is a
// *Fault, or ErrWork.
func (z *Zone) Verify(set Set, now time.Time, work *Work) (Verdict, error) {
	if len(set.Sigs) == 0 {
		return Verdict{}, fault(CodeSignaturesMissing, "there is no signature on %s", set)
	}
	var first error
	for i, sig := range set.Sigs {
		if i == maxSigsTried {
			break
		}
		verdict, err := z.try(set, sig, now, work)
		if err == nil || isWork(err) {
			return verdict, err
		}
		if first == nil || worse(err, first) {
			first = err
		}
	}
	return Verdict{}, first
}

// worse prefers, of several faults, the one that says most.
func worse(err, than error) bool { return rank(err) > rank(than) }

func rank(err error) int {
	f, ok := err.(*Fault)
	switch {
	case !ok:
		return 0
	case f.Code == CodeSignatureExpired || f.Code == CodeSignatureNotYetValid:
		return 3
	case f.Code == CodeBogus:
		return 2
	}
	return 1
}

// try checks one signature: first everything that costs nothing (RFC 4035 §5.3.1).
func (z *Zone) try(set Set, sig *wire.RRSIG, now time.Time, work *Work) (Verdict, error) {
	if err := z.plausible(set, sig, now); err != nil {
		return Verdict{}, err
	}
	raw, err := base64.StdEncoding.DecodeString(sig.Signature)
	if err != nil {
		return Verdict{}, fault(CodeBogus, "the signature on %s cannot be read", set)
	}
	keys := z.candidates(sig)
	if len(keys) == 0 {
		return Verdict{}, fault(CodeKeyMissing, "the signature on %s is by a key (tag %d, %s) that %s does not have",
			set, sig.KeyTag, algorithm(sig.Algorithm), z.Name)
	}
	data, err := signedData(set, sig)
	if err != nil {
		return Verdict{}, fault(CodeBogus, "%s cannot be put in canonical form: %v", set, err)
	}
	for _, k := range keys {
		if err := work.verify(); err != nil {
			return Verdict{}, err
		}
		if k.verify(data, raw) {
			labels := labelCount(set.Name)
			return Verdict{
				Sig:   sig,
				Until: serialTime(sig.Expiration, now), TTL: time.Duration(sig.OrigTtl) * time.Second,
				Expanded: int(sig.Labels) < labels, Labels: int(sig.Labels),
			}, nil
		}
		work.Failures++
	}
	return Verdict{}, fault(CodeBogus, "the signature on %s by %s (key tag %d) is wrong", set, z.Name, sig.KeyTag)
}

// plausible is what can be said of a signature without any key.
func (z *Zone) plausible(set Set, sig *wire.RRSIG, now time.Time) error {
	owner, signer := labelCount(set.Name), dns.NameOf(sig.SignerName)
	switch {
	case dns.NameOf(sig.Hdr.Name) != set.Name || dns.Type(sig.TypeCovered) != set.Type:
		return fault(CodeBogus, "a signature on %s covers something else", set)
	case signer != z.Name:
		return fault(CodeBogus, "the signature on %s is by %s, not by its zone %s", set, signer, z.Name)
	case !set.Name.In(z.Name):
		return fault(CodeBogus, "%s is not in %s", set, z.Name)
	case int(sig.Labels) > owner:
		return fault(CodeBogus, "the signature on %s is for a longer name", set)
	// Fewer labels than the signer has would be a wildcard above the zone (CVE-2026-11721
	// and its kin in other validators).
	case int(sig.Labels) < labelCount(z.Name):
		return fault(CodeBogus, "the signature on %s is for a wildcard above %s", set, z.Name)
	case !supportedAlgorithm(sig.Algorithm):
		return fault(CodeUnsupportedAlgorithm, "the signature on %s is by %s, which is not supported", set, algorithm(sig.Algorithm))
	}
	return inTime(set, sig, now)
}

// inTime compares times as serial numbers (RFC 4034 §3.1.5).
func inTime(set Set, sig *wire.RRSIG, now time.Time) error {
	from, until := serialTime(sig.Inception, now), serialTime(sig.Expiration, now)
	switch {
	case int32(sig.Expiration-sig.Inception) < 0:
		return fault(CodeBogus, "the signature on %s ends before it begins", set)
	case now.After(until.Add(clockSkew)):
		return fault(CodeSignatureExpired, "the signature on %s expired on %s", set, day(until))
	case now.Before(from.Add(-clockSkew)):
		return fault(CodeSignatureNotYetValid, "the signature on %s is valid only from %s", set, day(from))
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// serialTime gives the time nearest to now that a serial number can stand for.
func serialTime(serial uint32, now time.Time) time.Time {
	return time.Unix(now.Unix()+int64(int32(serial-uint32(now.Unix()))), 0)
}

// candidates gives the keys that the signature may be by.
func (z *Zone) candidates(sig *wire.RRSIG) []Key {
	var found []Key
	for _, k := range z.Keys {
		if k.Tag == sig.KeyTag && k.Algorithm == sig.Algorithm && (k.signs() || z.revoked && k.Revoked()) && k.Supported() && len(found) < maxKeysPerTag {
			found = append(found, k)
		}
	}
	return found
}

func algorithm(a uint8) string {
	if s, ok := wire.AlgorithmToString[a]; ok {
		return s
	}
	return "algorithm " + strconv.Itoa(int(a))
}

// signedData is what was signed (RFC 4034 §3.1.8.1): the RRSIG without its signature, and
// the set in canonical form and order, each record once (§6).
func signedData(set Set, sig *wire.RRSIG) ([]byte, error) {
	owner := set.Name
	if n := int(sig.Labels); n < labelCount(owner) {
		owner = wildcardOf(ancestor(owner, n)) // RFC 4035 §5.3.2
	}
	type form struct {
		whole []byte
		rdata int
	}
	var forms []form
	for _, rr := range set.Records {
		b, err := canonical(rr, owner, sig.OrigTtl)
		if err != nil {
			return nil, err
		}
		forms = append(forms, form{b, len(wireName(owner)) + 10})
	}
	slices.SortFunc(forms, func(a, b form) int { return bytes.Compare(a.whole[a.rdata:], b.whole[b.rdata:]) })
	data := binary.BigEndian.AppendUint16(nil, sig.TypeCovered)
	data = append(data, sig.Algorithm, sig.Labels)
	data = binary.BigEndian.AppendUint32(data, sig.OrigTtl)
	data = binary.BigEndian.AppendUint32(data, sig.Expiration)
	data = binary.BigEndian.AppendUint32(data, sig.Inception)
	data = binary.BigEndian.AppendUint16(data, sig.KeyTag)
	data = append(data, wireName(dns.NameOf(sig.SignerName))...)
	for i, f := range forms {
		if i == 0 || !bytes.Equal(f.whole, forms[i-1].whole) {
			data = append(data, f.whole...)
		}
	}
	return data, nil
}

// canonical gives a record's bytes as RFC 4034 §6.2 wants them.
func canonical(rr dns.RR, owner dns.Name, ttl uint32) ([]byte, error) {
	rr = wire.Copy(rr)
	h := rr.Header()
	h.Name, h.Ttl = owner.FQDN(), ttl
	lowerNames(rr)
	b := make([]byte, wire.Len(rr)+1)
	n, err := wire.PackRR(rr, b, 0, nil, false)
	return b[:min(n, len(b))], err
}

// lowerNames puts the names inside a record in lower case, for the types that RFC 4034
// §6.2 lists; by RFC 6840 §5.1 NSEC is not one of them, and RRSIG, HINFO and the types
// invented later neither.
func lowerNames(rr dns.RR) {
	lower := func(names ...*string) {
		for _, name := range names {
			*name = strings.ToLower(*name)
		}
	}
	switch rr := rr.(type) {
	case *wire.NS:
		lower(&rr.Ns)
	case *wire.MD:
		lower(&rr.Md)
	case *wire.MF:
		lower(&rr.Mf)
	case *wire.CNAME:
		lower(&rr.Target)
	case *wire.SOA:
		lower(&rr.Ns, &rr.Mbox)
	case *wire.MB:
		lower(&rr.Mb)
	case *wire.MG:
		lower(&rr.Mg)
	case *wire.MR:
		lower(&rr.Mr)
	case *wire.PTR:
		lower(&rr.Ptr)
	case *wire.MINFO:
		lower(&rr.Rmail, &rr.Email)
	case *wire.MX:
		lower(&rr.Mx)
	case *wire.RP:
		lower(&rr.Mbox, &rr.Txt)
	case *wire.AFSDB:
		lower(&rr.Hostname)
	case *wire.RT:
		lower(&rr.Host)
	case *wire.SIG:
		lower(&rr.SignerName)
	case *wire.RRSIG:
		lower(&rr.SignerName)
	case *wire.PX:
		lower(&rr.Map822, &rr.Mapx400)
	case *wire.NAPTR:
		lower(&rr.Replacement)
	case *wire.KX:
		lower(&rr.Exchanger)
	case *wire.SRV:
		lower(&rr.Target)
	case *wire.DNAME:
		lower(&rr.Target)
	}
}

// wireName gives a name's bytes without compression, in lower case.
func wireName(name dns.Name) []byte {
	b := make([]byte, 256)
	n, err := wire.PackDomainName(name.FQDN(), b, 0, nil, false)
	if err != nil {
		return nil // a Name cannot be too long
	}
	return b[:n]
}

// labels gives a name's labels as octets, from the right to the left.
func labels(name dns.Name) [][]byte {
	b := wireName(name)
	var found [][]byte
	for len(b) > 0 && b[0] != 0 {
		end := 1 + int(b[0])
		found = append(found, b[1:end])
		b = b[end:]
	}
	slices.Reverse(found)
	return found
}

// compare is the canonical order of names (RFC 4034 §6.1).
func compare(a, b dns.Name) int {
	la, lb := labels(a), labels(b)
	for i := range min(len(la), len(lb)) {
		if c := bytes.Compare(la[i], lb[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(la), len(lb))
}

// labelCount counts as RRSIG.Labels does: without the root and without a leading "*"
// (RFC 4034 §3.1.3).
func labelCount(name dns.Name) int {
	n := name.CountLabels()
	if name.String() == "*" || strings.HasPrefix(name.String(), "*.") {
		n--
	}
	return n
}

// ancestor gives the last n labels of a name.
func ancestor(name dns.Name, n int) dns.Name {
	for have := name.CountLabels(); have > n; have-- {
		name, _ = name.Parent()
	}
	return name
}

// wildcardOf gives the wildcard below a name, or the zero Name where there is no room.
func wildcardOf(name dns.Name) dns.Name {
	w, _ := name.Child("*")
	return w
}
