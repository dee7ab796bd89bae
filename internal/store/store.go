// Package store keeps what must outlive the process, mail first: it implements
// queue.Store, reputation.Store and what package report keeps on two engines, SQLite for one
// machine and PostgreSQL for several that share a queue (no standard; RFC 5321 §4.2.5 is why
// it waits for stable storage).
//
// Both engines commit in groups: calls that wait at the same time share one transaction
// and one flush to the disk, without waiting for company. Times are kept to the
// microsecond.
package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"mxward/internal/queue"
	"mxward/internal/report"
	"mxward/internal/reputation"
)

// Engine is a store. Close waits for the calls that are under way.
//
// A call whose context ends while it waits for its turn changes nothing; once it has its
// turn, it goes on to its end, and its result is the truth.
type Engine interface {
	queue.Store
	reputation.Store
	report.Counts
	report.Days
	report.Reports
	// SaveState keeps what write gives it, under a name of an owner's: the old or the new
	// one is there, whole, whatever happens meanwhile. Owners that save at the same time
	// under one name get in each other's way, and one of them an error. ErrStateSize is that
	// of a write of more than 512 MiB.
	SaveState(ctx context.Context, now time.Time, owner, name string, write func(io.Writer) error) error
	// LoadState gives what was saved last, to be read piece by piece until ctx ends; its
	// error wraps ErrNoState where there is nothing.
	LoadState(ctx context.Context, owner, name string) (io.Reader, error)
	// Failed is closed once the engine will never work again in this process: it has to be
	// opened anew. nil for one that always comes back by itself.
	Failed() <-chan struct{}
	Close() error
}

// ErrClosed is what calls give after Close.
var ErrClosed = errors.New("the store is closed")

//go:embed migrations
var migrations embed.FS

// Open opens the store of the URL, makes or updates its tables, and gives it ready to use:
// sqlite:PATH or postgres://….
func Open(ctx context.Context, url string) (Engine, error) {
	scheme, rest, ok := strings.Cut(url, ":")
	switch {
	case ok && scheme == "sqlite" && rest != "":
		return openSQLite(ctx, rest)
	case ok && (scheme == "postgres" || scheme == "postgresql"):
		return openPostgres(ctx, url)
	}
	if !ok {
		scheme = "" // it is the whole, and a password may be in it
	}
	return nil, fmt.Errorf("opening the store %q: expected sqlite:PATH or postgres://…", scheme)
}
