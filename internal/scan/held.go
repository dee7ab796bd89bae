package scan

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"mxward/internal/dns"
)

// maxHeld is how many domains that wait for a second look are kept in memory; ours.
const maxHeld = 10_000

// held are the domains that wait for a second look, those beyond maxHeld in a temporary file.
type held struct {
	mu   sync.Mutex
	some []work
	file *os.File
	w    *bufio.Writer
}

// heldLine is one of them in the file.
type heldLine struct {
	Line   int       `json:"l"`
	Text   string    `json:"t"`
	Domain string    `json:"d"`
	Since  time.Time `json:"s"`
}

func (h *held) add(w work) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.some) < maxHeld {
		h.some = append(h.some, w)
		return nil
	}
	if h.file == nil {
		f, err := os.CreateTemp("", "mxward-scan-")
		if err != nil {
			return fmt.Errorf("hold back domains: %w", err)
		}
		if err := os.Remove(f.Name()); err != nil { // it is there as long as it is open, and not after a crash
			return errors.Join(fmt.Errorf("hold back domains: %w", err), f.Close())
		}
		h.file, h.w = f, bufio.NewWriter(f)
	}
	return json.NewEncoder(h.w).Encode(heldLine{w.line, w.text, w.domain.String(), w.since})
}

// take gives what is there, and forgets it.
func (h *held) take() *held {
	h.mu.Lock()
	defer h.mu.Unlock()
	taken := &held{some: h.some, file: h.file, w: h.w}
	h.some, h.file, h.w = nil, nil, nil
	return taken
}

// each sends all of them on. Nobody adds any more.
func (h *held) each(ctx context.Context, jobs chan<- work) error {
	send := func(w work) error {
		select {
		case jobs <- w:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, w := range h.some {
		if err := send(w); err != nil {
			return err
		}
	}
	if h.file == nil {
		return nil
	}
	if err := h.w.Flush(); err != nil {
		return fmt.Errorf("hold back domains: %w", err)
	}
	if _, err := h.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("hold back domains: %w", err)
	}
	for d := json.NewDecoder(bufio.NewReader(h.file)); ; {
		var l heldLine
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read domains that were held back: %w", err)
		}
		domain, err := dns.ParseName(l.Domain)
		if err != nil {
			return err
		}
		if err := send(work{l.Line, l.Text, domain, l.Since}); err != nil {
			return err
		}
	}
}

func (h *held) close() {
	if h.file != nil {
		h.file.Close()
	}
}
