package queue

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestNewID(t *testing.T) {
	seen := map[ID]bool{}
	for range 10_000 { // many in one millisecond
		id := NewID()
		if len(id) != idLength || strings.Trim(string(id), idDigits) != "" {
			t.Fatalf("%q is not %d letters and digits", id, idLength)
		}
		if seen[id] {
			t.Fatalf("%q came twice", id)
		}
		seen[id] = true
	}
}

func TestIDsSortByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ids []ID
		for _, pause := range []time.Duration{0, time.Millisecond, time.Second, 24 * time.Hour, 80 * 365 * 24 * time.Hour} {
			time.Sleep(pause)
			ids = append(ids, NewID())
		}
		if !slices.IsSorted(ids) {
			t.Errorf("not sorted: %q", ids)
		}
	})
}
