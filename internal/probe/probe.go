// Package probe pays one polite visit to a mail host, as a stranger would see it: RFC 5321 with
// STARTTLS (RFC 3207), from the connection to QUIT. It never says DATA, so no mail is sent.
//
// What came of it is a Session, a plain value that can be written down and judged later without
// the host: every reply, its time, and what went wrong. A certificate never ends a session; it
// is kept, and judged afterwards by RFC 8461 §4.2 and RFC 7672.
//
// Not implemented: AUTH, other ports than those of MX hosts, TLS from the first octet, which
// versions of TLS a host takes beside the one that it chose, and whether a certificate has been
// revoked. A host whose TLS fails is not visited again in plain text.
package probe

import (
	"bufio"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/smtp"
)

// The limits of a visit; ours. Lines and replies have those of package smtp.
const (
	Limit           = 2 * time.Minute  // of one session
	connectPatience = 15 * time.Second // four SYN packets of Linux
	quitPatience    = 5 * time.Second
	atOnce          = 10 // hosts at the same time
	maxNames        = 3  // sessions with one address, each by another name and after the other
	maxChain        = 16 // certificates that are kept
	maxChainOctets  = 64 << 10
	smtpPort        = 25 // RFC 5321 §4.5.4.2
)

// The stages beside those of package mail.
const (
	StageTLS   mail.Stage = "tls" // the handshake
	StageReset mail.Stage = "rset"
)

// Trouble is the class of what went wrong at a stage, other than the host's own reply.
type Trouble string

// The troubles.
const (
	Refused  Trouble = "refused" // by a packet that came back: the host's answer, or a filter's
	TimedOut Trouble = "timeout" // nothing came, or not all of it; Step.TookMS says how long we waited
	NoWay    Trouble = "no-way"  // our own network has no way to the host
	// Unreachable: a router on the way says that the host is not there (RFC 792, RFC 4443 §3.1), or
	// our own gateway or the host itself on our own link does not answer. Others tell which.
	Unreachable Trouble = "unreachable"
	Closed      Trouble = "closed"   // the host hung up
	Protocol    Trouble = "protocol" // what came is no SMTP
	BadTLS      Trouble = "tls"      // the handshake failed
	Stopped     Trouble = "stopped"  // we were told to stop
)

// Session is what came of one visit.
type Session struct {
	Host    dns.Name       `json:"host"` // zero for an address literal
	Address netip.AddrPort `json:"address"`
	Local   netip.Addr     `json:"local"` // from where; the zero address is ""
	Began   time.Time      `json:"began"`
	Steps   []Step         `json:"steps"` // in their order
	TLS     *TLS           `json:"tls"`   // null where there was none
	TookMS  float64        `json:"took_ms"`
}

// Step is one stage: what we said and what came back.
type Step struct {
	Stage   mail.Stage `json:"stage"`
	Said    string     `json:"said"`  // "" where it was not our turn
	Code    int        `json:"code"`  // 0 where no reply came
	Lines   []string   `json:"lines"` // of the reply, without the code; fit for a terminal
	Trouble Trouble    `json:"trouble"`
	Error   string     `json:"error"`
	Octets  int        `json:"octets"`   // that came, also where they made no reply
	FirstMS float64    `json:"first_ms"` // until the first of them
	TookMS  float64    `json:"took_ms"`  // until the last, or until we gave up
}

// TLS is what the host showed in the handshake.
type TLS struct {
	Version string   `json:"version"` // "TLS 1.3"
	Cipher  string   `json:"cipher"`
	Weak    bool     `json:"weak"`  // the cipher suite is known to be
	Chain   [][]byte `json:"chain"` // DER, the host's own first
	Trust   Trust    `json:"trust"` // of the chain at the time of the visit, names and dates aside
	// TrustError says why the chain is not trusted.
	TrustError string `json:"trust_error"`
}

// Trust is whether a chain leads to an authority that this host knows.
type Trust string

// The trusts.
const (
	Trusted   Trust = "trusted"
	Untrusted Trust = "untrusted"
	NoRoots   Trust = "no-roots" // this host knows no authorities
)

// Prober visits hosts. Hello must be set. It may be used by several goroutines at the same time.
type Prober struct {
	Hello string                                                               // our name in EHLO (RFC 5321 §4.1.1.1)
	Port  uint16                                                               // 0: 25
	Dial  func(ctx context.Context, network, address string) (net.Conn, error) // nil: the network's
	Roots *x509.CertPool                                                       // nil: the system's
	Limit time.Duration                                                        // of one session; 0: Limit
}

// Target is one host to visit.
type Target struct {
	Host   dns.Name // zero for an address literal
	Addr   netip.Addr
	Domain dns.Name // whose mail it takes
}

