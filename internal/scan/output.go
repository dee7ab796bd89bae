package scan

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// syncEvery is how often what was written is brought to stable storage: a crash of the machine
// costs so much work, and no line; ours.
const syncEvery = time.Second

// Output is a Sink that writes lines of JSON to a file or a pipe.
type Output struct {
	full    bool
	file    File
	buffers sync.Pool // of *bytes.Buffer
	mu      sync.Mutex
	pending bytes.Buffer
	written int // whole lines that the file has taken
	stored  int // of them, those that will last
	err     error
	stop    chan struct{}
	stopped chan struct{}
}

const flushAt = 256 << 10 // octets

// NewOutput writes to file, whose Sync may fail where it is a pipe: sync says whether that matters.
func NewOutput(file File, full, sync bool) *Output {
	o := &Output{full: full, file: file, stop: make(chan struct{}), stopped: make(chan struct{})}
	o.buffers.New = func() any { return new(bytes.Buffer) }
	go o.keep(sync)
	return o
}

// File is what an Output writes to.
type File interface {
	io.Writer
	Sync() error
}

// Put implements Sink.
func (o *Output) Put(r Result) error {
	buf := o.buffers.Get().(*bytes.Buffer)
	defer o.buffers.Put(buf)
	buf.Reset()
	if err := r.Write(buf, o.full); err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pending.Write(buf.Bytes())
	if o.pending.Len() >= flushAt {
		o.flush()
	}
	return o.err
}

// flush wants o.mu.
func (o *Output) flush() {
	if o.err == nil && o.pending.Len() > 0 {
		var n int
		n, o.err = o.file.Write(o.pending.Bytes())
		o.written += bytes.Count(o.pending.Bytes()[:n], []byte("\n"))
	}
	o.pending.Reset()
}

func (o *Output) keep(sync bool) {
	defer close(o.stopped)
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	var unsure error // whatever a Sync says after one that failed, what that one had is not known to be there
	for end := false; !end; {
		select {
		case <-tick.C:
		case <-o.stop:
			end = true
		}
		o.mu.Lock()
		o.flush()
		written := o.written
		o.mu.Unlock()
		if sync && unsure == nil {
			unsure = o.file.Sync()
		}
		o.mu.Lock()
		if unsure == nil {
			o.stored = written
		} else if o.err == nil {
			o.err = unsure
		}
		o.mu.Unlock()
	}
}

// Close writes what is left. It does not close the file.
func (o *Output) Close() error {
	close(o.stop)
	<-o.stopped
	return o.err
}

// Stored gives how many lines were written whole, and brought to stable storage where that
// matters. It is asked after Close.
func (o *Output) Stored() int { return o.stored }
