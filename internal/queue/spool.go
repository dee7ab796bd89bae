package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// smallBuffer is what a Spool begins with, so that a message of a few kilobytes, as most
// are, does not cost a whole chunk of memory.
const smallBuffer = 8 << 10

// Spool takes a body as it comes in and keeps at most one chunk of it in memory: full
// chunks go to the store, the rest waits in a buffer for Enqueue. It is used by one
// goroutine.
type Spool struct {
	ctx    context.Context
	store  Bodies
	id     ID
	pool   *sync.Pool
	buf    []byte
	chunks int
	size   int64
	err    error
}

// chunkPool is shared by the Spools of a process: whole chunks are worth keeping. It is
// made once and holds nothing but empty buffers.
var chunkPool = sync.Pool{New: func() any { return new([ChunkSize]byte) }}

// NewSpool begins the body of the message id. ctx is that of the session: it bounds the
// calls of the store.
func NewSpool(ctx context.Context, store Bodies, id ID) *Spool {
	return &Spool{ctx: ctx, store: store, id: id, pool: &chunkPool}
}

// Write takes the next octets of the body. After an error the body is lost: the Spool
// gives the same error for ever.
func (s *Spool) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	written := 0
	for len(p) > 0 {
		if len(s.buf) == ChunkSize {
			if s.err = s.flush(); s.err != nil {
				return written, s.err
			}
		}
		n := s.room(len(p))
		s.buf = append(s.buf, p[:n]...)
		p = p[n:]
		written += n
		s.size += int64(n)
	}
	return written, nil
}

// flush stores a full chunk. It is called when one octet more is here, so that a body of
// exactly one chunk stays a tail and costs the store one write instead of two.
func (s *Spool) flush() error {
	if err := s.store.AppendChunk(s.ctx, time.Now(), s.id, s.chunks, s.buf); err != nil {
		return fmt.Errorf("storing chunk %d of message %s: %w", s.chunks, s.id, err)
	}
	s.chunks++
	s.buf = s.buf[:0]
	return nil
}

// room makes place for up to n octets and tells how many fit: buffers double from
// smallBuffer and end in a chunk from the pool.
func (s *Spool) room(n int) int {
	want := min(len(s.buf)+n, ChunkSize)
	if want > cap(s.buf) {
		s.grow(want)
	}
	return min(n, cap(s.buf)-len(s.buf))
}

func (s *Spool) grow(want int) {
	size := max(cap(s.buf)*2, smallBuffer)
	for size < want {
		size *= 2
	}
	var next []byte
	if size >= ChunkSize {
		next = s.pool.Get().(*[ChunkSize]byte)[:0]
	} else {
		next = make([]byte, 0, size)
	}
	s.buf = append(next, s.buf...)
}

// Size gives the octets written so far.
func (s *Spool) Size() int64 { return s.size }

// Body gives what Message.Chunks and Message.Tail want. The tail is good until Discard.
func (s *Spool) Body() (chunks int, tail []byte) { return s.chunks, s.buf }

// Discard gives the memory back: call it when Enqueue has returned, or when the message
// is given up. Chunks that no message refers to are removed by Sweep.
func (s *Spool) Discard() {
	if cap(s.buf) == ChunkSize {
		s.pool.Put((*[ChunkSize]byte)(s.buf[:ChunkSize]))
	}
	s.buf = nil
	if s.err == nil {
		s.err = errDiscarded
	}
}

var errDiscarded = errors.New("writing a message: it was discarded")

// reader reads a body chunk by chunk.
type reader struct {
	ctx   context.Context
	store Bodies
	id    ID
	seq   int
	rest  []byte
	err   error // what comes after rest
}

// Open reads the body of an enqueued message. It holds one chunk at a time and asks for
// the next one when that is used up.
func Open(ctx context.Context, b Bodies, id ID) io.ReadCloser {
	return &reader{ctx: ctx, store: b, id: id}
}

// Read gives the next octets.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.fill(); err != nil {
		return 0, err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// WriteTo spares io.Copy its buffer: chunks go to w as they are.
func (r *reader) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		if err := r.fill(); err == io.EOF {
			return total, nil
		} else if err != nil {
			return total, err
		}
		n, err := w.Write(r.rest)
		total += int64(n)
		r.rest = r.rest[n:]
		if err != nil {
			return total, err
		}
	}
}

func (r *reader) fill() error {
	if len(r.rest) > 0 {
		return nil
	}
	if r.err != nil {
		return r.err
	}
	data, err := r.store.Chunk(r.ctx, r.id, r.seq)
	switch {
	case err == io.EOF:
		r.err = io.EOF
	case err != nil:
		r.err = fmt.Errorf("reading chunk %d of message %s: %w", r.seq, r.id, err)
	case len(data) < ChunkSize:
		// Only the last chunk may be short, so there is nothing to ask for after it.
		r.rest, r.err = data, io.EOF
	default:
		r.rest = data
	}
	r.seq++
	if len(r.rest) == 0 {
		return r.err
	}
	return nil
}

// Close ends the reading.
func (r *reader) Close() error {
	r.rest, r.err = nil, errClosed
	return nil
}

var errClosed = errors.New("reading a message: it was closed")
