package resolver

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mxward/internal/dns"
	"mxward/internal/dns/dnssec"
)

// warmed gives a world whose cache has one of everything, and the questions.
func warmed(t *testing.T) (*world, []string) {
	w, names := variedWorld(t)
	var asked []string
	for _, n := range names {
		for _, typ := range []string{"A", "AAAA", "MX", "TXT", "CNAME", "SRV", "TYPE65400"} {
			q := n + " " + typ
			if _, err := w.ask(q); err == nil {
				asked = append(asked, q)
			}
		}
	}
	return w, asked
}

func dumped(t *testing.T, r *Resolver) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := r.Dump(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestDump: after a restart the answers are the same, nothing is asked of any server, and
// what has expired meanwhile is not there.
func TestDump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, asked := warmed(t)
		before := map[string]dns.Answer{}
		for _, q := range asked {
			before[q], _ = w.ask(q)
		}
		dump := dumped(t, w.Resolver)
		again := &Resolver{Hints: w.Resolver.Hints, Dial: w.Dial}
		n, err := again.Load(bytes.NewReader(dump))
		if err != nil || n < 50 {
			t.Fatalf("%d pieces, %v", n, err)
		}
		w.Forget()
		for _, text := range asked {
			got, err := again.Resolve(t.Context(), question(text))
			if err != nil {
				t.Fatal(err)
			}
			if want := before[text]; got.Rcode != want.Rcode || !sameRecords(got.Answer, want.Answer) || !sameRecords(got.Authority, want.Authority) {
				t.Errorf("%s: got %v, want %v", text, got, want)
			}
		}
		if w.Total() != 0 {
			t.Errorf("%d packets", w.Total())
		}
		if second := dumped(t, again); len(second) != len(dump) {
			t.Errorf("the second dump has %d octets, the first %d", len(second), len(dump))
		}

		time.Sleep(250 * time.Second)
		later := &Resolver{Hints: w.Resolver.Hints, Dial: w.Dial}
		if m, err := later.Load(bytes.NewReader(dump)); err != nil || m >= n {
			t.Errorf("after a while %d of %d pieces, %v", m, n, err)
		}
		if _, ok := later.fromCache(question("long.com TXT")); ok { // 60 s
			t.Error("what had expired was loaded")
		}
		if a, ok := later.fromCache(question("www.com A")); !ok || a.Answer[0].Header().Ttl != 50 {
			t.Errorf("300 s, 250 s later: %v", a)
		}
		time.Sleep(48 * time.Hour)
		if m, err := later.Load(bytes.NewReader(dump)); err != nil || m != 0 {
			t.Errorf("after two days %d pieces, %v", m, err)
		}
	})
}

func sameRecords(a, b []dns.RR) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].String() != b[i].String() {
			return false
		}
	}
	return true
}

// TestLoadBroken: whatever is wrong with a dump is an error, and never more than that.
func TestLoadBroken(t *testing.T) {
	w, _ := warmed(t)
	dump := dumped(t, w.Resolver)
	load := func(b []byte) error {
		_, err := (&Resolver{Hints: w.Resolver.Hints}).Load(bytes.NewReader(b))
		return err
	}
	for n := 0; n < len(dump)-1; n += 41 {
		if err := load(dump[:n]); !errors.Is(err, errDump) {
			t.Fatalf("cut after %d of %d octets: %v", n, len(dump), err)
		}
	}
	for i := len(dumpMagic) + sha256.Size; i < len(dump); i += 47 {
		broken := bytes.Clone(dump)
		broken[i] ^= 0x55
		if err := load(broken); !errors.Is(err, errDump) {
			t.Fatalf("octet %d changed: %v", i, err)
		}
	}
	if err := load(append([]byte("mxward cache 1\n"), dump[len(dumpMagic):]...)); !errors.Is(err, errDump) {
		t.Errorf("another version: %v", err)
	}
	if err := w.Resolver.Dump(brokenWriter{}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a disk that is full: %v", err)
	}
}

