package server

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
)

// turnstile lets a goroutine wait until everybody has had a turn who can go on now, also those
// whose packet has come and who do not know it yet. runtime.Gosched does less: while there is
// always somebody who can go on, Go's scheduler looks at the network each 10 ms only, and a
// question with three steps would wait for that three times.
//
// It is a pipe, from which the goroutine reads what it wrote itself, but not before the
// scheduler has seen that something is there: then it has seen the packets of all others too.
type turnstile struct {
	in, out *os.File
	raw     syscall.RawConn // of in
}

func newTurnstile() (*turnstile, error) {
	in, out, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("opening a pipe: %w", err)
	}
	// One that the poller had no room for would not wait; this says so.
	if err := in.SetReadDeadline(time.Time{}); err != nil {
		return nil, errors.Join(err, in.Close(), out.Close())
	}
	raw, err := in.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, in.Close(), out.Close())
	}
	return &turnstile{in: in, out: out, raw: raw}, nil
}

// pass is for one goroutine at a time.
func (t *turnstile) pass() {
	written := false
	var octet [1]byte
	// The pipe is ours, and open: there is no error that could come to pass.
	_ = t.raw.Read(func(fd uintptr) (done bool) {
		if !written {
			written = true
			_, err := t.out.Write(octet[:])
			return err != nil
		}
		_, err := syscall.Read(int(fd), octet[:])
		return err != syscall.EAGAIN && err != syscall.EINTR
	})
	runtime.Gosched() // it may have told this goroutine before the others
}

func (t *turnstile) Close() error { return errors.Join(t.in.Close(), t.out.Close()) }
