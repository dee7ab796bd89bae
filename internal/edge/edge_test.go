package edge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mail"
	"mxward/internal/queue"
	"mxward/internal/reputation"
	"mxward/internal/site"
	"mxward/internal/smtp"
)

// testPlan has one host for each kind, and domains of each kind.
//
//	            example.com  example.net  xn--bcher-kva.example  example.org
//	mx1         10 gate      10 gate                             10 refuse
//	mx2         20 backup    20 gate                             20 gate
//	gate                                  10 gate
//	trap        90 trap      90 trap                             90 trap
//	mixed                    15 gate      90 trap
//
// example.com has a list of recipients; the others have none.
func testPlan(t testing.TB) *site.Plan {
	t.Helper()
	host := func(name, addr string) site.Host {
		return site.Host{Name: dns.MustName(name), Addresses: []netip.Addr{netip.MustParseAddr(addr)}}
	}
	rung := func(preference uint16, name string, role site.Role) site.Rung {
		return site.Rung{Preference: preference, Host: dns.MustName(name), Role: role}
	}
	drained := host("drained.example.com", "192.0.2.7")
	drained.Drain = true
	return &site.Plan{
		Name: dns.MustName("mx1.example.com"),
		Hosts: []site.Host{
			host("mx1.example.com", "192.0.2.1"),
			host("mx2.example.com", "192.0.2.2"),
			host("gate.example.com", "192.0.2.3"),
			host("trap.example.com", "192.0.2.4"),
			host("mixed.example.com", "2001:db8::5"),
			host("new.example.com", "192.0.2.6"),
			drained,
		},
		Domains: []site.Domain{
			{
				Name: dns.MustName("example.com"),
				Ladder: []site.Rung{
					rung(10, "mx1.example.com", site.Gate),
					rung(20, "mx2.example.com", site.Backup),
					rung(90, "trap.example.com", site.Trap),
				},
				Recipients: []mail.Address{
					address(t, "user@example.com"),
					address(t, "Mixed.Case@example.com"),
					address(t, "o%dd@example.com"),
					address(t, `"at@home"@example.com`),
					address(t, "josé@example.com"),
				},
			},
			{
				Name: dns.MustName("example.net"),
				Ladder: []site.Rung{
					rung(10, "mx1.example.com", site.Gate),
					rung(15, "mixed.example.com", site.Gate),
					rung(20, "mx2.example.com", site.Gate),
					rung(90, "trap.example.com", site.Trap),
				},
			},
			{
				Name: dns.MustName("bücher.example"),
				Ladder: []site.Rung{
					rung(10, "gate.example.com", site.Gate),
					rung(90, "mixed.example.com", site.Trap),
				},
			},
			{
				Name: dns.MustName("example.org"),
				Ladder: []site.Rung{
					rung(10, "mx1.example.com", site.Refuse),
					rung(20, "mx2.example.com", site.Gate),
					rung(90, "trap.example.com", site.Trap),
				},
			},
		},
		SMTP: site.SMTP{MaxSize: 50 << 20, MaxRecipients: 100, MaxSessions: 100, MaxPerClient: 100, TrapPace: time.Second},
	}
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	if strings.EqualFold(s, "postmaster") {
		return mail.Address{Local: s}
	}
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// memory is a queue and a recorder of contacts that hold everything.
type memory struct {
	mu       sync.Mutex
	chunks   map[queue.ID][][]byte
	messages []queue.Message
	contacts []reputation.Contact
	batches  []int

	enqueueErr, appendErr, recordErr error
	recordDelay                      time.Duration
	afterEnqueues                    int // enqueueErr holds from this one on
}

func (m *memory) Enqueue(ctx context.Context, _ time.Time, msg queue.Message) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.enqueueErr != nil && len(m.messages) >= m.afterEnqueues {
		return m.enqueueErr
	}
	msg.Tail = bytes.Clone(msg.Tail)
	m.messages = append(m.messages, msg)
	return nil
}

func (m *memory) AppendChunk(_ context.Context, _ time.Time, id queue.ID, seq int, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.appendErr != nil {
		return m.appendErr
	}
	if m.chunks == nil {
		m.chunks = map[queue.ID][][]byte{}
	}
	for len(m.chunks[id]) <= seq {
		m.chunks[id] = append(m.chunks[id], nil)
	}
	if m.chunks[id][seq] != nil {
		return errors.New("a chunk came twice")
	}
	m.chunks[id][seq] = bytes.Clone(data)
	return nil
}