// Visits goes to all targets, several at the same time, and to each address once. An address that
// has several names, and TLS, is then asked for its certificate by each of the others (RFC 6066 §3),
// one after the other; where there is no TLS, what came of the first visit holds for all of them. The
// sessions are in the order of the targets. What panics in a visit panics here, where somebody can
// say so.
func (p *Prober) Visits(ctx context.Context, targets []Target) []Session {
	sessions := make([]Session, len(targets))
	turns := make(chan struct{}, atOnce)
	faults := make(chan string, len(targets))
	var all sync.WaitGroup
	for _, same := range byAddress(targets) {
		all.Go(func() {
			turns <- struct{}{}
			defer func() {
				<-turns
				if v := recover(); v != nil {
					faults <- fmt.Sprintf("%v\n%s", v, debug.Stack())
				}
			}()
			p.visitAll(ctx, targets, same, sessions)
		})
	}
	all.Wait()
	select {
	case fault := <-faults:
		panic(fault)
	default:
	}
	return sessions
}

// byAddress groups targets, by where they stand.
func byAddress(targets []Target) (groups [][]int) {
	at := map[netip.Addr]int{}
	for i, t := range targets {
		group, known := at[t.Addr]
		if !known {
			group = len(groups)
			at[t.Addr], groups = group, append(groups, nil)
		}
		groups[group] = append(groups[group], i)
	}
	return groups
}

// visitAll goes to one address.
func (p *Prober) visitAll(ctx context.Context, targets []Target, same []int, sessions []Session) {
	by := map[dns.Name]Session{}
	for n, i := range same {
		t := targets[i]
		first := sessions[same[0]]
		session, known := by[t.Host]
		switch {
		case n == 0:
			session = p.Visit(ctx, t)
			by[t.Host] = session
		case known:
		case first.TLS == nil:
			session = first
			session.Host = t.Host
		case len(by) == maxNames:
			session = p.spared(t, first.Began)
		default:
			session = p.session(ctx, t, func(v *visit) { v.introduce() })
			by[t.Host] = session
		}
		sessions[i] = session
	}
}

// spared is the session that was not held with an address which was asked by enough names.
func (p *Prober) spared(t Target, at time.Time) Session {
	step := Step{Stage: mail.StageConnect, Lines: []string{}, Trouble: Stopped, Error: fmt.Sprintf("an address is visited by no more than %d names", maxNames)}
	return Session{Host: t.Host, Address: p.place(t.Addr), Began: at, Steps: []Step{step}}
}

// Visit goes to one host: greeting, EHLO, STARTTLS where it is offered and EHLO again, then the
// question whether it would take mail from a stranger to a stranger, which ends with RSET, and
// QUIT. The end of ctx, or of the time, is the end of the session.
func (p *Prober) Visit(ctx context.Context, t Target) Session {
	return p.session(ctx, t, func(v *visit) {
		if v.introduce() {
			v.ask(foreign(t.Host, t.Domain))
		}
	})
}

// session does something over a connection, and says goodbye.
func (p *Prober) session(ctx context.Context, t Target, do func(*visit)) Session {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(p.Limit, Limit))
	defer cancel()
	v := &visit{prober: p, ctx: ctx, session: Session{Host: t.Host, Address: p.place(t.Addr), Began: time.Now().UTC(), Steps: []Step{}}}
	if v.connect() {
		v.talk(do)
	}
	v.session.TookMS = since(v.session.Began)
	return v.session
}

// Knock connects and does nothing more.
func (p *Prober) Knock(ctx context.Context, addr netip.Addr) Step {
	step, conn := p.connect(ctx, p.place(addr))
	if conn != nil {
		_ = conn.Close()
	}
	return step
}

func (p *Prober) place(addr netip.Addr) netip.AddrPort {
	return netip.AddrPortFrom(addr, cmp.Or(p.Port, smtpPort))
}

func (p *Prober) connect(ctx context.Context, at netip.AddrPort) (Step, net.Conn) {
	patient, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	dial := p.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	began := time.Now()
	conn, err := dial(patient, "tcp", at.String())
	step := Step{Stage: mail.StageConnect, Lines: []string{}, TookMS: since(began)}
	step.fail(ctx, err)
	return step, conn
}

// visit is a session under way.
type visit struct {
	prober  *Prober
	ctx     context.Context
	session Session

	conn    net.Conn // with TLS, once there is
	heard   *watch
	replies *bufio.Reader
}

func (v *visit) connect() bool {
	step, conn := v.prober.connect(v.ctx, v.session.Address)
	v.session.Steps = append(v.session.Steps, step)
	if conn == nil {
		return false
	}
	if local, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		v.session.Local = local.AddrPort().Addr().Unmap()
	}
	v.over(conn)
	return true
}

// over makes conn what is talked over.
func (v *visit) over(conn net.Conn) {
	v.conn, v.heard = conn, &watch{r: conn}
	v.replies = smtp.NewReplies(v.heard)
}