// TestOtherDump: what a resolver has found that asked or believed others is not taken over.
func TestOtherDump(t *testing.T) {
	at := netip.MustParseAddrPort("192.0.2.60:53")
	other := netip.MustParseAddrPort("192.0.2.61:53")
	corp, org := dns.MustName("corp.example"), dns.MustName("example.org")
	anchor := dnssec.RootAnchors()[:1]
	hints := []Hint{{dns.MustName("a.root.example"), at.Addr()}}
	makers := map[string]func() *Resolver{
		"nothing":              func() *Resolver { return &Resolver{} },
		"no validation":        func() *Resolver { return &Resolver{NoValidation: true} },
		"other roots":          func() *Resolver { return &Resolver{Hints: hints} },
		"other anchors":        func() *Resolver { return &Resolver{Hints: hints, TrustAnchors: anchor} },
		"a negative anchor":    func() *Resolver { return &Resolver{NegativeTrustAnchors: []dns.Name{corp}} },
		"another negative one": func() *Resolver { return &Resolver{NegativeTrustAnchors: []dns.Name{org}} },
		"a stub":               func() *Resolver { return &Resolver{Stubs: []Stub{{corp, []netip.AddrPort{at}}}} },
		"the stub elsewhere":   func() *Resolver { return &Resolver{Stubs: []Stub{{corp, []netip.AddrPort{other}}}} },
		"a forward":            func() *Resolver { return &Resolver{Forwards: []Forward{{Zone: corp, Servers: []netip.AddrPort{at}}}} },
		"the forward over TLS": func() *Resolver {
			return &Resolver{Forwards: []Forward{{Zone: corp, Servers: []netip.AddrPort{at}, TLS: true}}}
		},
		"everything forwarded": func() *Resolver {
			return &Resolver{Forwards: []Forward{{Zone: dns.Root, Servers: []netip.AddrPort{at}}}}
		},
		"protection":         func() *Resolver { return &Resolver{RebindProtection: true} },
		"an exception to it": func() *Resolver { return &Resolver{RebindProtection: true, PrivateZones: []dns.Name{corp}} },
		"loopback":           func() *Resolver { return &Resolver{AllowLoopback: true} },
	}
	for from, maker := range makers {
		dump := dumped(t, maker())
		for to, taker := range makers {
			_, err := taker().Load(bytes.NewReader(dump))
			if same := from == to; errors.Is(err, ErrOtherDump) == same || same && err != nil {
				t.Errorf("from one with %s to one with %s: %v", from, to, err)
			}
		}
	}
	// The order of a plan means nothing, and what does not change answers neither.
	a := &Resolver{Stubs: []Stub{{corp, []netip.AddrPort{at, other}}, {org, []netip.AddrPort{at}}}, CacheBytes: 1 << 20, StaleFor: -1}
	b := &Resolver{Stubs: []Stub{{org, []netip.AddrPort{at}}, {corp, []netip.AddrPort{other, at}}}, NoIPv6: true}
	if _, err := b.Load(bytes.NewReader(dumped(t, a))); err != nil {
		t.Error(err)
	}
}

// TestDumpClock: a clock that was set back prolongs nothing, and what was asked again
// before the dump was read stays.
func TestDumpClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		name := dns.MustName("www.example.com")
		var early Resolver
		early.once.Do(early.start)
		time.Sleep(time.Hour) // the dump is made an hour later than it is read
		p := &piece{ask: ask{name: name, typ: dns.TypeA}, ttl: time.Minute, answer: records("www.example.com. 60 IN A 192.0.2.80")}
		var late Resolver
		late.once.Do(late.start)
		late.cache.keep(p, time.Time{}, time.Now())
		dump := dumped(t, &late)
		record := dump[len(dumpMagic)+sha256.Size+4:]
		at := record[14:22]
		binary.BigEndian.PutUint64(at, uint64(time.Now().Add(time.Hour).UnixNano()))
		length := binary.BigEndian.Uint32(dump[len(dumpMagic)+sha256.Size:])
		binary.BigEndian.PutUint32(record[length:], crc32.ChecksumIEEE(record[:length]))
		if n, err := early.Load(bytes.NewReader(dump)); n != 0 || err != nil {
			t.Errorf("a piece that lasts longer than its TTL: %d, %v", n, err)
		}
		fresh := &piece{ask: ask{name: name, typ: dns.TypeA}, ttl: time.Hour, answer: records("www.example.com. 3600 IN A 192.0.2.81")}
		early.cache.keep(fresh, time.Time{}, time.Now())
		if n, err := early.Load(bytes.NewReader(dumped(t, &late))); n != 0 || err != nil {
			t.Errorf("what is known anew was loaded over: %d, %v", n, err)
		}
		if a, ok := early.fromCache(dns.Question{Name: name, Type: dns.TypeA}); !ok || a.Answer[0].(*wire.A).A.String() != "192.0.2.81" {
			t.Errorf("%v, %v", a, ok)
		}
	})
}

