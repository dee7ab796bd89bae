//go:build !linux

package server

// batch exists on Linux alone.
type batch struct{}

func newBatch(*udpLoop) *batch { return nil }

func (*batch) turn() error { return errNoBatches }
