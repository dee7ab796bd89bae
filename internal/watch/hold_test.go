package watch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// skewed is a shared store as a host sees it whose clock is ahead.
type skewed struct {
	*shared
	ahead time.Duration
}

func (s skewed) Load(ctx context.Context) ([]byte, error) {
	text, err := s.shared.Load(ctx)
	return s.shift(text, -s.ahead), err
}

func (s skewed) Save(ctx context.Context, text []byte) error {
	return s.shared.Save(ctx, s.shift(text, s.ahead))
}

func (s skewed) shift(text []byte, d time.Duration) []byte {
	if len(text) == 0 {
		return nil
	}
	st, err := readState(text)
	if err != nil {
		panic(err)
	}
	st.Until = st.Until.Add(d)
	text, err = st.text()
	if err != nil {
		panic(err)
	}
	return text
}

func (s *shared) holder(t *testing.T) string {
	t.Helper()
	text, err := s.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	st, err := readState(text)
	if err != nil {
		t.Fatal(err)
	}
	return st.Holder
}

// TestClocksApart: of two gates whose clocks differ by more than the lease one watches.
func TestClocksApart(t *testing.T) {
	for _, ahead := range []time.Duration{11 * time.Minute, -11 * time.Minute, 1000 * day} {
		synctest.Test(t, func(t *testing.T) {
			store := &shared{}
			o, p := &world{looks: always("spf.loop pass")}, &world{looks: always("spf.loop pass")}
			a, b := o.watcher(t, "example.com"), p.watcher(t, "example.com")
			a.Store, a.Gate, b.Store, b.Gate = store, "mx1.example.com", skewed{store, ahead}, "mx2.example.com"
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Hour)
			defer cancel()
			go a.Run(ctx)
			sleep(time.Minute)
			go b.Run(ctx)
			sleep(6 * time.Hour)
			if len(o.seen) < 4 || len(p.seen) != 0 {
				t.Errorf("%s ahead: looks %s and %s", ahead, o.seen, p.seen)
			}
		})
	}
}

// TestTakenAway: who finds another gate in the state stops, and does not write over it.
func TestTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shared{}
		o := &world{looks: always("mx.missing critical confirmed"), refuse: 1}
		w := o.watcher(t, "example.com")
		w.Store, w.Gate = store, "mx1.example.com"
		ctx, cancel := context.WithCancel(t.Context())
		go w.Run(ctx)
		sleep(4 * time.Minute) // a message waits to be sent again
		s, err := readState(store.text)
		if err != nil || len(s.Unsent) != 1 {
			t.Fatalf("%+v, %v", s, err)
		}
		s.Holder, s.Until = "mx2.example.com", time.Now().Add(leaseTime)
		text, err := s.text()
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Save(ctx, text); err != nil {
			t.Fatal(err)
		}
		sleep(leaseTime - time.Minute)
		if got := store.holder(t); got != "mx2.example.com" || len(o.seen) != 1 || len(o.sent) != 0 {
			t.Errorf("%s watches, looks %s, sent %q", got, o.seen, o.sent)
		}
		cancel()
		synctest.Wait()
		if got := store.holder(t); got != "mx2.example.com" {
			t.Errorf("after the stop %s watches", got)
		}
	})
}
