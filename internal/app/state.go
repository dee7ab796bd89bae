package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Files of the resolver's folder.
const (
	cacheFile   = "cache"
	anchorsFile = "anchors"
)

// stateFolder keeps what the resolver knows across restarts. It is a resolver.AnchorState.
// What is in it is believed: the folder is the daemon's alone.
type stateFolder string

// LoadAnchors implements resolver.AnchorState.
func (d stateFolder) LoadAnchors(context.Context) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(string(d), anchorsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// SaveAnchors implements resolver.AnchorState.
func (d stateFolder) SaveAnchors(_ context.Context, state []byte) error {
	return d.replace(anchorsFile, func(f *os.File) error {
		_, err := f.Write(state)
		return err
	})
}

// replace puts a new file in the place of an old one, whole or not at all.
func (d stateFolder) replace(name string, write func(*os.File) error) error {
	f, err := os.CreateTemp(string(d), name+".*.new")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already if all went well
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(string(d), name))
}

// keepState lets the resolver go on where the last one ended, and keep its cache at the
// end. A cache that cannot be read costs nothing but time.
func (a *App) keepState() error {
	folder := stateFolder(a.plan.Resolver.State)
	if folder == "" {
		return nil
	}
	if err := os.MkdirAll(string(folder), 0o700); err != nil {
		return fmt.Errorf("make the resolver's folder: %w", err)
	}
	a.iterative.AnchorState = folder
	switch f, err := os.Open(filepath.Join(string(folder), cacheFile)); {
	case err == nil:
		n, err := a.iterative.Load(f)
		f.Close()
		a.report("load the resolver's cache", err)
		a.log.Info("the resolver's cache was loaded", "names", n)
	case !errors.Is(err, fs.ErrNotExist):
		a.report("load the resolver's cache", err)
	}
	a.cleanups = append(a.cleanups, func() {
		a.report("keep the resolver's cache", folder.replace(cacheFile, func(f *os.File) error { return a.iterative.Dump(f) }))
	})
	return nil
}
