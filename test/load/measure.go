package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"mxward/internal/mail"
	"mxward/internal/smtp"
)

// clockTick is the unit of CPU times in /proc: USER_HZ is 100 on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// measure times work on n messages, and the CPU time that the processes used in it.
func measure(n int, pids func() []int, work func() error) (sample, error) {
	before := cpuTime(pids())
	began := time.Now()
	if err := work(); err != nil {
		return sample{}, err
	}
	took := time.Since(began)
	used := cpuTime(pids()) - before
	return sample{
		rate: float64(n) / took.Seconds(),
		cpu:  float64(used.Microseconds()) / float64(n),
	}, nil
}

// cpuTime adds up what the processes used, and what those of their children used that have
// ended and been waited for.
func cpuTime(pids []int) time.Duration {
	var ticks int
	for _, pid := range pids {
		fields := statFields(pid)
		for _, i := range []int{13, 14, 15, 16} { // utime, stime, cutime, cstime: proc(5)
			if i < len(fields) {
				n, _ := strconv.Atoi(fields[i])
				ticks += n
			}
		}
	}
	return time.Duration(ticks) * clockTick
}

// statFields gives the fields of /proc/PID/stat, the name's spaces taken out.
func statFields(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	head, tail, ok := strings.Cut(string(text), " (")
	end := strings.LastIndexByte(tail, ')')
	if !ok || end < 0 {
		return nil
	}
	return append([]string{head, "name"}, strings.Fields(tail[end+1:])...)
}

// family gives a process and everything below it.
func family(root int) []int {
	children := map[int][]int{}
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, e := range entries {
		pid, err := strconv.Atoi(filepath.Base(e))
		if err != nil {
			continue
		}
		if f := statFields(pid); len(f) > 3 {
			parent, _ := strconv.Atoi(f[3])
			children[parent] = append(children[parent], pid)
		}
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// peakMiB gives the most memory that a process had resident so far.
func peakMiB(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}
	return 0
}

// sink takes every message, keeps none, and counts them.
type sink struct {
	addr   string
	count  atomic.Int64
	server smtp.Server
}

func newSink() (*sink, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{addr: ln.Addr().String()}
	s.server = smtp.Server{Hostname: "sink.example.com", Handler: s, MaxSize: 100 << 20, MaxSessions: 10000, MaxPerClient: 10000}
	go s.server.Serve(ln)
	return s, nil
}

func (s *sink) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.server.Shutdown(ctx)
}

// NewSession implements smtp.Handler.
func (s *sink) NewSession(context.Context, smtp.Conn) (smtp.Session, smtp.Greeting) {
	return (*sinkSession)(s), smtp.Greeting{Reply: mail.Reply{Code: 220}}
}

type sinkSession sink

func (s *sinkSession) Hello(context.Context, smtp.Hello) mail.Reply {
	return mail.Reply{Code: 250, Text: "sink.example.com"}
}

func (s *sinkSession) Mail(context.Context, mail.Envelope) mail.Reply {
	return mail.NewReply(250, 1, 0, "ok")
}

func (s *sinkSession) Rcpt(context.Context, mail.Recipient) mail.Reply {
	return mail.NewReply(250, 1, 5, "ok")
}

func (s *sinkSession) Data(_ context.Context, body io.Reader) mail.Reply {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return mail.NewReply(451, 3, 0, "lost")
	}
	s.count.Add(1)
	return mail.NewReply(250, 0, 0, "ok")
}

func (s *sinkSession) End(smtp.End) {}
