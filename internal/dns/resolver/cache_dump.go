package resolver

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
)

// A dump is a line that names the format and its version, the fingerprint of whom it was
// made by, and the pieces, each with its length before and a checksum behind it. An empty
// piece and the number of pieces end it.
const (
	dumpMagic     = "mxward cache 2\n"
	maxDump       = 256 << 20 // octets; what does not fit is left out
	maxDumpRecord = 128 << 10
	dumpFixed     = 27 // octets before the names
	dumpFrame     = 8  // octets around a piece
)

// Flags of a piece in a dump.
const (
	dumpDNSSEC = 1 << iota
	dumpUnchecked
	dumpSecure
	dumpAlias
)

var errDump = errors.New("not a dump of a cache")

// ErrOtherDump is that of Load for a dump of a resolver to which answers meant something
// else: it believed or asked others.
var ErrOtherDump = errors.New("it was made with other roots, trust anchors, zones or protection")

// fingerprint is a digest of all that decides what a piece of the cache means: where the
// tree begins, who is asked for what, who is believed, and what is taken out of answers.
// Local data are not among it: they are never cached, and stand before the cache.
func (r *Resolver) fingerprint() [sha256.Size]byte {
	var lines []string
	line := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, h := range r.Hints {
		line("root %s %s", h.Name, h.Addr)
	}
	for _, s := range r.Stubs {
		line("stub %s %s", s.Zone, sortedServers(s.Servers))
	}
	for _, f := range r.Forwards {
		line("forward %s %s %t %s", f.Zone, sortedServers(f.Servers), f.TLS, f.ServerName)
	}
	for _, anchors := range r.trust.anchors {
		for _, rr := range anchors {
			line("anchor %s", rr)
		}
	}
	for _, zone := range r.trust.negative {
		line("negative %s", zone)
	}
	if r.RebindProtection {
		line("protected")
		for _, zone := range r.PrivateZones {
			line("private %s", zone)
		}
	}
	line("loopback %t", r.AllowLoopback)
	slices.Sort(lines)
	return sha256.Sum256([]byte(strings.Join(lines, "\n")))
}

func sortedServers(servers []netip.AddrPort) []netip.AddrPort {
	return slices.SortedFunc(slices.Values(servers), netip.AddrPort.Compare)
}

// Dump writes what the cache knows and what has not expired, with the time at which each
// piece will, so that Load can go on from there after a restart. It hinders nobody.
func (r *Resolver) Dump(w io.Writer) error {
	r.once.Do(r.start)
	now := time.Now()
	out := bufio.NewWriter(w)
	_, _ = out.WriteString(dumpMagic) // errors stay with out until Flush
	mark := r.fingerprint()
	_, _ = out.Write(mark[:])
	count, size := uint32(0), len(dumpMagic)+len(mark)+dumpFrame
	var record []byte
	for i := range r.cache.shards {
		for _, e := range r.cache.shards[i].pieces() {
			if e.expires <= r.cache.since(now) {
				continue
			}
			record = e.appendRecord(record[:0], now)
			if size += dumpFrame + len(record); size > maxDump {
				break
			}
			writeRecord(out, record)
			count++
		}
	}
	_, _ = out.Write(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 0}, count))
	if err := out.Flush(); err != nil {
		return fmt.Errorf("dump the cache: %w", err)
	}
	return nil
}

// pieces gives the shard's pieces, the oldest first.
func (s *shard) pieces() []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*entry
	for e := s.oldest; e != nil; e = e.newer {
		if e.key.kind == kindPiece {
			found = append(found, e)
		}
	}
	return found
}

func writeRecord(out *bufio.Writer, record []byte) {
	var octets [4]byte
	binary.BigEndian.PutUint32(octets[:], uint32(len(record)))
	_, _ = out.Write(octets[:])
	_, _ = out.Write(record)
	binary.BigEndian.PutUint32(octets[:], crc32.ChecksumIEEE(record))
	_, _ = out.Write(octets[:])
}

func (e *entry) appendRecord(record []byte, now time.Time) []byte {
	p := e.value.(*piece)
	flags := byte(0)
	for bit, set := range map[byte]bool{dumpDNSSEC: e.key.dnssec, dumpUnchecked: e.key.unchecked, dumpSecure: p.secure, dumpAlias: !p.target.IsZero()} {
		if set {
			flags |= bit
		}
	}
	record = append(record, flags, byte(p.cut))
	record = binary.BigEndian.AppendUint16(record, uint16(p.typ))
	record = binary.BigEndian.AppendUint16(record, uint16(p.rcode))
	record = binary.BigEndian.AppendUint64(record, uint64(p.ttl))
	// The clock of the wall: the process that loads it has another beginning of time.
	record = binary.BigEndian.AppendUint64(record, uint64(now.Add(p.expires.Sub(now)).UnixNano()))
	record = binary.BigEndian.AppendUint16(record, e.answers)
	record = binary.BigEndian.AppendUint16(record, e.authority)
	record = append(record, e.nameLen)
	record = append(record, e.name()...)
	record = p.target.AppendWire(record)
	return append(record, e.body()...)
}

// Load adds what a Dump has kept, except for what has expired since or is known anew, and
// gives how many pieces that were. What comes before an error is kept. Nothing is taken over
// from a Resolver with another fingerprint: that is ErrOtherDump. The source must be as
// trustworthy as the program itself. Questions may be asked meanwhile.
func (r *Resolver) Load(from io.Reader) (int, error) {
	r.once.Do(r.start)
	n, err := r.load(bufio.NewReader(io.LimitReader(from, maxDump)))
	if err != nil {
		return n, fmt.Errorf("load the cache: %w", err)
	}
	return n, nil
}

