package store_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"mxward/internal/mail"
	"mxward/internal/queue"
	"mxward/internal/store"
	"mxward/internal/store/storetest"
)

// benchBody is a message of usual size.
func benchBody() []byte { return bytes.Repeat([]byte("0123456789abcdef0123456789abcde\r\n"), 5000/33) }

func benchMessage(b *testing.B, n int, body []byte) queue.Message {
	from, err := mail.ParseAddress("sender@example.net")
	if err != nil {
		b.Fatal(err)
	}
	to, err := mail.ParseAddress(fmt.Sprintf("user%d@example.com", n%1000))
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	return queue.Message{
		ID:       queue.NewID(),
		Envelope: mail.Envelope{From: mail.Path{Address: from}, Recipients: []mail.Recipient{{Address: to}}},
		Received: now, Expires: queue.Expires(now, false), Client: "mail.example.net [192.0.2.1]",
		Size: int64(len(body)), Tail: body,
	}
}

// meter gives the processor time that was used so far.
type meter func() time.Duration

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// producers calls work b.N times from so many goroutines, and reports rate and cost.
func producers(b *testing.B, cpu meter, count int, work func(n int)) {
	var next atomic.Int64
	var group sync.WaitGroup
	began := cpu()
	b.ResetTimer()
	for range count {
		group.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				work(int(n))
			}
		})
	}
	group.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
	b.ReportMetric(float64((cpu()-began).Microseconds())/float64(b.N), "cpu-µs/msg")
}

func benchEnqueue(b *testing.B, e store.Engine, cpu meter, count int) {
	body := benchBody()
	producers(b, cpu, count, func(n int) {
		if err := e.Enqueue(context.Background(), time.Now(), benchMessage(b, n, body)); err != nil {
			b.Error(err)
		}
	})
}

// benchCycle enqueues, leases, reads, and finishes each message, all at the same time.
func benchCycle(b *testing.B, e store.Engine, cpu meter, count int) {
	body := benchBody()
	ctx, stop := context.WithCancel(context.Background())
	runner := &queue.Runner{Store: e, Deliverer: acceptAll{e: e}, Name: "mx.example.com", Workers: 100, PerDestination: 50, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))}
	var done sync.WaitGroup
	done.Go(func() { _ = runner.Run(ctx) })
	producers(b, cpu, count, func(n int) {
		if err := e.Enqueue(ctx, time.Now(), benchMessage(b, n, body)); err != nil {
			b.Error(err)
		}
		runner.Wake()
		for n == b.N {
			if left, err := e.List(ctx, queue.Filter{Limit: 1}); err != nil || len(left) == 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
	})
	stop()
	done.Wait()
}

func BenchmarkSQLite(b *testing.B) {
	open := func(b *testing.B) store.Engine {
		e, err := store.Open(context.Background(), "sqlite:"+filepath.Join(b.TempDir(), "queue.db"))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := e.Close(); err != nil {
				b.Error(err)
			}
		})
		return e
	}
	bench(b, ownCPU, open)
}

// BenchmarkPostgres has fsync on. The processor time is that of this process and of the
// server together.
func BenchmarkPostgres(b *testing.B) {
	pg, err := storetest.StartPostgres(true)
	usable(b, pg, err)
	b.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			b.Error(err)
		}
	})
	both := func() time.Duration {
		server, err := pg.CPU()
		if err != nil {
			b.Error(err)
		}
		return ownCPU() + server
	}
	bench(b, both, func(b *testing.B) store.Engine {
		e, err := freshPostgres(pg)(b)()
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = e.Close() })
		return e
	})
}

func bench(b *testing.B, cpu meter, open func(b *testing.B) store.Engine) {
	for _, count := range []int{1, 50, 100} {
		b.Run(fmt.Sprintf("enqueue-%d", count), func(b *testing.B) { benchEnqueue(b, open(b), cpu, count) })
	}
	b.Run("cycle-50", func(b *testing.B) { benchCycle(b, open(b), cpu, 50) })
}

// acceptAll is a Deliverer that reads every message and takes it.
type acceptAll struct{ e store.Engine }

func (acceptAll) Deliver(_ context.Context, env mail.Envelope, open func() io.ReadCloser) []mail.Outcome {
	body := open()
	defer body.Close()
	status := mail.Delivered
	if n, err := io.Copy(io.Discard, body); err != nil || n == 0 {
		status = mail.Deferred
	}
	outcomes := make([]mail.Outcome, len(env.Recipients))
	for i, r := range env.Recipients {
		outcomes[i] = mail.Outcome{Recipient: r.Address, Status: status, Stage: mail.StageDot, Reply: mail.NewReply(250, 0, 0, "ok"), When: time.Now()}
	}
	return outcomes
}
