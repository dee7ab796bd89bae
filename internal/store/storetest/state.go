package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"mxward/internal/store"
)

// save saves a state that is written in two parts.
func (b *bench) save(owner, name string, value []byte) error {
	return b.SaveState(ctx(), b.now, owner, name, func(w io.Writer) error {
		if _, err := w.Write(value[:len(value)/3]); err != nil {
			return err
		}
		_, err := w.Write(value[len(value)/3:])
		return err
	})
}

// saved wants a state to be what it was saved as; nil for none.
func (b *bench) saved(owner, name string, want []byte) {
	b.Helper()
	r, err := b.LoadState(ctx(), owner, name)
	if want == nil {
		if !errors.Is(err, store.ErrNoState) {
			b.Errorf("%s of %s: %v, want ErrNoState", name, owner, err)
		}
		return
	}
	if err != nil {
		b.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		b.Errorf("%s of %s: %d octets, %v; want %d", name, owner, len(got), err, len(want))
	}
}

// testKeptState: what was saved last comes back, of each owner and name its own.
func testKeptState(t *testing.T, b *bench) {
	b.saved("mx1.example.com", "cache", nil)
	large := bytes.Repeat([]byte("0123456789abcde\x00"), 3<<16) // 3 MiB: several pieces, and the last one full
	for _, value := range [][]byte{large, []byte("small\xff"), {}, large[:2<<20+1]} {
		if err := b.save("mx1.example.com", "cache", value); err != nil {
			t.Fatal(err)
		}
		b.saved("mx1.example.com", "cache", value)
	}
	b.saved("mx2.example.com", "cache", nil)
	b.saved("mx1.example.com", "anchors", nil)
	for _, name := range []string{"anchors", "' OR 1 --"} {
		if err := b.save("mx1.example.com", name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	b.reopen()
	b.saved("mx1.example.com", "cache", large[:2<<20+1])
	b.saved("mx1.example.com", "anchors", []byte("anchors"))
	b.saved("mx1.example.com", "' OR 1 --", []byte("' OR 1 --"))
}

// testBrokenState: a save that does not come to its end leaves the old state, and so does
// one in whose way another process got; who reads meanwhile reads one of them, or nothing.
func testBrokenState(t *testing.T, b *bench) {
	old, other := bytes.Repeat([]byte("old "), 1<<19), []byte("other")
	if err := b.save("mx1.example.com", "cache", old); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken off")
	err := b.SaveState(ctx(), b.now, "mx1.example.com", "cache", func(w io.Writer) error {
		_, err := w.Write(make([]byte, 2<<20+5))
		b.saved("mx1.example.com", "cache", old)
		return errors.Join(err, broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("%v, want the writer's error", err)
	}
	stopped, stop := context.WithCancel(ctx())
	err = b.SaveState(stopped, b.now, "mx1.example.com", "cache", func(w io.Writer) error {
		stop()
		_, err := w.Write(make([]byte, 2<<20+5))
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that the context has ended", err)
	}
	b.saved("mx1.example.com", "cache", old)

	second := &bench{T: t, Engine: b.another(), now: b.now}
	reading, err := b.LoadState(ctx(), "mx1.example.com", "cache")
	if err != nil {
		t.Fatal(err)
	}
	err = b.SaveState(ctx(), b.now, "mx1.example.com", "cache", func(w io.Writer) error {
		_, err := w.Write(make([]byte, 2<<20+5))
		return errors.Join(err, second.save("mx1.example.com", "cache", other))
	})
	if err == nil {
		t.Error("a save in whose way another got has no error")
	}
	b.saved("mx1.example.com", "cache", other)
	if got, err := io.ReadAll(reading); err == nil && !bytes.Equal(got, old) {
		t.Errorf("half a state, %d octets, was read without an error", len(got))
	}
}