func (r *Resolver) load(in *bufio.Reader) (loaded int, err error) {
	head := make([]byte, len(dumpMagic)+sha256.Size)
	if _, err := io.ReadFull(in, head); err != nil {
		return 0, fmt.Errorf("%w: %w", errDump, err)
	}
	if string(head[:len(dumpMagic)]) != dumpMagic {
		return 0, fmt.Errorf("%w: it does not begin with %q", errDump, dumpMagic)
	}
	if mark := r.fingerprint(); string(head[len(dumpMagic):]) != string(mark[:]) {
		return 0, ErrOtherDump
	}
	now := time.Now()
	for count := uint32(0); ; count++ {
		record, err := readRecord(in, count)
		if err != nil || record == nil {
			return loaded, err
		}
		p, expires, err := parseRecord(record)
		if err != nil {
			return loaded, fmt.Errorf("piece %d: %w", count+1, err)
		}
		// A clock that was set back must not prolong anything.
		if !expires.After(now) || expires.Sub(now) > p.ttl || r.cache.find(p.ask, now) != nil {
			continue
		}
		r.cache.keep(p, expires, now)
		loaded++
	}
}

// readRecord gives the next piece, or nil at the end.
func readRecord(in *bufio.Reader, count uint32) ([]byte, error) {
	var octets [4]byte
	if _, err := io.ReadFull(in, octets[:]); err != nil {
		return nil, fmt.Errorf("%w: it is cut: %w", errDump, err)
	}
	length := binary.BigEndian.Uint32(octets[:])
	if length > maxDumpRecord || length > 0 && length < dumpFixed {
		return nil, fmt.Errorf("%w: a piece of %d octets", errDump, length)
	}
	record := make([]byte, length)
	if _, err := io.ReadFull(in, record); err != nil {
		return nil, fmt.Errorf("%w: it is cut: %w", errDump, err)
	}
	if _, err := io.ReadFull(in, octets[:]); err != nil {
		return nil, fmt.Errorf("%w: it is cut: %w", errDump, err)
	}
	sum := binary.BigEndian.Uint32(octets[:])
	if length == 0 {
		if sum != count {
			return nil, fmt.Errorf("%w: %d pieces, and not %d as it says", errDump, count, sum)
		}
		return nil, nil
	}
	if sum != crc32.ChecksumIEEE(record) {
		return nil, fmt.Errorf("%w: a wrong checksum", errDump)
	}
	return record, nil
}

// parseRecord reads one piece. All of it is checked: a checksum is no proof of sense.
func parseRecord(record []byte) (*piece, time.Time, error) {
	flags := record[0]
	p := &piece{
		rcode:  dns.Rcode(binary.BigEndian.Uint16(record[4:])),
		ttl:    time.Duration(binary.BigEndian.Uint64(record[6:])),
		secure: flags&dumpSecure != 0,
		cut:    dnssec.Cut(record[1]),
	}
	p.typ, p.dnssec, p.unchecked = dns.Type(binary.BigEndian.Uint16(record[2:])), flags&dumpDNSSEC != 0, flags&dumpUnchecked != 0
	expires := time.Unix(0, int64(binary.BigEndian.Uint64(record[14:])))
	answers, authority := int(binary.BigEndian.Uint16(record[22:])), int(binary.BigEndian.Uint16(record[24:]))
	nameLen, rest := int(record[26]), record[dumpFixed:]
	if p.rcode != dns.NoError && p.rcode != dns.NXDomain || p.ttl <= 0 || p.ttl > maxTTL || p.cut > dnssec.InsecureCut || nameLen > len(rest) {
		return nil, expires, fmt.Errorf("%w: a piece that makes no sense", errDump)
	}
	name, end, err := plainName(rest)
	if err != nil || end != nameLen {
		return nil, expires, fmt.Errorf("%w: a name", errDump)
	}
	p.name = name
	body := rest[end:]
	if flags&dumpAlias != 0 {
		if p.target, end, err = plainName(body); err != nil {
			return nil, expires, fmt.Errorf("%w: a name", errDump)
		}
		body = body[end:]
	}
	if p.answer, p.authority, err = parseBody(rest[:nameLen], body, answers, authority); err != nil {
		return nil, expires, err
	}
	return p, expires, nil
}

// plainName reads a name without compression and says where it ends.
func plainName(b []byte) (dns.Name, int, error) {
	off := 0
	for off < len(b) && b[off] != 0 && b[off] < 64 {
		off += 1 + int(b[off])
	}
	if off >= len(b) || off >= maxNameOctets || b[off] != 0 {
		return dns.Name{}, 0, errDump
	}
	text, _, err := wire.UnpackDomainName(b[:off+1], 0)
	name := dns.NameOf(text)
	if err != nil || name.IsZero() {
		return dns.Name{}, 0, errDump
	}
	return name, off + 1, nil
}

// parseBody reads the records of a piece, with the same care as a reply from the network.
func parseBody(name, body []byte, answers, authority int) (answer, auth []dns.RR, err error) {
	msg := make([]byte, headerSize, headerSize+len(name)+questionTail+len(body))
	msg = append(append(append(msg, name...), make([]byte, questionTail)...), body...)
	off := headerSize + len(name) + questionTail
	for i := range answers + authority {
		var rr dns.RR
		if rr, off, err = record(msg, off); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errDump, err)
		}
		if h := rr.Header(); h.Class != wire.ClassINET || h.Rrtype == wire.TypeOPT {
			return nil, nil, fmt.Errorf("%w: a record that is no data", errDump)
		}
		if i < answers {
			answer = append(answer, rr)
		} else {
			auth = append(auth, rr)
		}
	}
	if off != len(msg) {
		return nil, nil, fmt.Errorf("%w: octets after the records", errDump)
	}
	return answer, auth, nil
}
