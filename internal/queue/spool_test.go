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
	for seq >= len(m.chunks) {
		m.chunks = append(m.chunks, nil)
	}
	if m.chunks[seq] != nil {
		return errors.New("a chunk came twice")
	}
	m.chunks[seq] = bytes.Clone(data)
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
			chunks, tail, err := s.Body(nil)
			if err != nil {
				t.Fatal(err)
			}
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

// TestSpoolHead: a head comes before the body, however much of that is stored already.
func TestSpoolHead(t *testing.T) {
	for _, size := range []int{0, 1, smallBuffer - 1, smallBuffer, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2 * ChunkSize, 3*ChunkSize + 5} {
		for _, length := range []int{1, 700, MaxHead} {
			m := &memoryBodies{}
			s := NewSpool(context.Background(), m, "m1")
			head, body := bytes.Repeat([]byte("h"), length), bodyOf(size)
			if _, err := s.Write(body); err != nil {
				t.Fatal(err)
			}
			chunks, tail, err := s.Body(head)
			if err != nil || chunks != len(m.chunks) || s.Size() != int64(size+length) {
				t.Fatalf("%d octets: %d chunks of %d, size %d, %v", size, chunks, len(m.chunks), s.Size(), err)
			}
			m.tail = bytes.Clone(tail)
			s.Discard()
			got, err := io.ReadAll(Open(context.Background(), m, "m1"))
			if err != nil || !bytes.Equal(got, append(head, body...)) {
				t.Errorf("%d octets after a head of %d: read %d, %v", size, length, len(got), err)
			}
		}
	}
	s := NewSpool(context.Background(), &memoryBodies{}, "m1")
	if _, _, err := s.Body(make([]byte, MaxHead+1)); err == nil {
		t.Error("a head of any size is taken")
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
	if _, err := s.Write(bodyOf(2 * ChunkSize)); err != nil {
		t.Errorf("a first chunk, and one that is only full: %v", err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, broken) {
		t.Errorf("Write: %v, want the store's error", err)
	}
	m.err = nil
	if _, err := s.Write([]byte("x")); !errors.Is(err, broken) {
		t.Errorf("Write after an error: %v, want the same error: the body has a hole", err)
	}
	if _, _, err := s.Body(nil); !errors.Is(err, broken) {
		t.Errorf("Body after an error: %v, want the same error", err)
	}
	s.Discard()
	s.Discard() // twice is harmless

	// The first chunk is the last to be stored, and that may fail, too.
	m.err = broken
	s = NewSpool(context.Background(), m, "m3")
	if _, err := s.Write(bodyOf(ChunkSize + 1)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Body([]byte("head")); !errors.Is(err, broken) {
		t.Errorf("Body: %v, want the store's error", err)
	}
	m.err = nil

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
