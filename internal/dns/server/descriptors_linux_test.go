package server_test

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"

	"mxward/internal/dns/server"
)

// TestNoDescriptors: where the descriptors run out at the start, ServeUDP says so, and the socket is
// closed all the same.
func TestNoDescriptors(t *testing.T) {
	for free := range 2 { // one is for the socket's second descriptor; the pipe needs two
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		refill := exhaust(t, free)
		err = new(server.Server).ServeUDP(pc)
		refill()
		if !errors.Is(err, syscall.EMFILE) {
			t.Errorf("with %d: %v", free, err)
		}
		again, err := net.ListenPacket("udp", pc.LocalAddr().String())
		if err != nil {
			t.Errorf("with %d the socket stays open: %v", free, err)
			continue
		}
		again.Close()
	}
}

// exhaust leaves so many descriptors free, until it is undone.
func exhaust(t *testing.T, free int) (undo func()) {
	t.Helper()
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	few := was
	few.Cur = 100
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	var open []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		open = append(open, f)
	}
	for range free {
		open[len(open)-1].Close()
		open = open[:len(open)-1]
	}
	return func() {
		for _, f := range open {
			f.Close()
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
			t.Fatal(err)
		}
	}
}
