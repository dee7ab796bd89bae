package tape

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mxward/internal/audit"
	"mxward/internal/dns"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/probe"
)

var (
	domain = dns.MustName("example.com")
	mx     = dns.Question{Name: domain, Type: dns.TypeMX}
)

// played records what f does with an auditor that asks as live does, and gives the tape.
func played(t *testing.T, live *audit.Auditor, f func(*audit.Auditor)) *Tape {
	t.Helper()
	var b bytes.Buffer
	r, err := Record(&b, live, []dns.Name{domain}, "test")
	if err != nil {
		t.Fatal(err)
	}
	taped, end := r.Begin(live, domain)
	f(taped)
	end()
	tape, err := Read(bytes.NewReader(b.Bytes()))
	if err := errors.Join(r.Err(), err); err != nil {
		t.Fatalf("%v\n%s", err, b.Bytes())
	}
	return tape
}

// TestErrors: whoever judges an error sees the same in it, whichever it is.
func TestErrors(t *testing.T) {
	late := &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
	bogus := &dns.Error{
		Question: dns.Question{Name: domain, Type: dns.TypeMX, DNSSEC: true}, Trouble: dns.Bogus, Extended: 7, Detail: "the signature has ended", Packets: 3,
		Attempts: []dns.Attempt{{Server: netip.MustParseAddrPort("192.0.2.53:53"), Name: "ns1.example.com", Protocol: "udp", Said: "NOERROR", Took: 1234567}},
		Err:      fmt.Errorf("read: %w", io.ErrUnexpectedEOF),
	}
	for _, row := range []struct {
		why string
		err error
	}{
		{"trouble of the DNS", bogus},
		{"trouble of the DNS, with more words around it", fmt.Errorf("ask for the policy: %w", bogus)},
		{"no time left", fmt.Errorf("resolve: %w", context.DeadlineExceeded)},
		{"told to stop", context.Canceled},
		{"no way there", &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ENETUNREACH}},
		{"refused", fmt.Errorf("connect: %w", syscall.ECONNREFUSED)},
		{"too late", late},
		{"two at once", errors.Join(late, syscall.EHOSTUNREACH)},
		{"a certificate", &tls.CertificateVerificationError{Err: errors.New("unknown authority")}},
		{"nothing that is known", errors.New("no such thing")},
	} {
		got, err := faultOf(row.err).err()
		if err != nil {
			t.Fatal(err)
		}
		if got.Error() != row.err.Error() {
			t.Errorf("%s: got %q, want %q", row.why, got, row.err)
		}
		for word, mark := range marks() {
			if errors.Is(got, mark) != errors.Is(row.err, mark) {
				t.Errorf("%s: %s is %t", row.why, word, errors.Is(got, mark))
			}
		}
		var a, b interface{ Timeout() bool }
		if x, y := errors.As(got, &a) && a.Timeout(), errors.As(row.err, &b) && b.Timeout(); x != y {
			t.Errorf("%s: a time-out: %t", row.why, x)
		}
		var c, d *tls.CertificateVerificationError
		if errors.As(got, &c) != errors.As(row.err, &d) {
			t.Errorf("%s: a certificate: %t", row.why, c != nil)
		}
		var e, w *dns.Error
		if errors.As(got, &e) != errors.As(row.err, &w) {
			t.Errorf("%s: trouble of the DNS: %t", row.why, e != nil)
		}
		if w != nil && (e.Error() != w.Error() || e.Question != w.Question || e.Trouble != w.Trouble || e.Extended != w.Extended || e.Packets != w.Packets || e.Attempts[0] != w.Attempts[0] || !errors.Is(e, io.ErrUnexpectedEOF)) {
			t.Errorf("%s: got %+v", row.why, e)
		}
	}
}