// FuzzDump: a whole dump, whatever it is, is loaded or refused, and what comes of it is no
// more than what there was of it.
func FuzzDump(f *testing.F) {
	var r Resolver
	r.once.Do(r.start)
	for _, name := range []string{"www.example.com", "a.example.com"} {
		r.cache.keep(&piece{ask: ask{name: dns.MustName(name), typ: dns.TypeA}, ttl: time.Hour,
			answer: records(name + ". 3600 IN A 192.0.2.80")}, time.Time{}, time.Now())
	}
	var b bytes.Buffer
	if err := r.Dump(&b); err != nil {
		f.Fatal(err)
	}
	head := len(dumpMagic) + sha256.Size
	mark := b.Bytes()[:head:head]
	f.Add(b.Bytes()[head:])
	f.Add(b.Bytes()[head : b.Len()-3])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, pieces []byte) {
		n, err := new(Resolver).Load(bytes.NewReader(append(mark, pieces...)))
		if err != nil && !errors.Is(err, errDump) || n*(dumpFixed+dumpFrame) > len(pieces) {
			t.Fatalf("%d pieces of %d octets, %v", n, len(pieces), err)
		}
	})
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// FuzzLoad: a piece of a dump, whatever it is, is loaded or refused; what is loaded can be
// dumped and loaded again.
func FuzzLoad(f *testing.F) {
	p := &piece{ask: ask{name: dns.MustName("www.example.com"), typ: dns.TypeA}, ttl: time.Hour,
		answer: records("www.example.com. 3600 IN A 192.0.2.80")}
	alias := &piece{ask: ask{name: dns.MustName("a.example.com"), typ: dns.TypeCNAME}, ttl: time.Hour, target: dns.MustName("www.example.com"),
		answer: records("a.example.com. 3600 IN CNAME www.example.com.")}
	none := &piece{ask: ask{name: dns.MustName("no.example.com"), typ: dns.TypeA, dnssec: true}, rcode: dns.NXDomain, ttl: time.Hour, secure: true,
		authority: records("example.com. 3600 IN SOA ns.example.com. hostmaster.example.com. 1 2 3 4 5")}
	for _, p := range []*piece{p, alias, none} {
		var r Resolver
		r.once.Do(r.start)
		now := time.Now()
		r.cache.keep(p, time.Time{}, now)
		for i := range r.cache.shards {
			for _, e := range r.cache.shards[i].pieces() {
				f.Add(e.appendRecord(nil, now))
			}
		}
	}
	f.Add(make([]byte, dumpFixed))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < dumpFixed {
			return // readRecord lets nothing shorter pass
		}
		p, expires, err := parseRecord(b)
		if err != nil {
			if p != nil || !errors.Is(err, errDump) {
				t.Fatalf("%v with %v", p, err)
			}
			return
		}
		var r Resolver
		r.once.Do(r.start)
		r.cache.keep(p, expires, time.Now())
		var out bytes.Buffer
		if err := r.Dump(&out); err != nil {
			t.Fatal(err)
		}
		if _, err := new(Resolver).Load(&out); err != nil {
			t.Fatalf("what was loaded cannot be loaded again: %v", err)
		}
	})
}
