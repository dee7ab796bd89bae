package queue

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"
)

// memoryBodies keeps chunks as a store does, and counts.
type memoryBodies struct {
	chunks [][]byte
	tail   []byte
	asked  int
	err    error
}

func (m *memoryBodies) AppendChunk(_ context.Context, _ time.Time, _ ID, seq int, data []byte) error {
	if m.err != nil {
		return m.err
	}
	if seq != len(m.chunks) {
		return errors.New("chunks came out of order")
	}
	m.chunks = append(m.chunks, bytes.Clone(data))
	return nil
}

func (m *memoryBodies) Chunk(_ context.Context, _ ID, seq int) ([]byte, error) {
	m.asked++
	switch {
	case m.err != nil:
		return nil, m.err
	case seq < len(m.chunks):
		return m.chunks[seq], nil
	case seq == len(m.chunks) && len(m.tail) > 0:
		return m.tail, nil
	}
	return nil, io.EOF
}

func (m *memoryBodies) Sweep(context.Context, time.Time) (int, error) { return 0, nil }

func bodyOf(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 4)
	}
	return b
}

func TestSpool(t *testing.T) {
	for _, row := range []struct {
		size, chunks, tail int
		asked              int // calls of Chunk to read it again
	}{
		{0, 0, 0, 1},                             // an empty message is a message
		{1, 0, 1, 1},                             //
		{smallBuffer, 0, smallBuffer, 1},         // the first buffer is full
		{smallBuffer + 1, 0, smallBuffer + 1, 1}, // and grows
		{ChunkSize - 1, 0, ChunkSize - 1, 1},     //
		{ChunkSize, 0, ChunkSize, 2},             // one write to the store, not two
		{ChunkSize + 1, 1, 1, 2},                 //
		{3*ChunkSize + 5, 3, 5, 4},               //
	} {
		for _, piece := range []int{1 << 20, 4096, 33} {
			m := &memoryBodies{}
			s := NewSpool(context.Background(), m, "m1")
			want := bodyOf(row.size)
			for rest := want; len(rest) > 0; {
				n, err := s.Write(rest[:min(piece, len(rest))])
				if err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			chunks, tail := s.Body()
			if chunks != row.chunks || len(tail) != row.tail || s.Size() != int64(row.size) || len(m.chunks) != row.chunks {
				t.Errorf("%d octets: %d chunks, tail of %d, size %d; want %d, %d", row.size, chunks, len(tail), s.Size(), row.chunks, row.tail)
			}
			m.tail = bytes.Clone(tail)
			s.Discard()
			r := Open(context.Background(), m, "m1")
			if err := iotest.TestReader(Open(context.Background(), m, "m1"), want); err != nil && row.size < 10_000 {
				t.Errorf("%d octets: %v", row.size, err)
			}
			m.asked = 0
			var got bytes.Buffer
			if _, err := io.Copy(&got, r); err != nil || !bytes.Equal(got.Bytes(), want) || m.asked != row.asked {
				t.Errorf("%d octets: read %d with %d calls, want %d; %v", row.size, got.Len(), m.asked, row.asked, err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestSpoolMemory: a message of usual size does not cost a chunk.
func TestSpoolMemory(t *testing.T) {
	m := &memoryBodies{}
	body := bodyOf(5000)
	result := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			s := NewSpool(context.Background(), m, "m1")
			if _, err := s.Write(body); err != nil {
				b.Fatal(err)
			}
			s.Discard()
		}
	})
	if got := result.AllocedBytesPerOp(); got > 2*smallBuffer {
		t.Errorf("5,000 octets cost %d, want at most %d", got, 2*smallBuffer)
	}
}

func TestSpoolErrors(t *testing.T) {
	broken := errors.New("no space left")
	m := &memoryBodies{err: broken}
	s := NewSpool(context.Background(), m, "m1")
	if _, err := s.Write(bodyOf(ChunkSize)); err != nil {
		t.Errorf("a chunk that is only full: %v", err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, broken) {
		t.Errorf("Write: %v, want the store's error", err)
	}
	m.err = nil
	if _, err := s.Write([]byte("x")); !errors.Is(err, broken) {
		t.Errorf("Write after an error: %v, want the same error: the body has a hole", err)
	}
	s.Discard()
	s.Discard() // twice is harmless

	s = NewSpool(context.Background(), m, "m2")
	s.Discard()
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("Write after Discard was answered well")
	}
}

func TestOpenErrors(t *testing.T) {
	broken := errors.New("the store is away")
	m := &memoryBodies{chunks: [][]byte{bodyOf(ChunkSize)}}
	r := Open(context.Background(), m, "m1")
	if _, err := io.ReadFull(r, make([]byte, ChunkSize)); err != nil {
		t.Fatal(err)
	}
	m.err = broken
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, broken) {
		t.Errorf("Read: %v, want the store's error, and never io.EOF: the message would be cut", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("Read after Close: %v, want an error", err)
	}
}
