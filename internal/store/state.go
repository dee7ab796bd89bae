package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// Bounds of a state. It is written piece by piece, each in a short transaction, so that
// mail goes on meanwhile.
const (
	stateChunk   = 1 << 20   // octets of a piece
	maxState     = 512 << 20 // octets of a state
	statePieces  = 16        // pieces that one transaction removes
	sweepTimeout = 30 * time.Second
)

// ErrNoState is what LoadState gives where nothing was saved.
var ErrNoState = errors.New("there is no such state")

// ErrStateSize is what SaveState gives for more than a store wants to keep.
var ErrStateSize = fmt.Errorf("the state has more than %d MiB", maxState>>20)

// errStateGone: another process of the same name has saved meanwhile.
var errStateGone = errors.New("another process has saved it meanwhile")

// stateKey names a state: what it is, of which gate.
type stateKey struct{ owner, name string }

func (k stateKey) String() string { return k.name + " of " + k.owner }

// stateTables is what an engine does for states, each call in a transaction of its own.
type stateTables interface {
	putState(ctx context.Context, k stateKey, version int64, seq int, data []byte) error
	// commitState makes the version the one that counts; errStateGone where pieces lack.
	commitState(ctx context.Context, now time.Time, k stateKey, version int64, chunks int) error
	// sweepState removes up to statePieces pieces of versions that do not count.
	sweepState(ctx context.Context, k stateKey) (removed int, err error)
	// stateHead gives the version that counts, or ErrNoState.
	stateHead(ctx context.Context, k stateKey) (version int64, chunks int, err error)
	// stateAt gives a piece, or errStateGone.
	stateAt(ctx context.Context, k stateKey, version int64, seq int) ([]byte, error)
}

// saveState puts a new state beside the old one and then, in one transaction, in its place:
// after a crash there is the one or the other, whole.
func saveState(ctx context.Context, t stateTables, now time.Time, k stateKey, write func(io.Writer) error) (err error) {
	if err := sweepStates(ctx, t, k); err != nil {
		return fmt.Errorf("saving the %s: %w", k, err)
	}
	w := &stateWriter{ctx: ctx, tables: t, key: k, version: rand.Int64(), piece: []byte{}} // nil would be NULL
	if err = write(w); err == nil {
		err = w.flush()
	}
	if err == nil {
		err = t.commitState(ctx, now, k, w.version, w.seq)
	}
	// What is left over now goes with the next save at the latest.
	sweep, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepTimeout)
	defer cancel()
	if err = errors.Join(err, sweepStates(sweep, t, k)); err != nil {
		return fmt.Errorf("saving the %s: %w", k, err)
	}
	return nil
}

func sweepStates(ctx context.Context, t stateTables, k stateKey) error {
	for {
		n, err := t.sweepState(ctx, k)
		if err != nil || n < statePieces {
			return err
		}
	}
}

// stateWriter stores what is written to it, piece by piece.
type stateWriter struct {
	ctx     context.Context // of the one call that it serves
	tables  stateTables
	key     stateKey
	version int64
	seq     int
	size    int64
	piece   []byte
}

// Write implements io.Writer.
func (w *stateWriter) Write(p []byte) (int, error) {
	if w.size += int64(len(p)); w.size > maxState {
		return 0, ErrStateSize
	}
	for written := 0; ; {
		n := min(len(p)-written, stateChunk-len(w.piece))
		w.piece = append(w.piece, p[written:written+n]...)
		if written += n; written == len(p) {
			return written, nil
		}
		if err := w.flush(); err != nil {
			return written, err
		}
	}
}

// flush stores the piece. An empty state has one piece without octets.
func (w *stateWriter) flush() error {
	if err := w.tables.putState(w.ctx, w.key, w.version, w.seq, w.piece); err != nil {
		return err
	}
	w.seq++
	w.piece = w.piece[:0]
	return nil
}

// loadState gives a state to read.
func loadState(ctx context.Context, t stateTables, k stateKey) (io.Reader, error) {
	version, chunks, err := t.stateHead(ctx, k)
	if err != nil {
		return nil, fmt.Errorf("loading the %s: %w", k, err)
	}
	return &stateReader{ctx: ctx, tables: t, key: k, version: version, chunks: chunks}, nil
}

// stateReader reads a state piece by piece.
type stateReader struct {
	ctx         context.Context // of the LoadState that gave it
	tables      stateTables
	key         stateKey
	version     int64
	seq, chunks int
	piece       []byte
}

// Read implements io.Reader.
func (r *stateReader) Read(p []byte) (int, error) {
	for len(r.piece) == 0 {
		if r.seq == r.chunks {
			return 0, io.EOF
		}
		var err error
		if r.piece, err = r.tables.stateAt(r.ctx, r.key, r.version, r.seq); err != nil {
			return 0, fmt.Errorf("loading the %s: %w", r.key, err)
		}
		r.seq++
	}
	n := copy(p, r.piece)
	r.piece = r.piece[n:]
	return n, nil
}
