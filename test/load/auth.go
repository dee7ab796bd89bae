package main

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"mxward/internal/dns"
	"mxward/internal/dns/dnstest"
	"mxward/internal/dns/resolver"
	"mxward/internal/dns/zone"
	"mxward/internal/mailauth"
	"mxward/internal/mailauth/dkim"
	"mxward/internal/mailauth/dmarc"
	"mxward/internal/mailauth/spf"
)

// What a run of the authentication takes.
const (
	authMessages = 1000  // signatures made or verified, and messages judged, in one run
	authPolicies = 50000 // SPF evaluations in one run
	authFiles    = 10    // different messages
	authBody     = 20_000
	authSelector = "s1"
)

// authZone is the whole internet of these measurements, at the root server; %s is the key.
// The policy needs three records and seven look-ups until it passes.
const authZone = `
@ 86400 SOA ns.example.com. hostmaster.example.com. 1 7200 900 1209600 3600
@ 86400 NS ns.example.com.
ns.example.com. 86400 A 198.51.100.7
example.com. 86400 TXT "v=spf1 mx:mail.example.com a:www.example.com include:one.example.com include:two.example.com -all"
mail.example.com. 86400 MX 10 www.example.com.
www.example.com. 86400 A 192.0.2.80
one.example.com. 86400 TXT "v=spf1 ip4:192.0.2.0/25 ip4:192.0.2.128/25 ip6:2001:db8::/48 a:www.example.com ~all"
two.example.com. 86400 TXT "v=spf1 ip4:203.0.113.0/24 a:mail.example.com a:ns.example.com ~all"
_dmarc.example.com. 86400 TXT "v=DMARC1; p=reject; rua=mailto:dmarc@example.com"
s1._domainkey.example.com. 86400 TXT %s
`

// authSender is a client that the policy lets pass at its last mechanism.
var authSender = spf.Session{Client: netip.MustParseAddr("198.51.100.7"), From: "alice@example.com", Helo: "mail.example.com", Receiver: "mx1.example.com"}

// authWork is one thing to measure: how much of it in one run, and once for each message.
type authWork struct {
	name string
	n    int
	do   func(i int) error
}

// authSample is what one run gave, for one message or policy.
type authSample struct {
	sample
	allocs float64
}

// authBench has the messages, in files and in memory, and the resolver whose cache is warm.
type authBench struct {
	dir              string
	signer           dkim.Signer
	resolver         dns.Resolver
	unsigned, signed []string // files
	texts            [][]byte // the signed ones
}

