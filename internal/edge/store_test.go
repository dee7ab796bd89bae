package edge

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mxward/internal/dns"
	"mxward/internal/queue"
	"mxward/internal/reputation"
	"mxward/internal/smtp"
	"mxward/internal/store"
)

// TestStore sends messages over TCP from several clients at once into a real store, and
// finds there each message that was answered 250, whole, and the clients' contacts.
func TestStore(t *testing.T) {
	engine, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "mxward.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	g, _, _ := newGate(t)
	g.Queue, g.Contacts = engine, engine
	server := &smtp.Server{Hostname: "mx2.example.com", Handler: g.Host(dns.MustName("mx2.example.com"))}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()

	const clients = 5
	var sent sync.Map // queue.ID: body
	var running sync.WaitGroup
	for n := range clients {
		running.Go(func() {
			body := fmt.Sprintf("Subject: %d\r\n\r\n%s", n, strings.Repeat(strings.Repeat("x", 70)+"\r\n", n*2000))
			id, err := send(ln.Addr().String(), body)
			if err != nil {
				t.Errorf("client %d: %v", n, err)
				return
			}
			sent.Store(id, body)
		})
	}
	running.Wait()
	shutDown, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(shutDown); err != nil {
		t.Error(err)
	}
	<-served
	if err := g.Close(); err != nil {
		t.Error(err)
	}

	jobs, err := engine.Lease(t.Context(), queue.LeaseRequest{Now: time.Now(), Until: time.Now().Add(time.Minute), Limit: 100})
	if err != nil || len(jobs) != clients {
		t.Fatalf("%d jobs, %v; want %d", len(jobs), err, clients)
	}
	for _, job := range jobs {
		want, ok := sent.Load(job.Message.ID)
		got, err := io.ReadAll(queue.Open(t.Context(), engine, job.Message.ID))
		if err != nil || !ok || !strings.HasPrefix(string(got), "Received: from ") || !strings.HasSuffix(string(got), want.(string)) {
			t.Errorf("message %s: known %v, %d octets, %v", job.Message.ID, ok, len(got), err)
		}
		if !job.Message.Backup || job.Message.Size != int64(len(got)) || job.Message.Client != "[127.0.0.1]" {
			t.Errorf("message %+v of %d octets", job.Message, len(got))
		}
	}
	contacts, err := engine.Contacts(t.Context(), reputation.Group(ln.Addr().(*net.TCPAddr).AddrPort().Addr()), time.Now().Add(-time.Minute))
	if err != nil || len(contacts) != 2*clients { // at RCPT and at the end
		t.Fatalf("%d contacts, %v; want %d", len(contacts), err, 2*clients)
	}
	if ladder := Ladder(g.Plan.Domains[0]); !reputation.OutOfOrder(ladder, contacts, contacts[0]) {
		t.Error("clients that left the gate out are in order")
	}
}

// send sends one message to a backup's domain and gives the ID that the 250 names.
func send(addr, body string) (queue.ID, error) {
	c, err := textproto.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var reply string
	for _, step := range []struct {
		say  string
		want int
	}{
		{"", 220},
		{"EHLO mail.example.edu\r\n", 250},
		{"MAIL FROM:<a@example.edu>\r\n", 250},
		{"RCPT TO:<user@example.com>\r\n", 250},
		{"DATA\r\n", 354},
		{body + ".\r\n", 250},
	} {
		if _, err := c.W.WriteString(step.say); err != nil {
			return "", err
		}
		if err := c.W.Flush(); err != nil {
			return "", err
		}
		if _, reply, err = c.ReadResponse(step.want); err != nil {
			return "", err
		}
	}
	_, id, _ := strings.Cut(reply, "queued as ")
	return queue.ID(id), nil
}
