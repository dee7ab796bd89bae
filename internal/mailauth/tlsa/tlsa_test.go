package tlsa

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/lint"
)

func TestParse(t *testing.T) {
	digits := strings.Repeat("0123456789abcdef", 4)
	for _, row := range []struct {
		text, want string
		why        string
	}{
		{"3 1 1 " + digits, "3 1 1 " + digits, "the usual one"},
		{" 3\t1 1  " + strings.ToUpper(digits[:30]) + " " + digits[30:], "3 1 1 " + digits, "as dig prints it: groups and capitals"},
		{"255 255 255 00", "255 255 255 00", "numbers of the future"},
		{"3 1 1", "", "no data"},
		{"3 1 1 abc", "", "half an octet"},
		{"3 1 1 xyz0", "", "not hexadecimal"},
		{"3 1 256 00", "", "no octet"},
		{"DANE-EE 1 1 00", "", "a word for a number"},
		{"", "", "nothing"},
	} {
		r, err := Parse(row.text)
		got := r.String()
		if err != nil {
			got = ""
			if !errors.Is(err, ErrSyntax) || r != (Record{}) {
				t.Errorf("%s: %+v, %v", row.why, r, err)
			}
		}
		if got != row.want {
			t.Errorf("%s: got %q, want %q", row.why, got, row.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("3 1 1 00ff")
	f.Add("2 0 0 30 82 01")
	f.Add("3 1")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		if again, err := Parse(r.String()); err != nil || again != r {
			t.Fatalf("%q gives %q, then %q, %v", text, r, again, err)
		}
		Lint([]Record{r})
	})
}

// pair is a certificate and its key.
type pair struct {
	*x509.Certificate
	key crypto.Signer
}

// issue makes a certificate; issuer nil signs by itself. A name without a dot is an
// authority's.
func issue(t *testing.T, name string, issuer *pair, key crypto.Signer, until time.Duration) *pair {
	t.Helper()
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: time.Now().Add(until),
		IsCA: !strings.Contains(name, "."), BasicConstraintsValid: true,
	}
	if !template.IsCA {
		template.DNSNames = []string{name}
	}
	parent, signer := template, key
	if issuer != nil {
		parent, signer = issuer.Certificate, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &pair{c, key}
}

func TestMatch(t *testing.T) {
	const year, past = 8760 * time.Hour, -time.Hour
	mx1, mx2, domain := dns.MustName("mx1.example.com"), dns.MustName("mx2.example.com"), dns.MustName("example.com")
	ta := issue(t, "root", nil, nil, year)
	mid := issue(t, "intermediate", ta, nil, year)
	leaf := issue(t, "mx1.example.com", mid, nil, year)
	direct := issue(t, "mx1.example.com", ta, nil, year)
	late := issue(t, "mx1.example.com", ta, nil, past)
	alone := issue(t, "mx1.example.com", nil, nil, past)
	other := issue(t, "mx1.example.com", nil, nil, year)
	wild := issue(t, "*.example.com", ta, nil, year)
	domains := issue(t, "example.com", ta, nil, year)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edTA := issue(t, "ed", nil, edwards, year)
	edLeaf := issue(t, "mx1.example.com", edTA, nil, year)
	impostor := issue(t, "root", nil, nil, year) // another key, the same name
	forged := issue(t, "mx1.example.com", impostor, nil, year)

	of := func(p *pair, usage, selector, matching uint8) Record {
		return Of(p.Certificate, usage, selector, matching)
	}
	wrong := of(other, DANEEE, SPKI, SHA256)
	for _, row := range []struct {
		records []Record
		chain   []*pair
		names   []dns.Name
		want    string // the first three numbers of the record that matched, "none usable", or a part of the error
		why     string
	}{
		{[]Record{of(leaf, 3, 1, 1)}, []*pair{leaf, mid, ta}, nil, "3 1 1", "the usual one"},
		{[]Record{of(leaf, 3, 1, 2)}, []*pair{leaf}, nil, "3 1 2", "SHA-512 of the key"},
		{[]Record{of(leaf, 3, 1, 0)}, []*pair{leaf}, nil, "3 1 0", "the whole key"},
		{[]Record{of(leaf, 3, 0, 1)}, []*pair{leaf}, nil, "3 0 1", "SHA-256 of the certificate"},
		{[]Record{of(leaf, 3, 0, 2)}, []*pair{leaf}, nil, "3 0 2", "SHA-512 of the certificate"},
		{[]Record{of(leaf, 3, 0, 0)}, []*pair{leaf}, nil, "3 0 0", "the whole certificate"},
		{[]Record{of(alone, 3, 1, 1)}, []*pair{alone}, []dns.Name{mx2}, "3 1 1", "DANE-EE: expired, self-signed, of another name, and right (RFC 7671 §5.1)"},
		{[]Record{of(mid, 3, 1, 1)}, []*pair{leaf, mid, ta}, nil, "another certificate", "DANE-EE means the first of the chain alone"},
		{[]Record{wrong}, []*pair{leaf}, nil, "another certificate", "another key"},
		{[]Record{wrong, of(leaf, 3, 1, 1)}, []*pair{leaf}, nil, "3 1 1", "a rollover: the new key beside the old"},
		{[]Record{of(leaf, 3, 1, 1), wrong}, []*pair{leaf}, nil, "3 1 1", "in any order"},
		{[]Record{of(ta, 2, 1, 1)}, []*pair{leaf, mid, ta}, []dns.Name{mx1}, "2 1 1", "the authority, sent along"},
		{[]Record{of(ta, 2, 0, 2)}, []*pair{leaf, mid, ta}, []dns.Name{mx1}, "2 0 2", "its certificate"},
		{[]Record{of(mid, 2, 0, 1)}, []*pair{leaf, mid}, []dns.Name{mx1}, "2 0 1", "an authority in the middle, without the root"},
		{[]Record{of(ta, 2, 1, 1)}, []*pair{leaf, mid}, []dns.Name{mx1}, "not in the chain", "the authority is missing from the chain (RFC 7671 §5.2.2)"},
		{[]Record{of(ta, 2, 1, 1)}, []*pair{leaf, ta}, []dns.Name{mx1}, "unknown authority", "the middle is missing"},
		{[]Record{of(ta, 2, 0, 0)}, []*pair{leaf, mid}, []dns.Name{mx1}, "2 0 0", "the record has it whole: it need not be sent"},
		{[]Record{of(ta, 2, 1, 0)}, []*pair{leaf, mid}, []dns.Name{mx1}, "2 1 0", "its key is enough for that (RFC 7671 §5.2.3)"},
		{[]Record{of(ta, 2, 1, 0)}, []*pair{direct}, []dns.Name{mx1}, "2 1 0", "and for a server's certificate alone"},
		{[]Record{of(edTA, 2, 1, 0)}, []*pair{edLeaf}, []dns.Name{mx1}, "2 1 0", "a key of another kind"},
		{[]Record{of(ta, 2, 1, 0)}, []*pair{forged}, []dns.Name{mx1}, "not in the chain", "an issuer of the same name with another key"},
		{[]Record{of(ta, 2, 1, 1)}, []*pair{forged, ta}, []dns.Name{mx1}, "unknown authority", "an authority that has signed nothing of this is sent along"},
		{[]Record{of(ta, 2, 1, 1)}, []*pair{direct, ta}, []dns.Name{mx2}, "not for [mx2.example.com]", "DANE-TA: another name"},
		{[]Record{of(ta, 2, 1, 1)}, []*pair{direct, ta}, nil, "not for []", "nor without any"},
		{[]Record{of(ta, 2, 1, 1)}, []*pair{domains, ta}, []dns.Name{mx1, domain}, "2 1 1", "the domain's own name, where the MX records are secure"},
		{[]Record{of(ta, 2, 1, 1)}, []*pair{wild, ta}, []dns.Name{mx2}, "2 1 1", "a wildcard"},
		{[]Record{of(ta, 2, 1, 1)}, []*pair{late, ta}, []dns.Name{mx1}, "expired", "DANE-TA: the dates count"},
		{[]Record{of(direct, 2, 1, 1)}, []*pair{direct, ta}, []dns.Name{mx1}, "publish it with usage 3", "the server's own certificate is no authority"},
		{[]Record{of(other, 2, 1, 1), of(direct, 3, 1, 1)}, []*pair{direct, ta}, []dns.Name{mx2}, "3 1 1", "one record of several is enough"},
		{[]Record{of(leaf, 3, 1, 1), of(other, 3, 1, 2)}, []*pair{leaf}, nil, "another certificate", "the stronger digest decides (RFC 7671 §9)"},
		{[]Record{of(other, 3, 1, 1), of(leaf, 3, 1, 2)}, []*pair{leaf}, nil, "3 1 2", "and alone"},
		{[]Record{of(leaf, 3, 1, 1), {3, 1, 2, "short"}}, []*pair{leaf}, nil, "3 1 1", "one that cannot be used decides nothing"},
		{[]Record{of(leaf, 3, 1, 1), of(other, 3, 0, 2)}, []*pair{leaf}, nil, "3 1 1", "a digest of another selector stands by itself"},
		{[]Record{of(leaf, 3, 1, 0), of(other, 3, 1, 2)}, []*pair{leaf}, nil, "3 1 0", "whole data always counts"},
		{[]Record{of(leaf, 1, 1, 1), of(leaf, 0, 1, 1), of(leaf, 4, 1, 1), of(leaf, 3, 2, 1), {3, 1, 3, "x"}}, []*pair{leaf}, nil, "none usable", "only unusable ones: any certificate will do (RFC 7672 §2.2)"},
		{nil, []*pair{leaf}, nil, "none usable", "no records"},
		{[]Record{wrong}, nil, nil, "sent 0 certificates", "no certificate"},
		{[]Record{wrong}, make([]*pair, maxChain+1), nil, "sent 17 certificates", "too many"},
	} {
		var chain []*x509.Certificate
		for _, p := range row.chain {
			if p == nil {
				p = leaf
			}
			chain = append(chain, p.Certificate)
		}
		r, err := Match(row.records, chain, time.Now(), row.names...)
		got := "none usable"
		if r != (Record{}) {
			got = r.String()
		}
		if err != nil {
			got = err.Error()
			if !errors.Is(err, ErrMismatch) || r != (Record{}) {
				t.Errorf("%s: %v, %v", row.why, r, err)
			}
		}
		if !strings.Contains(got, row.want) || (err == nil && row.want[0] != got[0]) {
			t.Errorf("%s: got %s", row.why, got)
		}
	}
}

// Nothing that a record may hold makes Match fall.
func FuzzMatch(f *testing.F) {
	f.Add(uint8(2), uint8(1), uint8(0), []byte{0x30, 0})
	f.Add(uint8(2), uint8(0), uint8(0), []byte{})
	f.Add(uint8(3), uint8(1), uint8(1), []byte("12345678901234567890123456789012"))
	f.Fuzz(func(t *testing.T, usage, selector, matching uint8, data []byte) {
		ta := issue(t, "root", nil, nil, time.Hour)
		leaf := issue(t, "mx1.example.com", ta, nil, time.Hour)
		r, err := Match([]Record{{usage, selector, matching, string(data)}}, []*x509.Certificate{leaf.Certificate, ta.Certificate}, time.Now(), dns.MustName("mx1.example.com"))
		if r != (Record{}) {
			t.Errorf("%v, %v: a random record matched", r, err)
		}
	})
}

func TestConfig(t *testing.T) {
	key := issue(t, "mx1.example.com", nil, nil, -time.Hour)
	host := dns.MustName("mx1.example.com")
	good := []Record{Of(key.Certificate, 3, 1, 1)}
	other := []Record{Of(issue(t, "mx1.example.com", nil, nil, time.Hour).Certificate, 3, 1, 1)}
	for _, row := range []struct {
		result Result
		ok     bool
		why    string
	}{
		{Result{Base: host, State: Secure, Records: good}, true, "the key that the record means, though it has expired"},
		{Result{Base: host, State: Secure, Records: other}, false, "another key"},
		{Result{Base: host, State: Secure, Records: []Record{{1, 1, 1, "x"}}}, true, "no usable record: encrypted with anybody"},
		{Result{Base: host, State: Denied}, false, "no DANE: the configuration is the caller's, which verifies"},
		{Result{Base: host, State: Trouble, Err: errors.New("no reply")}, false, "no mail goes where nobody can tell"},
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0") // a pipe without buffers is no place for two ends that give up
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan string, 1)
		go func() {
			conn, err := ln.Accept()
			if err != nil {
				done <- "nobody"
				return
			}
			defer conn.Close()
			server := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{key.Raw}, PrivateKey: key.key}}})
			server.Handshake()
			done <- server.ConnectionState().ServerName
		}()
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		err = tls.Client(conn, row.result.Config(&tls.Config{RootCAs: x509.NewCertPool()})).Handshake()
		conn.Close()
		name := <-done
		ln.Close()
		if (err == nil) != row.ok || row.ok && name != host.String() {
			t.Errorf("%s: %v, the server heard %q", row.why, err, name)
		}
	}
}

