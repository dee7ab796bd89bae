package scan

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"sync/atomic"
)

const (
	// maxLine is what is read of one line: a domain has 253 octets (RFC 1035 §2.3.4), as
	// U-labels at most four times as many.
	maxLine = 4096
	// prefix is how much of the input is looked at to know it again.
	prefix = 64 << 10
)

// Input is a Source of the lines of a file or a pipe.
type Input struct {
	in     *bufio.Reader
	number int
	read   atomic.Int64
	size   int64 // -1 for a pipe
}

// Identity is how an input is known again.
type Identity struct {
	Size   int64  `json:"size"` // -1 for a pipe
	Prefix string `json:"prefix_sha256"`
}

// Same reports whether another input may be the same.
func (i Identity) Same(other Identity) bool { return i == other }

// NewInput reads f until ctx ends.
func NewInput(ctx context.Context, f *os.File) (*Input, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errors.New("it is a folder")
	}
	in := &Input{in: bufio.NewReaderSize(&waiting{ctx, f, make([]byte, prefix)}, prefix), size: -1}
	if info.Mode().IsRegular() {
		in.size = info.Size()
	}
	return in, nil
}

// Identity gives what the input is known by. It comes before the first line is read, and waits
// for the beginning of a pipe.
func (in *Input) Identity() (Identity, error) {
	begins, err := in.in.Peek(prefix)
	if err != nil && !errors.Is(err, io.EOF) {
		return Identity{}, err
	}
	sum := sha256.Sum256(begins)
	return Identity{Size: in.size, Prefix: hex.EncodeToString(sum[:])}, nil
}

// Size gives the octets of the input, -1 for a pipe.
func (in *Input) Size() int64 { return in.size }

// waiting is a reader that waits no longer than for ctx, whatever a pipe does: a system call that
// reads cannot be called back, and is left to itself.
type waiting struct {
	ctx context.Context
	f   io.Reader
	buf []byte // of a read under way
}

// Read implements io.Reader.
func (w *waiting) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	type done struct {
		n   int
		err error
	}
	read := make(chan done, 1)
	into := w.buf[:min(len(p), len(w.buf))]
	go func() {
		n, err := w.f.Read(into)
		read <- done{n, err}
	}()
	select {
	case d := <-read:
		return copy(p, into[:d.n]), d.err
	case <-w.ctx.Done():
		return 0, w.ctx.Err()
	}
}

// Read gives how many octets were read; it may be asked meanwhile.
func (in *Input) Read() int64 { return in.read.Load() }

// Next implements Source. Spaces around a line, and a mark of byte order before the first, are
// not part of it.
func (in *Input) Next() (Line, error) {
	text, size, err := in.line()
	if err != nil {
		return Line{Number: in.number}, err
	}
	in.number++
	line := Line{Number: in.number, Text: text}
	if in.number == 1 {
		line.Text = strings.TrimPrefix(line.Text, "\ufeff")
	}
	line.Text = strings.TrimSpace(line.Text)
	if size > maxLine {
		line.Long = size
	}
	return line, nil
}

// line reads to the end of a line, keeps its beginning and gives how many octets it has.
func (in *Input) line() (string, int, error) {
	var kept []byte
	size := 0
	for {
		part, err := in.in.ReadSlice('\n')
		in.read.Add(int64(len(part)))
		size += len(part)
		kept = append(kept, part[:min(len(part), maxLine-len(kept))]...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && size > 0, err == nil:
			return string(kept), size, nil
		default:
			return "", 0, err
		}
	}
}