// TestTurns: what was asked more than once is answered in turn, and the last answer stays; what
// another domain asked will do; what nobody asked is not known.
func TestTurns(t *testing.T) {
	var n uint16
	live := &audit.Auditor{Resolver: dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) {
		n++
		return dns.Answer{Extended: n}, nil
	})}
	tape := played(t, live, func(a *audit.Auditor) {
		for range 2 {
			_, _ = a.Resolver.Resolve(t.Context(), mx)
		}
	})
	for _, who := range []dns.Name{domain, dns.MustName("example.org")} {
		r := tape.Auditor(who).Resolver
		for _, want := range []uint16{1, 2, 2, 2} {
			if answer, err := r.Resolve(t.Context(), mx); err != nil || answer.Extended != want {
				t.Errorf("%s: %+v, %v; want %d", who, answer, err, want)
			}
		}
		for _, q := range []dns.Question{{Name: domain, Type: dns.TypeTXT}, {Name: domain, Type: dns.TypeMX, DNSSEC: true}} {
			if _, err := r.Resolve(t.Context(), q); !errors.Is(err, audit.ErrNotRecorded) {
				t.Errorf("%s: %v", q, err)
			}
		}
	}
}

// TestNoNetwork: one that plays a tape has nothing to connect with, and what is not on it is an
// error.
func TestNoNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		live := &audit.Auditor{
			Resolver: dns.ResolverFunc(func(context.Context, dns.Question) (dns.Answer, error) { return dns.Answer{}, nil }),
			Asker:    askerFunc(nil), SMTP: &probe.Prober{}, Certs: &audit.CertLook{}, MTASTS: &mtasts.Fetcher{},
			Registry: func(context.Context, dns.Name) (time.Time, error) { return time.Time{}, nil },
		}
		a := played(t, live, func(*audit.Auditor) {}).Auditor(domain)
		at := netip.MustParseAddrPort("192.0.2.25:25")
		began := time.Now()
		_, asked := a.Asker.Ask(t.Context(), at, "udp", mx)
		_, shook := a.Certs.Leaf(t.Context(), at, domain)
		_, registered := a.Registry(t.Context(), domain)
		request, err := http.NewRequest(http.MethodGet, "https://mta-sts.example.com/", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, got := a.MTASTS.Wrap(nil).RoundTrip(request)
		for _, err := range []error{asked, shook, registered, got} {
			if !errors.Is(err, audit.ErrNotRecorded) {
				t.Errorf("%v", err)
			}
		}
		visits := a.SMTP.Visits(t.Context(), []probe.Target{{Host: domain, Addr: at.Addr()}})
		if step := a.SMTP.Knock(t.Context(), at.Addr()); len(visits) != 1 || visits[0].End().Trouble != probe.Stopped || step.Trouble != probe.Stopped {
			t.Errorf("%+v, %+v", visits, step)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %s", took)
		}
	})
}

type askerFunc func() dns.Said

func (f askerFunc) Ask(context.Context, netip.AddrPort, string, dns.Question) (dns.Said, error) {
	return f(), nil
}

// TestLimits: a recording that nobody could read again says so when it is made.
func TestLimits(t *testing.T) {
	for _, row := range []struct {
		why  string
		turn func(*Recorder)
		want string
		// goesOn: what comes after it is taken down
		goesOn bool
	}{
		{"a long line", func(r *Recorder) { r.put(strings.Repeat("x", maxLine)) }, "a line of a recording has at most", true},
		{"a record that is none", func(r *Recorder) {
			(&recording{Recorder: r}).question(questionLine{}, audit.Times{}, dns.Said{Answer: dns.Answer{Answer: []dns.RR{noRecord(t)}}}, nil)
		}, "take down the answer", true},
		{"many lines", func(r *Recorder) { r.size = maxFile }, "a recording has at most", false},
		{"a disk that is full", func(r *Recorder) { r.w = full{} }, "no space left", false},
	} {
		var b bytes.Buffer
		r, err := Record(&b, &audit.Auditor{}, []dns.Name{domain}, "test")
		if err != nil {
			t.Fatal(err)
		}
		row.turn(r)
		length := b.Len()
		_, end := r.Begin(&audit.Auditor{}, domain)
		end()
		if err := r.Err(); err == nil || !strings.Contains(err.Error(), row.want) || (b.Len() > length) != row.goesOn {
			t.Errorf("%s: %v", row.why, err)
		}
	}
	line := `{"kind":"x"` + strings.Repeat(" ", 1<<20) + "}\n"
	var long []io.Reader
	for range maxFile>>20 + 1 {
		long = append(long, strings.NewReader(line))
	}
	if _, err := Read(io.MultiReader(append([]io.Reader{strings.NewReader(header + start)}, long...)...)); err == nil || !strings.Contains(err.Error(), "a recording has at most") {
		t.Errorf("a long file: %v", err)
	}
}

