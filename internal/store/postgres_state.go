package store

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
)

// SaveState implements Engine.
func (p *Postgres) SaveState(ctx context.Context, now time.Time, owner, name string, write func(io.Writer) error) error {
	return saveState(ctx, p, now, stateKey{plain(owner), plain(name)}, write)
}

// LoadState implements Engine.
func (p *Postgres) LoadState(ctx context.Context, owner, name string) (io.Reader, error) {
	return loadState(ctx, p, stateKey{plain(owner), plain(name)})
}

func (p *Postgres) putState(ctx context.Context, k stateKey, version int64, seq int, data []byte) error {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	_, err := p.pool.Exec(ctx, `INSERT INTO state_chunk (owner, name, version, seq, data) VALUES ($1, $2, $3, $4, $5)`,
		k.owner, k.name, version, seq, data)
	return err
}

// stateLock is the advisory lock that keeps a sweep from pieces that are about to count.
const stateLock = 0x6d787773 // "mxws"

func (p *Postgres) commitState(ctx context.Context, now time.Time, k stateKey, version int64, chunks int) error {
	return p.atomic(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(stateLock)); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `INSERT INTO state (owner, name, version, chunks, updated) SELECT $1::text, $2::text, $3::bigint, $4::integer, $5::bigint
			WHERE $4::integer = (SELECT count(*) FROM state_chunk WHERE owner = $1 AND name = $2 AND version = $3)
			ON CONFLICT (owner, name) DO UPDATE SET version = excluded.version, chunks = excluded.chunks, updated = excluded.updated`,
			k.owner, k.name, version, chunks, now.UnixMicro())
		if err == nil && tag.RowsAffected() == 0 {
			err = errStateGone
		}
		return err
	})
}

func (p *Postgres) sweepState(ctx context.Context, k stateKey) (removed int, err error) {
	err = p.atomic(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(stateLock)); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM state_chunk WHERE ctid = ANY (ARRAY (SELECT ctid FROM state_chunk
			WHERE owner = $1 AND name = $2 AND version IS DISTINCT FROM (SELECT version FROM state WHERE owner = $1 AND name = $2) LIMIT $3))`,
			k.owner, k.name, statePieces)
		removed = int(tag.RowsAffected())
		return err
	})
	return removed, err
}

func (p *Postgres) stateHead(ctx context.Context, k stateKey) (version int64, chunks int, err error) {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	row := p.pool.QueryRow(ctx, `SELECT version, chunks FROM state WHERE owner = $1 AND name = $2`, k.owner, k.name)
	if err = row.Scan(&version, &chunks); errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoState
	}
	return version, chunks, err
}

func (p *Postgres) stateAt(ctx context.Context, k stateKey, version int64, seq int) (data []byte, err error) {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	row := p.pool.QueryRow(ctx, `SELECT data FROM state_chunk WHERE owner = $1 AND name = $2 AND version = $3 AND seq = $4`,
		k.owner, k.name, version, seq)
	if err = row.Scan(&data); errors.Is(err, pgx.ErrNoRows) {
		err = errStateGone
	}
	return data, err
}
