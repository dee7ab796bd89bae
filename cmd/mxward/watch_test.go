package main

import (
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"mxward/internal/smtp/smtptest"
)

// relay is a mail host that takes what watch sends.
type relay struct {
	host    smtptest.Host
	address string
}

func serveRelay(t *testing.T) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{address: ln.Addr().String()}
	go r.host.Serve(ln)
	t.Cleanup(func() { r.host.Close() })
	return r
}

// mail wants so many messages, the last of them with a text: mail N TEXT.
func (r *relay) mail(ts *testscript.TestScript, neg bool, args []string) {
	all := r.host.Messages()
	if n, err := strconv.Atoi(args[0]); err != nil || n != len(all) {
		ts.Fatalf("the relay has %d messages, want %s", len(all), args[0])
	}
	if strings.Contains(all[len(all)-1].Body, args[1]) == neg {
		ts.Fatalf("the last message, which should have %q, is\n%s", args[1], all[len(all)-1].Body)
	}
}
