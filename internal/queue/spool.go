package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// smallBuffer is what a Spool begins with, so that a message of a few kilobytes, as most
// are, does not cost a whole chunk of memory.
const smallBuffer = 8 << 10

// MaxHead is how many octets of head a Spool may put before a body.
const MaxHead = 64 << 10

// Spool takes a body as it comes in and keeps at most two chunks of it in memory: the
// first, to which Body adds the head that is known only in the end, and the one that is
// being filled. Full chunks go to the store, the rest waits in a buffer for Enqueue. It is
// used by one goroutine.
type Spool struct {
	ctx    context.Context
	store  Bodies
	id     ID
	pool   *sync.Pool
	first  []byte // chunk 0, full, once there is more than that; nil before
	buf    []byte
	chunks int
	size   int64
	err    error
}

// chunkPool is shared by the Spools of a process: whole chunks are worth keeping. It is
// made once and holds nothing but empty buffers, each with room for a head.
var chunkPool = sync.Pool{New: func() any { return new([maxBuffer]byte) }}

const maxBuffer = ChunkSize + MaxHead

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

// flush stores a full chunk, or keeps it if it is the first. It is called when one octet
// more is here, so that a body of exactly one chunk stays a tail and costs the store one
// write instead of two.
func (s *Spool) flush() error {
	if s.chunks == 0 {
		s.first, s.buf = s.buf, nil
	} else if err := s.append(s.chunks, s.buf); err != nil {
		return err
	}
	s.chunks++
	s.buf = s.buf[:0]
	return nil
}

func (s *Spool) append(seq int, data []byte) error {
	if err := s.store.AppendChunk(s.ctx, time.Now(), s.id, seq, data); err != nil {
		return fmt.Errorf("storing chunk %d of message %s: %w", seq, s.id, err)
	}
	return nil
}

// room makes place for up to n octets and tells how many fit: buffers double from
// smallBuffer and end in a chunk from the pool.
func (s *Spool) room(n int) int {
	want := min(len(s.buf)+n, ChunkSize)
	if want > cap(s.buf) {
		s.grow(want)
	}
	return min(n, min(cap(s.buf), ChunkSize)-len(s.buf))
}

func (s *Spool) grow(want int) {
	size := max(cap(s.buf)*2, smallBuffer)
	for size < want {
		size *= 2
	}
	var next []byte
	if size >= ChunkSize {
		next = s.pool.Get().(*[maxBuffer]byte)[:0]
	} else {
		next = make([]byte, 0, size)
	}
	s.buf = append(next, s.buf...)
}

// Size gives the octets so far, the head included once Body has it.
func (s *Spool) Size() int64 { return s.size }

// Body ends the body, puts the head before it, of at most MaxHead octets, and gives what
// Message.Chunks and Message.Tail want. It is called once. The tail is good until Discard.
//
// The first chunk is stored last: who reads a body asks for the chunks of an enqueued
// message only, and Enqueue counts them.
func (s *Spool) Body(head []byte) (chunks int, tail []byte, err error) {
	switch {
	case s.err != nil:
	case len(head) > MaxHead:
		s.err = fmt.Errorf("writing message %s: a head of %d octets, at most %d are allowed", s.id, len(head), MaxHead)
	case s.chunks == 0 && len(s.buf)+len(head) <= ChunkSize:
		s.buf = slices.Insert(s.buf, 0, head...)
	default:
		if s.chunks == 0 { // no tail is longer than a chunk
			s.first, s.buf, s.chunks = s.buf, nil, 1
		}
		s.first = slices.Insert(s.first, 0, head...)
		s.err = s.append(0, s.first)
	}
	if s.err != nil {
		return 0, nil, s.err
	}
	s.size += int64(len(head))
	return s.chunks, s.buf, nil
}

// Discard gives the memory back: call it when Enqueue has returned, or when the message
// is given up. Chunks that no message refers to are removed by Sweep.
func (s *Spool) Discard() {
	for _, buf := range [][]byte{s.first, s.buf} {
		if cap(buf) == maxBuffer {
			s.pool.Put((*[maxBuffer]byte)(buf[:maxBuffer]))
		}
	}
	s.first, s.buf = nil, nil
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
