package site

import "path/filepath"

// LoadStore reads only where the plan's store is: whoever looks at the queue at night needs
// no certificate, and no zone without mistakes. The error is Errors, and has all mistakes
// of the file if the store is one of them.
func LoadStore(path string) (string, error) {
	text, err := readFile(path)
	if err != nil {
		return "", unreadable(path, err)
	}
	d := parseDraft(text, path)
	if d.Store == "" || d.bad[atKey("site", "store")] {
		_, err := d.finish()
		return "", err
	}
	d.resolvePaths(filepath.Dir(path))
	return d.Store, nil
}
