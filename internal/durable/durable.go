// Package durable brings files to stable storage: whole, or not at all. POSIX says what
// fsync and rename promise; that a new name lasts only once its folder was synced is what
// Linux adds (fsync(2)).
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile writes text in place of what the file has. Whoever reads meanwhile, or after a
// crash, finds the old text or the new one. A crash may leave a hidden file beside it, until the
// next one is written.
func WriteFile(name string, perm fs.FileMode, text []byte) error {
	f, err := Hidden(name, perm)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
		return Named(name, err)
	}
	return SyncFolder(filepath.Dir(name))
}

// Named makes an error of the operating system about a hidden file speak of the one in whose
// place that was to come.
func Named(name string, err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return &fs.PathError{Op: at.Op, Path: name, Err: at.Err}
	}
	var between *os.LinkError
	if errors.As(err, &between) {
		return &fs.PathError{Op: between.Op, Path: name, Err: between.Err}
	}
	return err
}

// SyncFolder makes the names in a folder last: new ones, and those that were changed.
func SyncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
