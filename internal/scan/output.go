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
		_, o.err = o.file.Write(o.pending.Bytes())
	}
	o.pending.Reset()
}

func (o *Output) keep(sync bool) {
	defer close(o.stopped)
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	for {
		end := false
		select {
		case <-tick.C:
		case <-o.stop:
			end = true
		}
		o.mu.Lock()
		o.flush()
		o.mu.Unlock()
		if sync {
			if err := o.file.Sync(); err != nil {
				o.mu.Lock()
				o.err = err
				o.mu.Unlock()
			}
		}
		if end {
			return
		}
	}
}

// Close writes what is left. It does not close the file.
func (o *Output) Close() error {
	close(o.stop)
	<-o.stopped
	return o.err
}
