package watch

import (
	"context"
	"errors"
	"time"
)

// errTaken: another gate stands in the state.
var errTaken = errors.New("another gate has taken the watch")

// met is another gate's lease, as this one saw it first.
type met struct {
	holder string
	until  time.Time
	when   time.Time // by this host's own clock
}

// hold reports whether it is this process that watches: always where the store is its own. Gates
// that share a store agree by a lease in the state, which is read again before each write. Two that
// take it in the same moment both write, and the later one wins; the other sees that before it
// writes or sends again.
func (w *Watcher) hold(ctx context.Context, now time.Time) (bool, error) {
	if w.state == nil {
		return w.take(ctx, now)
	}
	if w.Gate == "" || now.Add(leaseTime/2).Before(w.state.Until) {
		return true, nil
	}
	if !now.Before(w.state.Until) { // as after a suspension
		w.lost()
		return w.take(ctx, now)
	}
	w.state.Until = now.Add(leaseTime).Round(0) // the wall clock's: the other one stops in a suspension
	if err := w.keep(ctx); err != nil {
		w.lost()
		return false, err
	}
	return true, nil
}

// take reads the state, and takes the lease where it is free.
func (w *Watcher) take(ctx context.Context, now time.Time) (bool, error) {
	s, err := w.load(ctx)
	if err != nil {
		return false, err
	}
	if w.Gate != "" {
		if !w.free(s, now) {
			return false, nil
		}
		before := s.Holder
		s.Holder, s.Until = w.Gate, now.Add(leaseTime).Round(0)
		if err := w.save(ctx, s); err != nil {
			return false, err
		}
		if before != w.Gate {
			pause(ctx, settle)
			if s, err = w.load(ctx); err != nil || s.Holder != w.Gate {
				return false, err
			}
		}
		newEvents(w.Logger).taken(len(w.Domains))
	}
	w.state = s
	s.forget(w.Domains)
	w.schedule(time.Now())
	w.waiting(len(s.Unsent))
	return true, nil
}

// free reports whether this gate may take the lease: nobody has it, or who has it gave no sign of
// life for a whole lease. That is measured by this host's clock alone, as two hosts' clocks differ.
func (w *Watcher) free(s *state, now time.Time) bool {
	if s.Holder == "" || s.Holder == w.Gate {
		return true
	}
	if s.Holder != w.met.holder || !s.Until.Equal(w.met.until) {
		w.met = met{s.Holder, s.Until, now}
	}
	return now.Sub(w.met.when) >= leaseTime
}

// owned is an error unless the store says that this gate watches.
func (w *Watcher) owned(ctx context.Context) error {
	if w.Gate == "" {
		return nil
	}
	s, err := w.load(context.WithoutCancel(ctx))
	if err == nil && s.Holder != w.Gate {
		w.lost()
		err = errTaken
	}
	return err
}

// keep writes the state, unless another watches by now.
func (w *Watcher) keep(ctx context.Context) error {
	if err := w.owned(ctx); err != nil {
		return err
	}
	return w.save(ctx, w.state)
}

// lost: what this process knows is not what counts any more. Where the store is its own, it is.
func (w *Watcher) lost() {
	if w.Gate == "" {
		return
	}
	w.state = nil
	w.clear()
}

// release lets another gate go on at once.
func (w *Watcher) release(ctx context.Context) {
	if w.state == nil || w.Gate == "" || !time.Now().Before(w.state.Until) {
		return
	}
	if err := w.owned(ctx); err != nil {
		newEvents(w.Logger).state(err)
		return
	}
	w.state.Holder, w.state.Until = "", time.Now().Round(0)
	if err := w.save(ctx, w.state); err != nil {
		newEvents(w.Logger).state(err)
	}
}

// load reads the state. In a store that gates share nobody can take a bad one away by hand: it is
// begun anew.
func (w *Watcher) load(ctx context.Context) (*state, error) {
	if w.Store == nil {
		return newState(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	text, err := w.Store.Load(ctx)
	if err != nil {
		return nil, err
	}
	s, err := readState(text)
	if errors.Is(err, ErrState) && w.Gate != "" {
		newEvents(w.Logger).state(err)
		return newState(), nil
	}
	return s, err
}

// save writes the state, though the program is about to end.
func (w *Watcher) save(ctx context.Context, s *state) error {
	if w.Store == nil {
		return nil
	}
	text, err := s.text()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
	defer cancel()
	return w.Store.Save(ctx, text)
}
