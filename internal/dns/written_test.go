package dns

import (
	"bytes"
	"strings"
	"testing"

	wire "github.com/miekg/dns"
)

// TestWrittenRecord: what is written is read again to the octet, whatever a server may send.
func TestWrittenRecord(t *testing.T) {
	raw := func(typ uint16, data string) RR {
		return &wire.RFC3597{Hdr: wire.RR_Header{Name: "example.com.", Rrtype: typ, Class: wire.ClassINET, Ttl: 300}, Rdata: data}
	}
	for _, row := range []struct {
		why string
		rr  RR
	}{
		{"an address", &wire.A{Hdr: wire.RR_Header{Name: "Example.com.", Rrtype: wire.TypeA, Class: wire.ClassINET, Ttl: 300}, A: []byte{192, 0, 2, 1}}},
		{"texts with any octets", &wire.TXT{Hdr: wire.RR_Header{Name: "example.com.", Rrtype: wire.TypeTXT, Class: wire.ClassINET}, Txt: []string{`a "b" \\ ; $`, `\000\010\013\255`, ""}}},
		{"a name with odd octets", &wire.CNAME{Hdr: wire.RR_Header{Name: `\$INCLUDE\ x\@.example.com.`, Rrtype: wire.TypeCNAME, Class: wire.ClassINET, Ttl: 1<<32 - 1}, Target: `a\.b\;\(.example.com.`}},
		{"the root", &wire.NS{Hdr: wire.RR_Header{Name: ".", Rrtype: wire.TypeNS, Class: wire.ClassINET, Ttl: 300}, Ns: "."}},
		{"another class", &wire.TXT{Hdr: wire.RR_Header{Name: "version.bind.", Rrtype: wire.TypeTXT, Class: wire.ClassCHAOS}, Txt: []string{"9.18"}}},
		{"a type that nobody knows", raw(65280, "00ff")},
		{"no data, where that is allowed", &wire.APL{Hdr: wire.RR_Header{Name: "example.com.", Rrtype: wire.TypeAPL, Class: wire.ClassINET, Ttl: 300}}},
		{"no data, of a type that nobody knows", raw(65280, "")},
		{"octets that mean nothing", &wire.NULL{Hdr: wire.RR_Header{Name: "example.com.", Rrtype: wire.TypeNULL, Class: wire.ClassINET, Ttl: 300}, Data: "x\n"}},
		{"a signature", &wire.RRSIG{Hdr: wire.RR_Header{Name: "example.com.", Rrtype: wire.TypeRRSIG, Class: wire.ClassINET, Ttl: 300}, TypeCovered: wire.TypeMX, Algorithm: 13, Labels: 2, OrigTtl: 300, Expiration: 4294967295, Inception: 0, KeyTag: 1, SignerName: "example.com.", Signature: "AAAA"}},
	} {
		text, err := WriteRecord(row.rr)
		if err != nil || strings.Contains(text, "\n") {
			t.Errorf("%s: %q, %v", row.why, text, err)
			continue
		}
		again, err := ReadRecord(text)
		if err != nil {
			t.Errorf("%s: %q: %v", row.why, text, err)
			continue
		}
		want, _ := pack(row.rr)
		if got, err := pack(again); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %q is % x, want % x (%v)", row.why, text, got, want, err)
		}
	}
	for _, text := range []string{"", " ", "; a comment", "$INCLUDE /etc/hostname", "$ORIGIN x.", "$GENERATE 1-9 a$ A 192.0.2.1", "a. 1 IN A 192.0.2.1\nb. 1 IN A 192.0.2.2", "a. 1 IN A", "@wire", "@wire !", "@wire AAABAAEAAAEsAAA=", "@wire AAAA", "@wire " + strings.Repeat("A", 400)} {
		if rr, err := ReadRecord(text); err == nil {
			t.Errorf("%q is read as %v", text, rr)
		}
	}
}

// FuzzWrittenRecord: what can be read can be written, and read again.
func FuzzWrittenRecord(f *testing.F) {
	f.Add("example.com. 300 IN MX 10 mx1.example.com.")
	f.Add("@wire B2V4YW1wbGUDY29tAAABAAEAAAEsAATAAAIB")
	f.Fuzz(func(t *testing.T, text string) {
		rr, err := ReadRecord(text)
		if err != nil {
			return
		}
		written, err := WriteRecord(rr)
		if err != nil {
			return // a record without data, in words
		}
		if _, err := ReadRecord(written); err != nil {
			t.Errorf("%q: %q: %v", text, written, err)
		}
	})
}
