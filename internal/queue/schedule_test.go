package queue

import (
	"testing"
	"time"
)

// TestSchedule follows one message through its life, without jitter: at most five
// attempts in the first hour and a half, the last one when it expires.
func TestSchedule(t *testing.T) {
	received := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	expires := Expires(received, false)
	want := []time.Duration{ // after the first attempt
		1 * time.Minute, 6 * time.Minute, 16 * time.Minute, 36 * time.Minute, 76 * time.Minute,
		136 * time.Minute, 256 * time.Minute, 496 * time.Minute, 736 * time.Minute,
	}
	now := received
	for i, after := range want {
		now = NextAttempt(now, expires, i+1, 0.5)
		if got := now.Sub(received); got != after {
			t.Errorf("attempt %d is after %s, want %s", i+2, got, after)
		}
	}
	attempts := len(want) + 1
	for now.Before(expires) {
		now = NextAttempt(now, expires, attempts, 0.5)
		attempts++
	}
	if !now.Equal(expires) || attempts != 37 {
		t.Errorf("the last attempt is number %d, %s before the end; want 37 and 0", attempts, expires.Sub(now))
	}
}

func TestJitter(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	far := now.Add(Lifetime)
	for _, row := range []struct {
		attempt int
		chance  float64
		want    time.Duration
	}{
		{1, 0, 54 * time.Second},     // a tenth less
		{1, 0.5, time.Minute},        // the middle
		{3, 0.75, 630 * time.Second}, // half a tenth more
		{99, 0, 216 * time.Minute},   // every 4 hours for ever
		{0, 0.5, time.Minute},        // an attempt that was not counted
	} {
		if got := NextAttempt(now, far, row.attempt, row.chance).Sub(now); got != row.want {
			t.Errorf("after attempt %d, chance %g: %s, want %s", row.attempt, row.chance, got, row.want)
		}
	}
	if got := NextAttempt(now, now.Add(time.Second), 1, 0.5).Sub(now); got != time.Second {
		t.Errorf("with a second to live: %s, want that second", got)
	}
}

func TestExpires(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if got := Expires(now, false).Sub(now); got != 120*time.Hour {
		t.Errorf("mail is tried for %s, want 5 days", got)
	}
	if got := Expires(now, true).Sub(now); got != 240*time.Hour {
		t.Errorf("as a backup for %s, want 10 days", got)
	}
}
