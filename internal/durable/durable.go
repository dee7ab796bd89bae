// Package durable brings files to stable storage: whole, or not at all. POSIX says what
// fsync and rename promise; that a new name lasts only once its folder was synced is what
// Linux adds (fsync(2)).
package durable

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile writes text in place of what the file has. Whoever reads meanwhile, or after a
// crash, finds the old text or the new one. A crash may leave a hidden file beside it. The
// error is the operating system's, and speaks of that file.
func WriteFile(name string, perm fs.FileMode, text []byte) (err error) {
	dir, base := filepath.Dir(name), filepath.Base(name)
	f, err := os.OpenFile(filepath.Join(dir, "."+base+"."+rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return SyncFolder(dir)
}

// SyncFolder makes the names in a folder last: new ones, and those that were changed.
func SyncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
