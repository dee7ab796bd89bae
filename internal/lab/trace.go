package lab

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Trace is one thing that happened in a story.
type Trace struct {
	At    time.Duration `json:"-"`    // since the story began
	Ms    float64       `json:"ms"`   // the same in milliseconds
	Who   string        `json:"who"`  // the actor: "Postfix", "gate mx1.example.com", "resolver of gate"
	What  string        `json:"what"` // a sentence without its subject
	Story int           `json:"-"`
}

// tracer collects what happens in one story, from all its goroutines.
type tracer struct {
	story int
	began time.Time
	show  func(Trace)

	mu     sync.Mutex
	events []Trace
}

func newTracer(story int, show func(Trace)) *tracer {
	return &tracer{story: story, began: time.Now(), show: show, events: []Trace{}}
}

// say adds an event.
func (t *tracer) say(who, format string, args ...any) {
	at := time.Since(t.began)
	e := Trace{At: at, Ms: float64(at.Microseconds()) / 1000, Who: who, What: fmt.Sprintf(format, args...), Story: t.story}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, e)
	if t.show != nil {
		t.show(e)
	}
}

func (t *tracer) all() []Trace {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Trace{}, t.events...)
}

// logger makes the log of one of mxward's own parts a part of the trace.
func (t *tracer) logger(who string) *slog.Logger {
	return slog.New(&traceHandler{tracer: t, who: who})
}

// traceHandler is a slog.Handler that writes into a trace.
type traceHandler struct {
	tracer *tracer
	who    string
	attrs  []slog.Attr
}

func (h *traceHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

func (h *traceHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	add := func(a slog.Attr) bool {
		if text := a.Value.String(); text != "" {
			fmt.Fprintf(&b, " %s=%s", a.Key, quoteIfSpaced(text))
		}
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	h.tracer.say(h.who, "%s", b.String())
	return nil
}

func (h *traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &traceHandler{h.tracer, h.who, append(append([]slog.Attr{}, h.attrs...), attrs...)}
}

// WithGroup keeps attributes flat: a trace is read by people.
func (h *traceHandler) WithGroup(string) slog.Handler { return h }

func quoteIfSpaced(s string) string {
	if strings.ContainsAny(s, " \"\n") {
		return fmt.Sprintf("%q", s)
	}
	return s
}
