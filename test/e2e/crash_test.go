package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mxward/internal/mail"
	"mxward/internal/smtp"
	"mxward/internal/store/storetest"
)

// The size of the crash test.
const (
	crashMessages = 2000
	crashSenders  = 8
	crashKills    = 10
)

// TestKill kills mxward serve with SIGKILL at ten random moments while several senders
// hand it 2,000 messages. Every message that was answered 250 must arrive; none may arrive
// twice, but for those whose delivery a kill interrupted. It does so on each engine.
func TestKill(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel() // most of the time goes by waiting for leases to end
		killTest(t, "sqlite:queue.db")
	})
	t.Run("postgres", func(t *testing.T) {
		server, err := storetest.StartPostgres(true)
		if errors.Is(err, storetest.ErrNoPostgres) {
			t.Skipf("left out: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Stop() })
		url, err := server.Database(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Parallel()
		killTest(t, url)
	})
}

func killTest(t *testing.T, store string) {
	sink := &sink{seen: map[string][]time.Time{}}
	target := sink.listen(t)
	dir, addr := t.TempDir(), freeAddr(t)
	writeFile(t, filepath.Join(dir, "mxward.toml"), fmt.Sprintf(`
[site]
name  = "mx1.example.com"
store = %q
[[host]]
name      = "mx1.example.com"
addresses = ["127.0.0.1"]
listen    = [%q]
[[domain]]
name    = "example.com"
deliver = "smtp://%s"
[[domain.mx]]
preference = 10
host       = "mx1.example.com"
role       = "gate"
[[dns.zone]]
name = "net"
file = "net.zone"
`, store, addr, target))
	// The senders' domain, so that nobody waits for a DNS that this machine may not have.
	writeFile(t, filepath.Join(dir, "net.zone"), "$TTL 300\n@ SOA ns.example.net. hostmaster.example.net. 1 3600 600 86400 300\n@ NS ns.example.net.\nns.example.net. A 192.0.2.53\n")

	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var (
		senders sync.WaitGroup
		acked   = newSet()
	)
	for s := range crashSenders {
		senders.Go(func() { sendAll(ctx, t, addr, s, crashMessages/crashSenders, acked) })
	}
	kills := killRepeatedly(t, dir, addr, acked)
	senders.Wait()
	if acked.len() != crashMessages {
		t.Fatalf("%d messages were acknowledged, want %d", acked.len(), crashMessages)
	}
	missing := func() []string { return sink.missing(acked) }
	// The leases of the last crash must end before its messages come back.
	for len(missing()) > 0 && ctx.Err() == nil {
		time.Sleep(200 * time.Millisecond)
	}
	if lost := missing(); len(lost) > 0 {
		t.Fatalf("%d acknowledged messages did not arrive, the first: %s", len(lost), lost[0])
	}
	checkTwice(t, sink, kills)
}

// checkTwice: what arrived twice must have been in flight when a kill fell: its first
// delivery ended, and before mxward could write that down, it was dead.
func checkTwice(t *testing.T, s *sink, kills []time.Time) {
	const writingDown = 2 * time.Second // generous for a slow disk
	s.mu.Lock()
	defer s.mu.Unlock()
	twice := 0
	for id, times := range s.seen {
		for _, first := range times[:len(times)-1] {
			twice++
			if !slices.ContainsFunc(kills, func(k time.Time) bool { return !first.After(k.Add(time.Second)) && k.Sub(first) < writingDown }) {
				t.Errorf("%s arrived %d times, and no kill explains it: %v", id, len(times), times)
			}
		}
	}
	t.Logf("%d messages at the mailbox, %d of them twice, %d kills", len(s.seen), twice, len(kills))
}

// killRepeatedly starts mxward, kills it at random moments while senders are at work, and
// leaves it running at the end.
func killRepeatedly(t *testing.T, dir, addr string, acked *set) []time.Time {
	t.Helper()
	var kills []time.Time
	for n := range crashKills + 1 {
		p := start(t, fmt.Sprintf("mxward %d", n), exec.Command(mxward, "serve", "--plan", filepath.Join(dir, "mxward.toml")))
		eventually(t, 30*time.Second, "mxward serves", func() bool { return strings.Contains(p.out.String(), "msg=serving") })
		if n == crashKills {
			break
		}
		// At least some messages between two kills, so that each falls into the stream.
		goal := acked.len() + 50 + rand.IntN(100)
		eventually(t, 60*time.Second, "messages flow", func() bool { return acked.len() >= min(goal, crashMessages-200+n*10) })
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		syscall.Kill(p.cmd.Process.Pid, syscall.SIGKILL)
		kills = append(kills, time.Now())
		<-p.done
	}
	return kills
}

// sendAll hands in a sender's messages, each until it is answered 250. An attempt without
// an answer is followed by one with a new id, so that only our own copies count as twice.
func sendAll(ctx context.Context, t *testing.T, addr string, sender, count int, acked *set) {
	var client *smtp.Client
	attempt := 0
	for done := 0; done < count; {
		if ctx.Err() != nil {
			t.Errorf("sender %d: time is up after %d of %d messages", sender, done, count)
			return
		}
		if client == nil {
			client = connect(ctx, addr)
			continue
		}
		attempt++
		id := fmt.Sprintf("m-%d-%d", sender, attempt)
		if sendOne(ctx, client, id) {
			acked.add(id)
			done++
		}
		if !client.Usable() {
			client.Close()
			client = nil
		}
		time.Sleep(time.Duration(rand.IntN(8)) * time.Millisecond)
	}
	if client != nil {
		client.Close()
	}
}

func connect(ctx context.Context, addr string) *smtp.Client {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		time.Sleep(20 * time.Millisecond)
		return nil
	}
	client, err := smtp.Handshake(ctx, conn, smtp.ClientConfig{Hello: "sender.example.net"})
	if err != nil {
		return nil
	}
	return client
}

func sendOne(ctx context.Context, client *smtp.Client, id string) bool {
	from, _ := mail.ParseAddress("alice@example.net")
	to, _ := mail.ParseAddress("bob@example.com")
	// Some bodies pass the size of a chunk, so that kills fall between chunks, too.
	size := 2000
	if rand.IntN(40) == 0 {
		size = 600_000
	}
	body := "Message-Id: <" + id + "@example.net>\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", size/78)
	env := mail.Envelope{From: mail.Path{Address: from}, Recipients: []mail.Recipient{{Address: to}}}
	outcomes := client.Send(ctx, env, strings.NewReader(body))
	return len(outcomes) == 1 && outcomes[0].Status == mail.Delivered
}

