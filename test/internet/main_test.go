package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	wire "github.com/miekg/dns"
)

// TestRun asks a root server of a small internet, and ends it by closing its input.
func TestRun(t *testing.T) {
	// Held where no server is, so that no test beside this one takes the same port.
	held, err := net.Listen("tcp4", "127.10.0.254:0")
	if err != nil {
		t.Skipf("left out: needs loopback addresses beyond 127.0.0.1: %v", err)
	}
	defer held.Close()
	port := held.Addr().(*net.TCPAddr).Port
	stdin, end := io.Pipe()
	stdout, said := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run([]string{"-zones", "60", "-port", fmt.Sprint(port), "-questions", "3"}, stdin, said)
		_ = said.Close()
	}()
	seen := map[string]int{}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && lines.Text() != "ready" {
		kind, _, _ := strings.Cut(lines.Text(), " ")
		seen[kind]++
	}
	if seen["hint"] != 3 || seen["anchor"] != 1 || seen["question"] != 3 {
		t.Errorf("said %v", seen)
	}
	m := new(wire.Msg).SetQuestion("com.", wire.TypeNS)
	m.SetEdns0(1232, true)
	r, err := wire.Exchange(m, fmt.Sprintf("127.10.0.1:%d", port))
	if err != nil || len(r.Ns) < 3 {
		t.Errorf("a root server said %v, %v", r, err)
	}
	_ = end.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := run([]string{"-port", "0"}, stdin, io.Discard); err == nil {
		t.Error("port 0 is taken")
	}
}
