package store_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"mxward/internal/mail"
	"mxward/internal/queue"
	"mxward/internal/store"
	"mxward/internal/store/storetest"
)

// crashChild is the variable that makes of the test binary a process to be killed: it
// holds the URL of the store.
const crashChild = "MXWARD_STORE_CRASH"

// crashProducers is how many goroutines enqueue until the end.
const crashProducers = 8

// enqueueForever is the process to be killed: it prints the ID of each message after
// Enqueue has returned, as a server says 250.
func enqueueForever() int {
	e, err := store.Open(context.Background(), os.Getenv(crashChild))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var group sync.WaitGroup
	for range crashProducers {
		group.Go(func() {
			err := produce(e, func(id queue.ID) error {
				_, err := os.Stdout.WriteString(string(id) + "\n") // one write: a line is whole, or not there
				return err
			})
			fmt.Fprintln(os.Stderr, err)
		})
	}
	group.Wait()
	return 1
}

// produce enqueues messages, small and large, until something fails.
func produce(e store.Engine, acknowledge func(queue.ID) error) error {
	from := mail.Path{Address: mail.Address{Local: "sender"}}
	for n := 0; ; n++ {
		to, err := mail.ParseAddress("a@example.com")
		if err != nil {
			return err
		}
		id := queue.NewID()
		spool := queue.NewSpool(context.Background(), e, id)
		size := 3000
		if n%8 == 7 {
			size = queue.ChunkSize + 1000
		}
		body := crashBody(id, size)
		head := body[:100] // as a session's trace fields, it comes last
		if _, err := spool.Write(body[len(head):]); err != nil {
			return err
		}
		chunks, tail, err := spool.Body(head)
		if err != nil {
			return err
		}
		now := time.Now()
		from.Address = to
		m := queue.Message{
			ID: id, Envelope: mail.Envelope{From: from, Recipients: []mail.Recipient{{Address: to}}},
			Received: now, Expires: queue.Expires(now, false), Size: spool.Size(),
			Chunks: chunks, Tail: tail,
		}
		if err := e.Enqueue(context.Background(), now, m); err != nil {
			return err
		}
		spool.Discard()
		if err := acknowledge(id); err != nil {
			return err
		}
	}
}

// crashBody gives a body that only this message has.
func crashBody(id queue.ID, size int) []byte {
	return bytes.Repeat([]byte(id), size/len(id)+1)[:size]
}

// runAndKill runs a process that enqueues, kills it at a random moment, and gives what it
// had acknowledged.
func runAndKill(t *testing.T, url string) []queue.ID {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashChild+"="+url)
	var trouble bytes.Buffer
	cmd.Stderr = &trouble
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var acknowledged []queue.ID
	var kill *time.Timer
	for lines.Scan() {
		if kill == nil { // from the first message on: a slow start is no crash
			kill = time.AfterFunc(time.Duration(20+rand.IntN(200))*time.Millisecond, func() { _ = cmd.Process.Kill() })
		}
		acknowledged = append(acknowledged, queue.ID(lines.Text()))
	}
	_ = cmd.Wait() // it was killed
	if kill == nil {
		t.Fatalf("the process ended by itself: %s", trouble.String())
	}
	kill.Stop()
	return acknowledged
}

// whole wants every message to be there, with its whole body.
func whole(t *testing.T, url string, acknowledged []queue.ID) {
	t.Helper()
	e, err := store.Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	entries, err := e.List(context.Background(), queue.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	size := map[queue.ID]int64{}
	for _, entry := range entries {
		size[entry.Message.ID] = entry.Message.Size
	}
	for _, id := range acknowledged {
		if _, ok := size[id]; !ok {
			t.Errorf("%s was acknowledged and is lost", id)
		}
	}
	for id, n := range size { // what was not acknowledged in time may be there, and is whole, too
		body, err := io.ReadAll(queue.Open(context.Background(), e, id))
		if err != nil || !bytes.Equal(body, crashBody(id, int(n))) {
			t.Errorf("%s: %d of %d octets, %v", id, len(body), n, err)
		}
	}
	t.Logf("%d acknowledged, %d there", len(acknowledged), len(size))
}

// TestKill kills a process in the middle of its work, again and again.
func TestKill(t *testing.T) {
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	urls := map[string]func(t *testing.T) string{
		"sqlite": func(t *testing.T) string { return "sqlite:" + t.TempDir() + "/queue.db" },
		"postgres": func(t *testing.T) string {
			url, err := postgres(t).Database(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			return url
		},
	}
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			url := url(t)
			var acknowledged []queue.ID
			for range rounds {
				acknowledged = append(acknowledged, runAndKill(t, url)...)
			}
			whole(t, url, acknowledged)
		})
	}
}

// TestPostgresServerKilled kills the server, with fsync on as in life: callers get
// errors, what was acknowledged is there after the restart, and a store that was open
// goes on.
func TestPostgresServerKilled(t *testing.T) {
	pg, err := storetest.StartPostgres(true)
	usable(t, pg, err)
	t.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	})
	url, err := pg.Database(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	e, err := store.Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var mu sync.Mutex
	var acknowledged []queue.ID
	var group sync.WaitGroup
	for range crashProducers {
		group.Go(func() {
			err := produce(e, func(id queue.ID) error {
				mu.Lock()
				defer mu.Unlock()
				acknowledged = append(acknowledged, id)
				return nil
			})
			if err == nil || strings.Contains(err.Error(), "panic") {
				t.Errorf("when the server was killed: %v", err)
			}
		})
	}
	time.Sleep(time.Duration(100+rand.IntN(200)) * time.Millisecond)
	if err := pg.Kill(); err != nil {
		t.Fatal(err)
	}
	group.Wait()
	if _, err := e.List(context.Background(), queue.Filter{}); err == nil {
		t.Error("List without a server was answered well")
	}
	if err := pg.Start(); err != nil {
		t.Fatal(err)
	}
	whole(t, url, acknowledged)
	if !eventually(func() bool { _, err := e.List(context.Background(), queue.Filter{Limit: 1}); return err == nil }) {
		t.Error("the store that was open does not go on")
	}
}

// eventually asks again for a while.
func eventually(ok func() bool) bool {
	for range 100 {
		if ok() {
			return true
		}
		time.Sleep(50 * time.Millisecond)
	}
	return false
}
