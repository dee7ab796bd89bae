package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// How SQLite is set up. A page of 16 KiB holds three messages of usual size; the log grows
// to 4,096 pages before it is folded into the file, so that mail which is delivered soon
// is hardly ever written there.
const (
	sqlitePage       = 16 << 10
	sqliteCheckpoint = 4096             // pages
	sqliteCache      = 16 << 10         // KiB
	sqliteBusy       = 10 * time.Second // how long to wait for another process
	sqliteReaders    = 4
)

// SQLite is the embedded engine: one file in WAL mode, one writer in this process, and
// readers beside it. Other processes may have the file open at the same time: every
// transaction is short.
type SQLite struct {
	closing sync.Once
	writeDB *sql.DB
	readDB  *sql.DB
	chunk   *sql.Stmt // of readDB
	writer  *sqliteWriter
	group   *group[sqliteOp]
}

func openSQLite(ctx context.Context, path string) (*SQLite, error) {
	if err := prepareFile(path); err != nil {
		return nil, err
	}
	writeDB, err := sql.Open("sqlite", sqliteDSN(path,
		"page_size("+strconv.Itoa(sqlitePage)+")", "journal_mode(wal)", "synchronous(full)",
		"wal_autocheckpoint("+strconv.Itoa(sqliteCheckpoint)+")", "cache_size(-"+strconv.Itoa(sqliteCache)+")"))
	if err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", path, err)
	}
	writeDB.SetMaxOpenConns(1)
	s := &SQLite{writeDB: writeDB}
	if err := s.setUp(ctx, path); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the store %s: %w", path, err), s.Close())
	}
	return s, nil
}

// prepareFile makes the file with a mode that keeps mail private; SQLite gives its
// companions (-wal, -shm) the same.
func prepareFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		folder := filepath.Dir(path)
		return fmt.Errorf("opening the store %s: the folder %s does not exist: create it first, owned by the user that mxward runs as", path, folder)
	case err != nil:
		return fmt.Errorf("opening the store: %w", err)
	}
	return f.Close()
}

// sqliteDSN gives the driver's name of the file. Pragmas are run in their order on each
// connection; the time-out comes first, so that the others can wait for a lock.
func sqliteDSN(path string, pragmas ...string) string {
	query := url.Values{"_txlock": {"immediate"}}
	query.Add("_pragma", "busy_timeout("+strconv.FormatInt(sqliteBusy.Milliseconds(), 10)+")")
	for _, p := range pragmas {
		query.Add("_pragma", p)
	}
	name := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: query.Encode()}
	return name.String()
}

func (s *SQLite) setUp(ctx context.Context, path string) error {
	if err := migrateSQLite(ctx, s.writeDB); err != nil {
		return err
	}
	var err error
	if s.readDB, err = sql.Open("sqlite", sqliteDSN(path, "query_only(1)", "cache_size(-8192)")); err != nil {
		return err
	}
	s.readDB.SetMaxOpenConns(sqliteReaders)
	s.readDB.SetMaxIdleConns(sqliteReaders)
	if s.chunk, err = s.readDB.PrepareContext(ctx, sqliteChunk); err != nil {
		return err
	}
	// The connection lives as long as the store, not as long as ctx.
	if s.writer, err = newSQLiteWriter(context.WithoutCancel(ctx), s.writeDB); err != nil {
		return err
	}
	s.group = newGroup(1, s.writer.execute)
	return nil
}

// migrateSQLite brings the tables up to date. Two processes may do so at the same time:
// who comes second waits, fails since the tables are there, and finds nothing to do.
func migrateSQLite(ctx context.Context, db *sql.DB) error {
	folder, err := fs.Sub(migrations, "migrations/sqlite")
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		provider, err := goose.NewProvider(goose.DialectSQLite3, db, folder)
		if err != nil {
			return fmt.Errorf("preparing the tables: %w", err)
		}
		if _, err = provider.Up(ctx); err == nil {
			return nil
		}
		if try == 3 || ctx.Err() != nil {
			return fmt.Errorf("preparing the tables: %w", err)
		}
	}
}

// Failed implements Engine: a disk that failed to flush is not trusted again.
func (s *SQLite) Failed() <-chan struct{} { return s.writer.failed }

// Close ends the store. What was answered is on the disk.
func (s *SQLite) Close() (err error) {
	s.closing.Do(func() { err = s.close() })
	return err
}

func (s *SQLite) close() error {
	var errs []error
	if s.group != nil {
		s.group.close()
	}
	if s.readDB != nil {
		errs = append(errs, s.readDB.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.close())
	}
	// The last connection to close folds the log into the file.
	errs = append(errs, s.writeDB.Close())
	return errors.Join(errs...)
}
