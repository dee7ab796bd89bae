// Package lab is a small internet in one process, on loopback addresses and unprivileged
// ports: root, TLD and domain name servers, MX hosts that behave well and badly, senders
// that step through MX hosts as real mail servers do (RFC 5321 §5.1 as practised), and
// mxward itself, whole, as the gate. It shows people how mail finds its way, and tests use
// it. It needs Linux, where all of 127/8 is loopback; no root, no configuration.
package lab

import (
	"context"
	"fmt"
	"time"
)

// Schema is the name and version of Document's JSON form; fields are only ever added.
const Schema = "mxward.lab/1"

// storyLimit bounds one story: the slowest waits for one resolver time-out and a retry.
const storyLimit = 50 * time.Second

// Document is what the lab found.
type Document struct {
	Schema  string  `json:"schema"`
	Stories []Story `json:"stories"`
}

// OK reports whether every fact of every story holds.
func (d Document) OK() bool {
	for _, s := range d.Stories {
		if !s.OK {
			return false
		}
	}
	return len(d.Stories) > 0
}

// Story is one story, played.
type Story struct {
	ID     int     `json:"id"`
	Title  string  `json:"title"`
	OK     bool    `json:"ok"`
	Facts  []Fact  `json:"facts"`
	Events []Trace `json:"events"`
}

// Fact is a claim and what was seen of it.
type Fact struct {
	Claim string `json:"claim"`
	OK    bool   `json:"ok"`
	Seen  string `json:"seen"`
}

// Viewer is told of the stories while they play; its functions may be nil.
type Viewer struct {
	Begin func(id int, title string)
	Event func(Trace)
	Fact  func(Fact)
}

// Play plays all stories, one after the other. The error means that the lab itself could
// not be built; a story that goes wrong is in the Document.
func Play(ctx context.Context, v Viewer) (Document, error) {
	doc := Document{Schema: Schema, Stories: []Story{}}
	for i, script := range scripts() {
		story, err := play(ctx, i+1, script, v)
		if err != nil {
			return doc, fmt.Errorf("lab: story %d: %w", i+1, err)
		}
		doc.Stories = append(doc.Stories, story)
	}
	return doc, nil
}

// script is a story to play: it builds its world, acts, and states facts.
type script struct {
	title string
	act   func(ctx context.Context, w *world) error
}

func play(ctx context.Context, id int, s script, v Viewer) (Story, error) {
	ctx, cancel := context.WithTimeout(ctx, storyLimit)
	defer cancel()
	if v.Begin != nil {
		v.Begin(id, s.title)
	}
	w, err := newWorld(newTracer(id, v.Event), v.Fact)
	if err != nil {
		return Story{}, err
	}
	defer w.close()
	if err := s.act(ctx, w); err != nil {
		return Story{}, err
	}
	story := Story{ID: id, Title: s.title, OK: true, Facts: w.facts, Events: w.trace.all()}
	for _, f := range w.facts {
		story.OK = story.OK && f.OK
	}
	return story, nil
}