func (v *visit) talk(do func(*visit)) {
	raw := v.conn
	defer raw.Close()
	if end, ok := v.ctx.Deadline(); ok {
		_ = raw.SetDeadline(end)
	}
	defer context.AfterFunc(v.ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })()
	do(v)
	if last := v.session.last(); last.Trouble == "" {
		_ = raw.SetDeadline(time.Now().Add(quitPatience))
		v.say(mail.StageQuit, "QUIT")
	}
}

// introduce takes the session to where mail would begin.
func (v *visit) introduce() bool {
	if v.say(mail.StageGreeting, "").Code != 220 || !v.hello() {
		return false
	}
	if _, offered := v.session.Extension("STARTTLS"); !offered {
		return true
	}
	s := v.say(mail.StageStartTLS, "STARTTLS")
	if s.Code != 220 {
		return s.Trouble == ""
	}
	return v.handshake() && v.hello()
}

// hello says EHLO, and HELO to a host that knows no EHLO (RFC 5321 §3.2).
func (v *visit) hello() bool {
	s := v.say(mail.StageHello, "EHLO "+v.prober.Hello)
	if s.Code/100 == 5 {
		s = v.say(mail.StageHello, "HELO "+v.prober.Hello)
	}
	return s.Code == 250
}

// ask finds out whether the host takes what it should not, and takes it back.
func (v *visit) ask(stranger string) {
	if v.say(mail.StageMail, "MAIL FROM:<>").Code/100 != 2 {
		return
	}
	if v.say(mail.StageRcpt, "RCPT TO:<"+stranger+">").Trouble == "" {
		v.say(StageReset, "RSET")
	}
}

// foreign is a mailbox that no host has: of a domain that RFC 2606 §3 reserves, and not one of
// these names'.
func foreign(host, domain dns.Name) string {
	for _, reserved := range []string{"example.org", "example.net"} {
		if name := dns.MustName(reserved); !host.In(name) && !domain.In(name) {
			return "mxward-relay-test@" + reserved
		}
	}
	return "mxward-relay-test@example.com"
}

// say writes a command, or nothing, and reads the reply.
func (v *visit) say(stage mail.Stage, command string) Step {
	step, began := Step{Stage: stage, Said: command, Lines: []string{}}, time.Now()
	v.heard.listen()
	var err error
	if command != "" {
		_, err = io.WriteString(v.conn, command+"\r\n")
	}
	if err == nil {
		var lines []string
		if step.Code, lines, err = smtp.ReadReply(v.replies); lines != nil {
			step.Lines = lines
		}
	}
	step.Octets, step.FirstMS, step.TookMS = v.heard.octets, ms(v.heard.first.Sub(began)), since(began)
	if step.Octets == 0 {
		step.FirstMS = 0
	}
	step.fail(v.ctx, err)
	v.session.Steps = append(v.session.Steps, step)
	return step
}

// fail notes an error at a step.
func (s *Step) fail(ctx context.Context, err error) {
	if err != nil {
		s.Trouble, s.Error = troubleOf(ctx, err), reason(err)
	}
}

func troubleOf(ctx context.Context, err error) Trouble {
	var late net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return Stopped
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &late) && late.Timeout():
		return TimedOut
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.EHOSTUNREACH):
		return Unreachable
	case noWay(err):
		return NoWay
	case errors.Is(err, smtp.ErrProtocol):
		return Protocol
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		if errors.Is(err, syscall.ECONNRESET) {
			return Refused
		}
		return NoWay // a socket could not even be had
	}
	return Closed
}

// noWay reports an error of our own network, which says nothing about the host. A packet
// filter that drops in silence cannot be told from a host that does.
func noWay(err error) bool {
	for _, local := range []error{
		syscall.ENETUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT, syscall.EACCES, syscall.EPERM,
	} {
		if errors.Is(err, local) {
			return true
		}
	}
	return false
}

// reason gives an error's words without the addresses, which stand beside it already.
func reason(err error) string {
	var late net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &late) && late.Timeout() {
		return "timed out"
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	if errors.Is(err, io.EOF) {
		return "the host hung up"
	}
	return strings.ToValidUTF8(err.Error(), "?")
}

// watch notes when octets came.
type watch struct {
	r      io.Reader
	first  time.Time
	octets int
}

func (w *watch) listen() { w.first, w.octets = time.Time{}, 0 }

func (w *watch) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 && w.octets == 0 {
		w.first = time.Now()
	}
	w.octets += n
	return n, err
}

func since(t time.Time) float64 { return ms(time.Since(t)) }

func ms(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// String names the host and its address.
func (s Session) String() string {
	if s.Host.IsZero() {
		return "[" + s.Address.Addr().String() + "]"
	}
	return fmt.Sprintf("%s [%s]", s.Host, s.Address.Addr())
}
