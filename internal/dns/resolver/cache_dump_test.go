package resolver

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/dns"
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
	for i := len(dumpMagic) + 1; i < len(dump); i += 47 {
		broken := bytes.Clone(dump)
		broken[i] ^= 0x55
		if err := load(broken); !errors.Is(err, errDump) {
			t.Fatalf("octet %d changed: %v", i, err)
		}
	}
	if err := load([]byte("mxward cache 2\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")); !errors.Is(err, errDump) {
		t.Errorf("another version: %v", err)
	}
	other := bytes.Clone(dump)
	other[len(dumpMagic)] ^= 1
	if n, err := (&Resolver{Hints: w.Resolver.Hints}).Load(bytes.NewReader(other)); n != 0 || err != nil {
		t.Errorf("from one that did not validate as we do: %d pieces, %v", n, err)
	}
	if err := w.Resolver.Dump(brokenWriter{}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a disk that is full: %v", err)
	}
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