func TestLint(t *testing.T) {
	key := issue(t, "mx1.example.com", nil, nil, time.Hour)
	of := func(usage, selector, matching uint8) Record {
		return Of(key.Certificate, usage, selector, matching)
	}
	host := dns.MustName("mx1.example.com")
	for _, row := range []struct {
		got  []lint.Finding
		want string
		why  string
	}{
		{Lint([]Record{of(3, 1, 1)}), "", "nothing to say"},
		{Lint([]Record{of(3, 1, 1), of(2, 0, 1)}), "", "of two kinds"},
		{Lint([]Record{of(1, 1, 1), of(3, 1, 1)}), "error dane.usage-pkix", "one for browsers"},
		{Lint([]Record{of(0, 1, 1)}), "error dane.usage-pkix, error dane.unusable", "and no other"},
		{Lint([]Record{{3, 1, 1, "x"}, of(3, 1, 1)}), "error dane.digest-length", "cut off"},
		{Lint([]Record{{3, 1, 9, "x"}, of(3, 1, 1)}), "error dane.unusable", "unknown"},
		{Lint([]Record{{3, 0, 0, "x"}, of(3, 1, 1)}), "error dane.unusable", "no certificate"},
		{Lint([]Record{of(3, 1, 0)}), "notice dane.matching-full", "large"},
		{Lint([]Record{of(3, 1, 2), of(3, 1, 1)}), "notice dane.digest-passed-over", "two digests"},
		{Lint(nil), "", "no records are no mistake"},
		{LintResult(Result{Host: host, State: Trouble, Err: errors.New("no reply")}), "error dane.denial-broken", "mail waits"},
		{LintResult(Result{Host: host, State: Denied}), "", "no DANE"},
		{LintResult(Result{Host: host, State: Secure, Records: []Record{of(0, 1, 1), of(3, 1, 1)}}), "error dane.usage-pkix", "by the host"},
	} {
		var got []string
		for _, f := range row.got {
			got = append(got, string(f.Severity)+" "+f.ID)
			if f.Text == "" || !strings.Contains(f.String(), f.Text) {
				t.Errorf("%s: %q says nothing", row.why, f)
			}
		}
		if s := strings.Join(got, ", "); s != row.want {
			t.Errorf("%s: got %s, want %s", row.why, s, row.want)
		}
	}
}