// auth measures the authentication of mail: SPF policies and whole judgements through the
// cache of our resolver, in this process, and DKIM signatures (rsa-sha256, 2048 bits,
// relaxed/relaxed) beside opendkim.
//
// opendkim signs and verifies files in its test mode, many in one process: its milter
// callbacks and its library, without a socket. We read the same files, on one goroutine. Of
// opendkim, runs of n and of 2n messages are taken, and the difference counts: its start
// costs nothing here. Both find the key at hand: it in a file, we in the cache.
func (b *bench) auth(ctx context.Context) error {
	opendkim, err := exec.LookPath("opendkim")
	if err != nil {
		if opendkim, err = exec.LookPath("/usr/sbin/opendkim"); err != nil {
			return fmt.Errorf("auth: %w; the comparison needs sh test/setup.sh", err)
		}
	}
	dir, err := os.MkdirTemp("", "mxward-load-auth-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	a, err := newAuthBench(dir)
	if err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	fmt.Printf("authentication of messages of %d kB, one after the other; medians of %d alternating runs\n\n", authBody/1000, b.runs)
	fmt.Printf("%-11s  %-8s  %10s  %10s  %11s\n", "work", "program", "each/s", "CPU µs", "allocations")
	for _, w := range []authWork{{"spf, cached", authPolicies, a.spf}, {"judge, all", authMessages, a.judge}} {
		if err := b.alone(ctx, w); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	for _, w := range []struct {
		authWork
		mode, said string // opendkim's
		files      []string
	}{
		{authWork{"dkim sign", authMessages, a.sign}, "s", "DKIM-Signature:", a.unsigned},
		{authWork{"dkim verify", authMessages, a.verify}, "v", "succeeded", a.signed},
	} {
		theirs := func() (sample, error) {
			return a.opendkim(ctx, opendkim, w.mode, w.said, w.files)
		}
		if err := b.besideOpenDKIM(ctx, w.authWork, theirs); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

// alone prints what nobody else is measured at.
func (b *bench) alone(ctx context.Context, w authWork) error {
	var runs []sample
	var allocs float64
	for range b.runs {
		s, err := w.run(ctx)
		if err != nil {
			return err
		}
		runs, allocs = append(runs, s.sample), s.allocs
	}
	m := median(runs)
	fmt.Printf("%-11s  %-8s  %10.0f  %10.1f  %11.0f\n\n", w.name, "mxward", m.rate, m.cpu, allocs)
	return nil
}

func (b *bench) besideOpenDKIM(ctx context.Context, w authWork, theirs func() (sample, error)) error {
	var ours, peers []sample
	var allocs float64
	for range b.runs {
		s, err := w.run(ctx)
		if err != nil {
			return fmt.Errorf("mxward: %w", err)
		}
		ours, allocs = append(ours, s.sample), s.allocs
		p, err := theirs()
		if err != nil {
			return fmt.Errorf("opendkim: %w", err)
		}
		peers = append(peers, p)
	}
	m, p := median(ours), median(peers)
	fmt.Printf("%-11s  %-8s  %10.0f  %10.1f  %11.0f\n", w.name, "mxward", m.rate, m.cpu, allocs)
	fmt.Printf("%-11s  %-8s  %10.0f  %10.1f\n", w.name, "opendkim", p.rate, p.cpu)
	fmt.Printf("%-11s  %-8s  %10.2f  %10.2f\n\n", w.name, "ratio", m.rate/p.rate, m.cpu/p.cpu)
	return nil
}

// run does it n times. The CPU time is that of this process: of the work and of the
// collection of its garbage.
func (w authWork) run(ctx context.Context) (authSample, error) {
	runtime.GC() // of what was before
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	used, began := ownCPU(), time.Now()
	for i := range w.n {
		if err := w.do(i); err != nil {
			return authSample{}, err
		}
		if err := ctx.Err(); err != nil {
			return authSample{}, err
		}
	}
	took := time.Since(began)
	used = ownCPU() - used
	runtime.ReadMemStats(&after)
	n := float64(w.n)
	return authSample{
		sample: sample{rate: n / took.Seconds(), cpu: float64(used.Nanoseconds()) / 1e3 / n},
		allocs: float64(after.Mallocs-before.Mallocs) / n,
	}, nil
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// newAuthBench makes key, messages and DNS, and asks for everything once.
func newAuthBench(dir string) (*authBench, error) {
	key, err := dkim.GenerateRSA(2048)
	if err != nil {
		return nil, err
	}
	a := &authBench{dir: dir, signer: dkim.Signer{Domain: dns.MustName("example.com"), Selector: authSelector, Key: key}}
	if err := a.publish(key); err != nil {
		return nil, err
	}
	for i := range authFiles {
		line := fmt.Sprintf("line of message %d, as long as most of them are in real mail\r\n", i)
		text := "From: Alice <alice@example.com>\r\nTo: Bob <bob@example.net>\r\nSubject: a message to measure\r\nDate: Mon, 1 Jun 2026 10:00:00 +0000\r\nMessage-ID: <1@example.com>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n" +
			strings.Repeat(line, authBody/len(line))
		fields, err := dkim.Sign(strings.NewReader(text), a.signer)
		if err != nil {
			return nil, err
		}
		a.texts = append(a.texts, []byte(fields+text))
		for name, text := range map[string]string{"u": text, "s": fields + text} {
			if err := os.WriteFile(a.file(name, i), []byte(text), 0o600); err != nil {
				return nil, err
			}
		}
		a.unsigned, a.signed = append(a.unsigned, a.file("u", i)), append(a.signed, a.file("s", i))
	}
	return a, errors.Join(a.spf(0), a.judge(0), a.verify(0))
}

func (a *authBench) file(name string, i int) string {
	return filepath.Join(a.dir, fmt.Sprint(name, i))
}

// publish puts the key into the DNS, for us and for opendkim.
func (a *authBench) publish(key crypto.Signer) error {
	public, err := dkim.KeyOf(key)
	if err != nil {
		return err
	}
	record := public.String()
	half := len(record) / 2 // a string of a TXT record holds 255 octets
	text := fmt.Sprintf(authZone, fmt.Sprintf("%q %q", record[:half], record[half:]))
	root, err := zone.Parse(strings.NewReader(text), dns.Root, "root")
	if err != nil {
		return err
	}
	internet := &dnstest.Net{}
	internet.Serve("198.51.100.7", root)
	a.resolver = &resolver.Resolver{
		Hints: []resolver.Hint{{Name: dns.MustName("ns.example.com"), Addr: netip.MustParseAddr("198.51.100.7")}},
		Dial:  internet.Dial,
	}
	private, err := dkim.MarshalPrivate(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(a.dir, "private"), private, 0o600),
		os.WriteFile(filepath.Join(a.dir, "public"), []byte(authSelector+"._domainkey.example.com "+record+"\n"), 0o600),
		os.WriteFile(filepath.Join(a.dir, "conf.v"), fmt.Appendf(nil, "Mode v\nRequireSafeKeys no\nTestPublicKeys %s\n", filepath.Join(a.dir, "public")), 0o600),
		os.WriteFile(filepath.Join(a.dir, "conf.s"), fmt.Appendf(nil,
			"Mode s\nRequireSafeKeys no\nInternalHosts 0.0.0.0/0\nDomain example.com\nSelector %s\nKeyFile %s\nSignatureAlgorithm rsa-sha256\nCanonicalization relaxed/relaxed\n",
			authSelector, filepath.Join(a.dir, "private")), 0o600),
	)
}

// spf evaluates a policy with nothing to ask that is not in the cache.
func (a *authBench) spf(int) error {
	if v := spf.Check(context.Background(), a.resolver, authSender); v.Result != spf.Pass || v.Lookups != 7 {
		return fmt.Errorf("expected pass after 7 look-ups, got %s after %d: %w", v.Result, v.Lookups, v.Err)
	}
	return nil
}

// judge does all that is done with a message that comes in: SPF of MAIL FROM and HELO,
// DKIM, ARC, DMARC, and the removal of forged results.
func (a *authBench) judge(i int) error {
	s := mailauth.Session{Client: authSender.Client, Helo: authSender.Helo, From: authSender.From, Receiver: authSender.Receiver}
	check := mailauth.Judge{Resolver: a.resolver, ID: dns.MustName("mx1.example.com")}.Start(context.Background(), s, io.Discard)
	defer check.Stop()
	if _, err := check.Write(a.texts[i%authFiles]); err != nil {
		return err
	}
	r, err := check.Finish()
	if err == nil && (r.SPF.Result != spf.Pass || r.BestDKIM() != dkim.Pass || r.DMARC.Result != dmarc.Pass) {
		err = fmt.Errorf("expected a pass of all, got SPF %s, DKIM %s, DMARC %s", r.SPF.Result, r.BestDKIM(), r.DMARC.Result)
	}
	return err
}

func (a *authBench) sign(i int) error {
	f, err := os.Open(a.unsigned[i%authFiles])
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = dkim.Sign(f, a.signer)
	return err
}

func (a *authBench) verify(i int) error {
	f, err := os.Open(a.signed[i%authFiles])
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := dkim.Verifier{Resolver: a.resolver}.Verify(context.Background(), f)
	if err == nil && (len(got) != 1 || got[0].Result != dkim.Pass) {
		err = fmt.Errorf("expected one signature that holds, got %+v", got)
	}
	return err
}

// opendkim gives what each of its messages costs when it is under way.
func (a *authBench) opendkim(ctx context.Context, program, mode, said string, files []string) (sample, error) {
	once, onceCPU, err := a.testMode(ctx, program, mode, said, files, authMessages)
	if err != nil {
		return sample{}, err
	}
	twice, twiceCPU, err := a.testMode(ctx, program, mode, said, files, 2*authMessages)
	if err != nil {
		return sample{}, err
	}
	if twice <= once || twiceCPU <= onceCPU {
		return sample{}, errors.New("twice the messages took less time: the machine is too busy to measure")
	}
	return sample{
		rate: authMessages / (twice - once).Seconds(),
		cpu:  float64((twiceCPU - onceCPU).Nanoseconds()) / 1e3 / authMessages,
	}, nil
}

// testMode runs opendkim over n messages, and counts what it said of them.
func (a *authBench) testMode(ctx context.Context, program, mode, said string, files []string, n int) (took, cpu time.Duration, err error) {
	list := make([]string, n)
	for i := range n {
		list[i] = filepath.Base(files[i%len(files)])
	}
	cmd := exec.CommandContext(ctx, program, "-x", filepath.Join(a.dir, "conf."+mode), "-t", strings.Join(list, ","))
	cmd.Dir = a.dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, 0, fmt.Errorf("%w: %.300s", err, out.String())
	}
	took = time.Since(began)
	if got := strings.Count(out.String(), said); got != n {
		return 0, 0, fmt.Errorf("%q came %d times for %d messages: %.300s", said, got, n, out.String())
	}
	return took, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}
