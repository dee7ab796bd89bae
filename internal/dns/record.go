package dns

import (
	"fmt"
	"strings"

	wire "github.com/miekg/dns"
)

// recordTTL is the TTL of a record that gives none, in seconds.
const recordTTL = 3600

// ParseRecord reads one record of owner in master-file format, without the owner:
// "MX 10 mx1.example.com.", or with a TTL before the type, "300 A 192.0.2.1". A name in it
// needs no dot at its end.
func ParseRecord(owner Name, text string) (RR, error) {
	if strings.ContainsAny(text, "\n\r") {
		return nil, fmt.Errorf("not a record: %q: it is more than one line", text)
	}
	parser := wire.NewZoneParser(strings.NewReader(owner.FQDN()+" "+text+"\n"), ".", "")
	parser.SetDefaultTTL(recordTTL)
	rr, ok := parser.Next()
	if err := parser.Err(); err != nil {
		why := err.Error()
		if _, after, found := strings.Cut(why, "dns: "); found {
			why = after
		}
		why, _, _ = strings.Cut(why, " at line")
		return nil, fmt.Errorf("not a record: %q: %s", text, why)
	}
	// The library takes a type without data for a record.
	if !ok || len(strings.Fields(rr.String())) < 5 || NameOf(rr.Header().Name) != owner || rr.Header().Class != wire.ClassINET {
		return nil, fmt.Errorf("not a record: %q", text)
	}
	return rr, nil
}
