package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	hiddenTries = 10   // of names, where others sweep in the same moment; ours
	sweepStep   = 1000 // names of a folder that are read at once; ours
)

// Hidden makes a file beside the named one, for what shall take its place when it is whole. It is
// this process's own for as long as it is open: rename it before it is closed. Those that
// processes which were killed have left there are removed.
func Hidden(name string, perm fs.FileMode) (*os.File, error) {
	sweep(name)
	for range hiddenTries {
		f, err := os.OpenFile(hidden(name, rand.Text()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
		if err != nil {
			return nil, Named(name, err)
		}
		if kept(f) {
			return f, nil
		}
		f.Close()
		os.Remove(f.Name())
	}
	return nil, fmt.Errorf("write %s: others write it all the time", name)
}

// kept makes a file this process's own. It reports false where somebody who sweeps was faster. A
// file system that knows no locks is not swept either.
func kept(f *os.File) bool {
	if errors.Is(lock(f), unix.EWOULDBLOCK) {
		return false
	}
	_, err := os.Lstat(f.Name())
	return !errors.Is(err, os.ErrNotExist)
}

// sweep removes the hidden files beside the named one that nobody has. What goes wrong is no
// matter of who would write there.
func sweep(name string) {
	folder, err := os.Open(filepath.Dir(name))
	if err != nil {
		return
	}
	defer folder.Close()
	for err == nil {
		var names []string
		names, err = folder.Readdirnames(sweepStep)
		for _, one := range names {
			path := filepath.Join(filepath.Dir(name), one)
			if random, ok := strings.CutPrefix(path, hidden(name, "")); ok && isRandom(random) {
				removeLeft(path)
			}
		}
	}
}

func removeLeft(path string) {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && lock(f) == nil {
		os.Remove(path)
	}
}

// lock takes the lock of a file, which ends with its process, or says that another has it.
func lock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

func hidden(name, random string) string {
	return filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+"."+random)
}

// isRandom reports whether a text may come from rand.Text: nothing else is ours.
func isRandom(text string) bool {
	return len(text) == len(rand.Text()) && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}
