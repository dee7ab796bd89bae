package spf

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// typed says what people write where they mean something else.
var typed = strings.NewReplacer(
	"“", "", "”", "", "„", "", "‟", "", "«", "", "»", "", "‘", "", "’", "", "‚", "", "\"", "", "'", "",
	"‐", "-", "‑", "-", "‒", "-", "–", "-", "—", "-", "−", "-",
	"\u00a0", " ", "\u202f", " ", "\t", " ", "\r", " ", "\n", " ",
	"\u200b", "", "\u200c", "", "\u200d", "", "\u200e", "", "\u200f", "", "\u2060", "", "\ufeff", "",
)

// misnamed are names that are no mechanism's or modifier's, and what they stand for.
var misnamed = map[string]string{
	"ipv4": nameIP4, "ip": nameIP4, "ip-4": nameIP4, "i4": nameIP4, "ipv6": nameIP6, "ip-6": nameIP6,
	"inc": nameInclude, "includes": nameInclude, "inlcude": nameInclude, "include_": nameInclude,
	"exist": nameExists, "aaaa": nameA, "alll": nameAll, "al": nameAll,
}

// known are the names after which a colon may have been forgotten, and their delimiters.
var known = []struct{ name, delimiter string }{
	{nameInclude, ":"}, {nameExists, ":"}, {nameRedirect, "="}, {nameIP4, ":"}, {nameIP6, ":"},
	{namePTR, ":"}, {nameMX, ":"}, {nameExp, "="}, {nameA, ":"}, {nameAll, ""},
}

// guess gives terms that are right and that the writer of a wrong one may have meant; ""
// where nothing comes to mind. What it gives can be read.
func guess(word string) string {
	if len(word) > maxExplained {
		return ""
	}
	var meant []string
	for _, w := range strings.FieldsFunc(typed.Replace(word), func(r rune) bool { return r == ' ' || r == ';' || r == ',' }) {
		w, ok := mend(w)
		if !ok {
			return ""
		}
		meant = append(meant, w)
	}
	text := strings.Join(meant, " ")
	if text == word || len(text) > maxExplained {
		return ""
	}
	return text
}

// unfinished reports that a word ends in a delimiter or is a sign alone: a space too many
// may stand behind it.
func unfinished(word string) bool {
	return strings.HasSuffix(word, ":") || strings.HasSuffix(word, "=") || len(word) == 1 && strings.Contains("+-~?", word)
}

// mend tries the mistakes that are made, one after the other, until a word can be read.
func mend(word string) (string, bool) {
	if reads(word) {
		return word, true
	}
	sign, body := "", strings.TrimRight(word, ".;,")
	if body != "" && strings.IndexByte("+-~?", body[0]) >= 0 {
		sign, body = body[:1], strings.TrimLeft(body, "+-~? ")
	}
	if end := len(body) - 1; sign == "" && end > 0 && strings.IndexByte("-~?", body[end]) >= 0 {
		sign, body = body[end:], body[:end] // all-
	}
	for _, m := range []func(string) string{spelt, delimited, family, address} {
		body = m(body)
		switch {
		case reads(sign + body):
			return sign + body, true
		case reads(body): // a modifier takes no sign
			return body, true
		}
	}
	return "", false
}

func reads(word string) bool {
	if word == "" {
		return false
	}
	_, fault := parseTerm(word)
	return fault == nil
}

// spelt puts the right name for a wrong one: ipv4:192.0.2.1.
func spelt(body string) string {
	name := cutTermName(body)
	if right, ok := misnamed[strings.ToLower(name)]; ok {
		return right + body[len(name):]
	}
	return body
}

// delimited puts the delimiter that a name wants: ip4=192.0.2.1, redirect:example.com,
// include.example.com, ip4192.0.2.1.
func delimited(body string) string {
	lower := strings.ToLower(body)
	for _, k := range known {
		if rest, ok := strings.CutPrefix(lower, k.name); ok && rest != "" && k.delimiter != "" {
			if len(k.name) < 3 && isAlnum(rest[0]) {
				continue // "amazon", "mxs"
			}
			return k.name + k.delimiter + strings.TrimLeft(body[len(k.name):], ":=.;, ")
		}
	}
	return body
}

// family puts the mechanism that belongs to what follows it: ip4 with an IPv6 address or a
// host name, include or a with an address, a with two addresses.
func family(body string) string {
	name, value, ok := strings.Cut(body, ":")
	if !ok {
		return body
	}
	if as := address(value); as != value {
		return as
	}
	if strings.ContainsRune(value, '%') {
		return body
	}
	switch strings.ToLower(name) {
	case nameIP4, nameIP6:
		return nameA + ":" + value
	case nameA, nameMX, nameInclude, nameExists:
		if strings.Contains(value, "://") {
			_, value, _ = strings.Cut(value, "://")
			value, _, _ = strings.Cut(value, "/")
		}
		return name + ":" + strings.Trim(value, "@/")
	}
	return body
}

// address puts ip4 or ip6 before a bare address or network.
func address(body string) string {
	text, length, sliced := strings.Cut(strings.Trim(body, "[]"), "/")
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return body
	}
	if sliced {
		length = "/" + length
		if mask, err := netip.ParseAddr(length[1:]); err == nil && mask.Is4() { // 255.255.255.0
			ones, bits := net.IPMask(mask.AsSlice()).Size()
			if bits == 0 {
				return body
			}
			length = "/" + strconv.Itoa(ones)
		}
	}
	if a.Is4() {
		return nameIP4 + ":" + text + length
	}
	return nameIP6 + ":" + text + length
}
