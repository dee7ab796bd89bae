package store

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"time"
)

// SaveState implements Engine.
func (s *SQLite) SaveState(ctx context.Context, now time.Time, owner, name string, write func(io.Writer) error) error {
	return saveState(ctx, s, now, stateKey{owner, name}, write)
}

// LoadState implements Engine.
func (s *SQLite) LoadState(ctx context.Context, owner, name string) (io.Reader, error) {
	return loadState(ctx, s, stateKey{owner, name})
}

func (s *SQLite) putState(ctx context.Context, k stateKey, version int64, seq int, data []byte) error {
	return s.do(ctx, true, len(data), func(w *sqliteWriter) error {
		_, err := w.conn.ExecContext(w.ctx, `INSERT INTO state_chunk (owner, name, version, seq, data) VALUES (?, ?, ?, ?, ?)`,
			k.owner, k.name, version, seq, data)
		return err
	})
}

func (s *SQLite) commitState(ctx context.Context, now time.Time, k stateKey, version int64, chunks int) error {
	return s.do(ctx, true, 0, func(w *sqliteWriter) error {
		result, err := w.conn.ExecContext(w.ctx, `INSERT OR REPLACE INTO state (owner, name, version, chunks, updated)
			SELECT ?1, ?2, ?3, ?4, ?5 WHERE ?4 = (SELECT count(*) FROM state_chunk WHERE owner = ?1 AND name = ?2 AND version = ?3)`,
			k.owner, k.name, version, chunks, now.UnixMicro())
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return unchanged{errors.Join(errStateGone, err)}
		}
		return nil
	})
}

func (s *SQLite) sweepState(ctx context.Context, k stateKey) (removed int, err error) {
	err = s.do(ctx, false, 0, func(w *sqliteWriter) error {
		result, err := w.conn.ExecContext(w.ctx, `DELETE FROM state_chunk WHERE rowid IN (SELECT rowid FROM state_chunk
			WHERE owner = ?1 AND name = ?2 AND version IS NOT (SELECT version FROM state WHERE owner = ?1 AND name = ?2) LIMIT ?3)`,
			k.owner, k.name, statePieces)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		removed = int(n)
		return err
	})
	return removed, err
}

func (s *SQLite) stateHead(ctx context.Context, k stateKey) (version int64, chunks int, err error) {
	row := s.readDB.QueryRowContext(ctx, `SELECT version, chunks FROM state WHERE owner = ? AND name = ?`, k.owner, k.name)
	if err = row.Scan(&version, &chunks); errors.Is(err, sql.ErrNoRows) {
		err = ErrNoState
	}
	return version, chunks, err
}

func (s *SQLite) stateAt(ctx context.Context, k stateKey, version int64, seq int) (data []byte, err error) {
	row := s.readDB.QueryRowContext(ctx, `SELECT data FROM state_chunk WHERE owner = ? AND name = ? AND version = ? AND seq = ?`,
		k.owner, k.name, version, seq)
	if err = row.Scan(&data); errors.Is(err, sql.ErrNoRows) {
		err = errStateGone
	}
	return data, err
}
