package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"mxward/internal/store"
)

// Names and times of what the resolver keeps in the store.
const (
	cacheState   = "resolver-cache"
	anchorsState = "resolver-anchors"
	maxAnchors   = 1 << 20 // octets
	saveEach     = 15 * time.Minute
	saveTimeout  = 20 * time.Second // with stopGrace before it, below systemd's 90 s
	loadTimeout  = time.Minute      // in the background, while questions are answered
)

// stateStore is the part of the store that outlives a restart.
type stateStore interface {
	SaveState(ctx context.Context, now time.Time, owner, name string, write func(io.Writer) error) error
	LoadState(ctx context.Context, owner, name string) (io.Reader, error)
}

// memory keeps in the store what the resolver of one gate knows. Gates that share a store
// have each their own, since each believes and asks what its plan says. It is a
// resolver.AnchorState.
type memory struct {
	store stateStore
	gate  string
}

// memory gives the one of this machine.
func (a *App) memory() memory {
	gate := a.plan.Name
	if len(a.hosts) > 0 {
		gate = a.hosts[0].Name
	}
	return memory{a.store, gate.String()}
}

// LoadAnchors implements resolver.AnchorState.
func (m memory) LoadAnchors(ctx context.Context) ([]byte, error) {
	r, err := m.store.LoadState(ctx, m.gate, anchorsState)
	if errors.Is(err, store.ErrNoState) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxAnchors+1))
	if err == nil && len(text) > maxAnchors {
		err = fmt.Errorf("the anchors of %s have more than %d octets", m.gate, maxAnchors)
	}
	return text, err
}

// SaveAnchors implements resolver.AnchorState.
func (m memory) SaveAnchors(ctx context.Context, state []byte) error {
	return m.store.SaveState(ctx, time.Now(), m.gate, anchorsState, func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(state))
		return err
	})
}

// keepCache takes up what the resolver knew before the restart, and keeps what it knows
// every so often, and when ctx ends. A store that is down costs a line in the log.
func (a *App) keepCache(ctx context.Context) {
	a.loadCache(ctx)
	for {
		// With jitter, so that gates that share a store do not come all at once.
		next := time.NewTimer(saveEach/2 + rand.N(saveEach))
		select {
		case <-next.C:
			a.saveCache(ctx)
		case <-ctx.Done():
			next.Stop()
			a.saveCache(context.WithoutCancel(ctx))
			return
		}
	}
}

// loadCache: a cache that cannot be read costs nothing but time.
func (a *App) loadCache(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	m := a.memory()
	r, err := m.store.LoadState(ctx, m.gate, cacheState)
	if errors.Is(err, store.ErrNoState) {
		return
	}
	loaded := 0
	if err == nil {
		loaded, err = a.iterative.Load(r)
	}
	a.logLoaded(loaded, err)
}

func (a *App) saveCache(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	m := a.memory()
	a.report("keep the resolver's cache", m.store.SaveState(ctx, time.Now(), m.gate, cacheState, a.iterative.Dump))
}

func (a *App) logLoaded(names int, err error) {
	if err != nil {
		a.log.Warn("the resolver's cache of the last time is left alone", "loaded", names, "err", err)
		return
	}
	a.log.Info("the resolver's cache was loaded", "loaded", names)
}