const (
	header = `{"schema":"mxward.tape/1","version":"1.0","when":"2026-11-01T12:00:00Z","domains":["example.com"],"asked":{"direct":true,"smtp":true,"mtasts":true,"certificates":true,"registry":true}}` + "\n"
	start  = `{"kind":"domain","domain":"example.com","when":"2026-11-01T12:00:00Z","no_such":"mxward-x"}` + "\n"
)

// noRecord is one that does not fit into a packet.
func noRecord(t *testing.T) dns.RR {
	t.Helper()
	rr, err := dns.ParseRecord(domain, "MX 10 mx1.example.com.")
	if err != nil {
		t.Fatal(err)
	}
	rr.Header().Name = strings.Repeat("a", 70) + "."
	return rr
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestWrong: each line that cannot be is refused, with its number.
func TestWrong(t *testing.T) {
	for _, row := range []struct{ why, text, want string }{
		{"no domain's time", header + `{"kind":"domain","domain":"example.com","when":"yesterday","no_such":"x"}` + "\n", `line 2: expected a time such as 2027-01-31T12:00:00Z, got "yesterday": the file was changed or damaged`},
		{"broken in the middle", header + `{"kind":"domain","dom` + "\n" + start, "line 2: expected one object of JSON, which is broken at octet 22: the file was changed or damaged"},
		{"a name that is a number", header + `{"kind":"question","domain":5}` + "\n" + start, "line 2: "},
		{"a time that is a number", header + `{"kind":7}` + "\n" + start, "line 2: kind cannot be a JSON number: the file was changed or damaged"},
		{"no label", header + `{"kind":"domain","domain":"example.com","when":"2026-11-01T12:00:00Z","no_such":""}` + "\n", "line 2: no_such"},
		{"a domain twice", header + start + start, "line 3: example.com begins twice"},
		{"no answer and no error", header + start + `{"kind":"question","domain":"example.com","question":{"name":"example.com","type":"MX"},"said":null,"error":null}` + "\n", "line 3: expected said or error"},
		{"a type that there is not", header + start + `{"kind":"question","domain":"example.com","question":{"name":"example.com","type":"MXX"},"said":{}}` + "\n", `line 3: there is no type "MXX"`},
		{"a record that is none", header + start + `{"kind":"question","domain":"example.com","question":{"name":"example.com","type":"MX"},"said":{"answer":["@wire AAAA"]}}` + "\n", "line 3: not the bytes of a record"},
		{"no certificate", header + start + `{"kind":"certificate","domain":"example.com","server":"192.0.2.1:993","name":"example.com","leaf":"AAAA"}` + "\n", "line 3: x509"},
		{"too many selectors", strings.Replace(header, `"direct":true`, `"selectors":["a"`+strings.Repeat(`,"a"`, audit.MaxSelectors)+`]`, 1) + start, "line 1: at most 32 selectors"},
		{"no object", header + "[]\n", "line 2: expected an object, got a JSON array: the file was"},
	} {
		if _, err := Read(strings.NewReader(row.text)); err == nil || !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%s: %v", row.why, err)
		}
	}
}

// FuzzTape: whatever stands in a file, it is refused, or judged within its limits.
func FuzzTape(f *testing.F) {
	golden, err := os.ReadFile("../../../cmd/mxward/testdata/check.tape")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.Join(bytes.SplitAfter(golden, []byte("\n"))[:12], nil)) // all of it is slow to make smaller
	f.Add([]byte(header + start + `{"kind":"visit","domain":"example.com","address":"192.0.2.25","session":{"steps":[{"stage":"connect"},{"stage":"greeting","code":220}],"tls":{"chain":["AAAA"]}}}` + "\n"))
	f.Add([]byte(header + start + `{"kind":"web","domain":"example.com","url":"https://mta-sts.example.com/.well-known/mta-sts.txt","status":200,"body":"AAAA","chain":[],"body_error":{"text":"x","is":["eof","certificate"],"dns":{"question":{"name":"","type":"A"},"trouble":"lame","cause":{"text":"y"}}}}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		tape, err := Read(bytes.NewReader(text))
		if err != nil {
			return
		}
		for _, d := range tape.Domains[:min(2, len(tape.Domains))] {
			a := tape.Auditor(d)
			audit.Judge(a.Gather(t.Context(), d), audit.Checks())
		}
	})
}
