package store

import (
	"context"
	"errors"
	"testing"
	"time"
)

// noTables keeps nothing.
type noTables struct{ pieces, committed int }

func (t *noTables) putState(_ context.Context, _ stateKey, _ int64, seq int, data []byte) error {
	t.pieces++
	if len(data) > stateChunk {
		return errors.New("a piece is too large")
	}
	return nil
}
func (t *noTables) commitState(context.Context, time.Time, stateKey, int64, int) error {
	t.committed++
	return nil
}
func (t *noTables) sweepState(context.Context, stateKey) (int, error)       { return 0, nil }
func (t *noTables) stateHead(context.Context, stateKey) (int64, int, error) { return 0, 1, nil }
func (t *noTables) stateAt(context.Context, stateKey, int64, int) ([]byte, error) {
	return nil, errStateGone
}

// TestStateSize: a state is bounded, and what is beyond never gets to the disk.
func TestStateSize(t *testing.T) {
	var tables noTables
	w := &stateWriter{ctx: t.Context(), tables: &tables, size: maxState - 10}
	if n, err := w.Write(make([]byte, 10)); n != 10 || err != nil {
		t.Errorf("the last octets: %d, %v", n, err)
	}
	if n, err := w.Write([]byte{1}); n != 0 || !errors.Is(err, ErrStateSize) {
		t.Errorf("one octet more: %d, %v", n, err)
	}
	w = &stateWriter{ctx: t.Context(), tables: &tables}
	if n, err := w.Write(make([]byte, 5*stateChunk/2)); n != 5*stateChunk/2 || err != nil || tables.pieces != 2 {
		t.Errorf("two pieces and a half: %d, %v, %d pieces", n, err, tables.pieces)
	}
}