// sink is where mxward delivers to; it knows what came, and when.
type sink struct {
	mu   sync.Mutex
	seen map[string][]time.Time
}

var messageID = regexp.MustCompile(`(?m)^Message-Id: <([^@]+)@`)

func (s *sink) listen(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &smtp.Server{Hostname: "mailbox.example.com", Handler: s, MaxPerClient: 1000}
	go server.Serve(ln)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		server.Shutdown(ctx)
	})
	return ln.Addr().String()
}

// NewSession implements smtp.Handler.
func (s *sink) NewSession(context.Context, smtp.Conn) (smtp.Session, smtp.Greeting) {
	return sinkSession{s}, smtp.Greeting{Reply: mail.Reply{Code: 220}}
}

type sinkSession struct{ *sink }

func (sinkSession) Hello(context.Context, smtp.Hello) mail.Reply { return mail.Reply{Code: 250} }
func (sinkSession) End(smtp.End)                                 {}

func (sinkSession) Mail(context.Context, mail.Envelope) mail.Reply {
	return mail.NewReply(250, 1, 0, "fine")
}

func (sinkSession) Rcpt(context.Context, mail.Recipient) mail.Reply {
	return mail.NewReply(250, 1, 5, "fine")
}

// Data counts a message from the moment at which it is whole: a kill may come before the
// 250 is read, and then the second copy is the one that is allowed.
func (s sinkSession) Data(_ context.Context, body io.Reader) mail.Reply {
	text, err := io.ReadAll(body)
	if err != nil {
		return mail.NewReply(451, 3, 0, "lost")
	}
	id := "without an id"
	if found := messageID.FindSubmatch(text); found != nil {
		id = string(found[1])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[id] = append(s.seen[id], time.Now())
	return mail.NewReply(250, 0, 0, "taken")
}

func (s *sink) missing(acked *set) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lost []string
	for _, id := range acked.all() {
		if len(s.seen[id]) == 0 {
			lost = append(lost, id)
		}
	}
	return lost
}

// freeAddr gives a loopback address whose port is free now and stays so across restarts,
// as nobody else here uses fixed ports.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// set is a set of ids for several goroutines.
type set struct {
	mu  sync.Mutex
	ids map[string]bool
}

func newSet() *set { return &set{ids: map[string]bool{}} }

func (s *set) add(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids[id] = true
}

func (s *set) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ids)
}

func (s *set) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.ids))
}
