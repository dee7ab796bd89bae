package resolver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
)

// Hint is the address of one root server.
type Hint struct {
	Name dns.Name
	Addr netip.Addr
}

// maxHintLine is far more than any record in a hints file needs.
const maxHintLine = 4096

// ParseHints reads root hints in master-file format, one record a line, as IANA's
// named.root has them: the root's NS records, and the addresses of the hosts that they
// name. Errors begin with file:line.
func ParseHints(r io.Reader, file string) ([]Hint, error) {
	var hints []Hint
	servers := map[dns.Name]bool{}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxHintLine), maxHintLine)
	number, owner := 0, "."
	for lines.Scan() {
		number++
		line, _, _ := strings.Cut(lines.Text(), ";")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "$TTL") {
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			line = owner + line // RFC 1035 §5.1: a blank owner is the last one
		}
		rr, err := wire.NewRR(line)
		if err != nil || rr == nil {
			return nil, fmt.Errorf("%s:%d: expected one NS, A or AAAA record, got %.100q", file, number, strings.TrimSpace(line))
		}
		owner = rr.Header().Name
		if ns, ok := rr.(*wire.NS); ok && owner == "." {
			servers[dns.NameOf(ns.Ns)] = true
			continue
		}
		addr, ok := address(rr)
		if !ok {
			return nil, fmt.Errorf("%s:%d: expected NS of the root, or A or AAAA, got %s of %s", file, number, dns.Type(rr.Header().Rrtype), owner)
		}
		hints = append(hints, Hint{dns.NameOf(owner), addr})
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("%s:%d: expected one NS, A or AAAA record, got a line of more than %d octets", file, number+1, maxHintLine)
	case err != nil:
		return nil, fmt.Errorf("%s:%d: %w", file, number+1, err)
	}
	return named(hints, servers, file)
}

// named keeps the addresses of the hosts that are root servers.
func named(hints []Hint, servers map[dns.Name]bool, file string) ([]Hint, error) {
	var kept []Hint
	for _, h := range hints {
		if servers[h.Name] {
			kept = append(kept, h)
		}
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("%s: expected NS records of the root with the addresses of their hosts, got none", file)
	}
	return kept, nil
}

// RootHints gives the root servers of the Internet as IANA lists them.
func RootHints() []Hint {
	hints := make([]Hint, 0, 2*len(rootServers))
	for _, s := range rootServers {
		name := dns.MustName(s.name)
		hints = append(hints, Hint{name, netip.MustParseAddr(s.v4)}, Hint{name, netip.MustParseAddr(s.v6)})
	}
	return hints
}

// rootServers is IANA's named.root of 2024-04-18 (https://www.internic.net/domain/named.root).
var rootServers = [...]struct{ name, v4, v6 string }{
	{"a.root-servers.net", "198.41.0.4", "2001:503:ba3e::2:30"},
	{"b.root-servers.net", "170.247.170.2", "2801:1b8:10::b"},
	{"c.root-servers.net", "192.33.4.12", "2001:500:2::c"},
	{"d.root-servers.net", "199.7.91.13", "2001:500:2d::d"},
	{"e.root-servers.net", "192.203.230.10", "2001:500:a8::e"},
	{"f.root-servers.net", "192.5.5.241", "2001:500:2f::f"},
	{"g.root-servers.net", "192.112.36.4", "2001:500:12::d0d"},
	{"h.root-servers.net", "198.97.190.53", "2001:500:1::53"},
	{"i.root-servers.net", "192.36.148.17", "2001:7fe::53"},
	{"j.root-servers.net", "192.58.128.30", "2001:503:c27::2:30"},
	{"k.root-servers.net", "193.0.14.129", "2001:7fd::1"},
	{"l.root-servers.net", "199.7.83.42", "2001:500:9f::42"},
	{"m.root-servers.net", "202.12.27.33", "2001:dc3::35"},
}