func (m *memory) Chunk(context.Context, queue.ID, int) ([]byte, error) { return nil, io.EOF }
func (m *memory) Sweep(context.Context, time.Time) (int, error)        { return 0, nil }
func (m *memory) Record(ctx context.Context, c []reputation.Contact) error {
	if m.recordDelay > 0 {
		select {
		case <-time.After(m.recordDelay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.recordErr != nil {
		return m.recordErr
	}
	m.contacts = append(m.contacts, c...)
	m.batches = append(m.batches, len(c))
	return nil
}

// body gives a message as it would be read.
func (m *memory) body(msg queue.Message) string {
	return string(bytes.Join(m.chunks[msg.ID], nil)) + string(msg.Tail)
}

// newGate gives a gate over a memory, with a log to look at.
func newGate(t testing.TB) (*Gate, *memory, *bytes.Buffer) {
	t.Helper()
	m, log := &memory{}, &bytes.Buffer{}
	g := &Gate{
		Plan: testPlan(t), Queue: m, Contacts: m,
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	t.Cleanup(func() { g.Close() })
	return g, m, log
}

var testClient = netip.MustParseAddrPort("198.51.100.25:40000")

// open begins a session at a host, up to and including EHLO.
func open(t testing.TB, g *Gate, host string) smtp.Session {
	t.Helper()
	h := g.Host(dns.MustName(host))
	s, greeting := h.NewSession(t.Context(), smtp.Conn{
		ID: "S1", Remote: testClient, Local: netip.MustParseAddrPort("192.0.2.99:25"), Began: time.Now(),
	})
	if greeting.Reply.Code != 220 {
		t.Fatalf("greeting %s, want 220", greeting.Reply)
	}
	want(t, s.Hello(t.Context(), smtp.Hello{Extended: true, Name: "mail.example.edu"}), "250")
	return s
}

// begin also says MAIL.
func begin(t testing.TB, g *Gate, host, from string) smtp.Session {
	t.Helper()
	s := open(t, g, host)
	want(t, s.Mail(t.Context(), mail.Envelope{From: sender(t, from)}), "250 2.1.0")
	return s
}

func sender(t testing.TB, from string) mail.Path {
	if from == "" {
		return mail.Path{}
	}
	return mail.Path{Address: address(t, from)}
}

func rcpt(t testing.TB, s smtp.Session, to string) mail.Reply {
	t.Helper()
	return s.Rcpt(t.Context(), mail.Recipient{Address: address(t, to)})
}

func want(t testing.TB, got mail.Reply, prefix string) {
	t.Helper()
	if !strings.HasPrefix(got.String(), prefix) {
		t.Errorf("reply %q, want %s", got, prefix)
	}
}

func TestGreeting(t *testing.T) {
	tests := []struct {
		host string
		trap bool
	}{
		{"mx1.example.com", false},   // a gate, and a decoy of one domain
		{"mx2.example.com", false},   // a backup of one, a gate of others
		{"trap.example.com", true},   // a trap on every ladder it is on
		{"mixed.example.com", false}, // a gate of one, a trap of another: known at RCPT
		{"new.example.com", false},   // on no ladder yet
	}
	g, _, _ := newGate(t)
	for _, tt := range tests {
		_, greeting := g.Host(dns.MustName(tt.host)).NewSession(t.Context(), smtp.Conn{})
		if trap := greeting.Pace == time.Second && greeting.Soft; trap != tt.trap {
			t.Errorf("%s: greeting %+v, want a trap's: %v", tt.host, greeting, tt.trap)
		}
		if greeting.Pace == 0 != !greeting.Soft {
			t.Errorf("%s: greeting %+v is half a trap's", tt.host, greeting)
		}
	}
}

func TestLadder(t *testing.T) {
	got := Ladder(testPlan(t).Domains[3])
	want := []reputation.Rung{
		{Preference: 10, Host: dns.MustName("mx1.example.com"), Decoy: true},
		{Preference: 20, Host: dns.MustName("mx2.example.com")},
		{Preference: 90, Host: dns.MustName("trap.example.com"), Decoy: true}, // it takes no mail: nobody must try it
	}
	if !slices.Equal(got, want) {
		t.Errorf("Ladder = %+v, want %+v", got, want)
	}
}

// The recipient of the queue is one that can be delivered: a postmaster has a domain there.
func TestPostmaster(t *testing.T) {
	tests := []struct{ host, rcpt, want string }{
		{"mx1.example.com", "postmaster", "postmaster@example.com"},              // RFC 5321 §4.5.1
		{"mx1.example.com", "PostMaster", "PostMaster@example.com"},              // in any case
		{"gate.example.com", "postmaster", "postmaster@xn--bcher-kva.example"},   // the host's own domain
		{"mixed.example.com", "postmaster", "postmaster@example.net"},            // where it takes mail
		{"new.example.com", "postmaster", "postmaster@example.com"},              // on no ladder: the first domain
		{"mx1.example.com", "postmaster@[192.0.2.1]", "postmaster@example.com"},  // by the host's address
		{"mx1.example.com", "postmaster@[192.0.2.99]", "postmaster@example.com"}, // by the address that was reached
		{"mixed.example.com", "postmaster@[IPv6:2001:db8::5]", "postmaster@example.net"},
		{"mx1.example.com", "postmaster@example.net", "postmaster@example.net"},
	}
	for _, tt := range tests {
		t.Run(tt.host+" "+tt.rcpt, func(t *testing.T) {
			g, m, _ := newGate(t)
			s := begin(t, g, tt.host, "")
			want(t, rcpt(t, s, tt.rcpt), "250 2.1.5")
			want(t, s.Data(t.Context(), strings.NewReader("\r\n")), "250 2.0.0")
			if got := m.messages[0].Envelope.Recipients[0].Address.String(); got != tt.want {
				t.Errorf("queued for %s, want %s", got, tt.want)
			}
		})
	}
}

// Two RCPT commands that say the same are one recipient; ones that differ are two.
func TestRepeatedRecipient(t *testing.T) {
	g, m, _ := newGate(t)
	s := begin(t, g, "mx1.example.com", "a@example.edu")
	for _, to := range []string{"user@example.com", "user@example.com", "USER@example.com", "user@example.net"} {
		want(t, rcpt(t, s, to), "250 2.1.5")
	}
	want(t, s.Data(t.Context(), strings.NewReader("\r\n")), "250")
	if n := len(m.messages[0].Envelope.Recipients); n != 3 {
		t.Errorf("%d recipients, want 3", n)
	}
}

// One message for domains of several roles: each recipient gets its own verdict.
func TestMixedRoles(t *testing.T) {
	g, m, _ := newGate(t)
	s := begin(t, g, "mixed.example.com", "a@example.edu")
	want(t, rcpt(t, s, "user@xn--bcher-kva.example"), "451 4.7.1") // trap
	want(t, rcpt(t, s, "user@example.net"), "250 2.1.5")           // gate
	want(t, rcpt(t, s, "user@example.edu"), "550 5.7.1")           // not ours
	want(t, rcpt(t, s, "user@example.com"), "250 2.1.5")           // ours, by an old MX record
	want(t, s.Data(t.Context(), strings.NewReader("Subject: x\r\n\r\n")), "250 2.0.0")
	if len(m.messages) != 1 || len(m.messages[0].Envelope.Recipients) != 2 {
		t.Fatalf("queued %+v, want one message for two", m.messages)
	}
	if m.messages[0].Backup {
		t.Error("a gate's message is marked as a backup's")
	}
}

// What a backup takes waits longer; what the same host takes as a gate does not.
func TestBackup(t *testing.T) {
	g, m, _ := newGate(t)
	woken := 0
	g.Wake = func() { woken++ }
	s := begin(t, g, "mx2.example.com", "a@example.edu")
	want(t, rcpt(t, s, "user@example.com"), "250") // backup
	want(t, rcpt(t, s, "user@example.net"), "250") // gate
	reply := s.Data(t.Context(), strings.NewReader("Subject: x\r\n\r\nbody\r\n"))
	want(t, reply, "250 2.0.0 queued as ")
	if len(m.messages) != 2 {
		t.Fatalf("%d messages, want one for each lifetime", len(m.messages))
	}
	for _, msg := range m.messages {
		to := msg.Envelope.Recipients[0].Address.String()
		lifetime := msg.Expires.Sub(msg.Received)
		if backup := to == "user@example.com"; msg.Backup != backup || backup && lifetime != queue.BackupLifetime || !backup && lifetime != queue.Lifetime {
			t.Errorf("%s: backup %v, lifetime %s", to, msg.Backup, lifetime)
		}
		if !strings.HasSuffix(m.body(msg), "Subject: x\r\n\r\nbody\r\n") || !strings.Contains(m.body(msg), "id "+string(msg.ID)) {
			t.Errorf("%s: body %q", to, m.body(msg))
		}
		if !strings.Contains(reply.Text, string(msg.ID)) {
			t.Errorf("reply %q does not name %s", reply, msg.ID)
		}
	}
	if woken != 1 {
		t.Errorf("queue woken %d times, want once", woken)
	}
}

// A transaction that was given up leaves nothing to the next one.
func TestTransactionsAreApart(t *testing.T) {
	g, m, _ := newGate(t)
	s := begin(t, g, "mx1.example.com", "a@example.edu")
	want(t, rcpt(t, s, "user@example.com"), "250")
	want(t, s.Mail(t.Context(), mail.Envelope{From: sender(t, "b@example.edu")}), "250") // after RSET
	want(t, rcpt(t, s, "user@example.net"), "250")
	want(t, s.Data(t.Context(), strings.NewReader("\r\n")), "250")
	if got := m.messages[0].Envelope; len(got.Recipients) != 1 || got.From.String() != "b@example.edu" {
		t.Errorf("queued %+v, want the second transaction alone", got)
	}
	want(t, s.Data(t.Context(), strings.NewReader("\r\n")), "554 5.5.1") // nothing is left of it
}

func TestClose(t *testing.T) {
	g, m, _ := newGate(t)
	open(t, g, "mx1.example.com").End(smtp.End{Stage: mail.StageHello})
	for range 2 { // twice is harmless
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.contacts) != 1 {
		t.Errorf("%d contacts after Close, want 1", len(m.contacts))
	}
	open(t, g, "mx1.example.com").End(smtp.End{Stage: mail.StageHello})
	if g.Dropped() != 1 {
		t.Errorf("%d contacts dropped, want the one after Close", g.Dropped())
	}
	if err := (&Gate{Plan: testPlan(t)}).Close(); err != nil { // nobody ever came
		t.Error(err)
	}
}
