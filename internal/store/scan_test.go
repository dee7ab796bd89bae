package store_test

import (
	"context"
	"strings"
	"testing"

	"mxward/internal/store"
	"mxward/internal/store/storetest"
)

func TestScans(t *testing.T) {
	pg := postgres(t)
	storetest.RunScans(t, func(t testing.TB) func() storetest.Scans {
		url, err := pg.Database(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return func() storetest.Scans {
			s, err := store.OpenScans(context.Background(), url)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return s
		}
	})
}

// TestOpenScansErrors: whatever is wrong with a URL, its password is not shown.
func TestOpenScansErrors(t *testing.T) {
	folder := t.TempDir()
	for _, row := range []struct{ why, url string }{
		{"no scheme", "secret"},
		{"as libpq writes it", "host=localhost password=secret"},
		{"the scheme is forgotten", "user:secret@localhost/db"},
		{"another engine", "mysql:secret"},
		{"a port that is none", "postgres://user:secret@localhost:port/db"},
		{"what must be written otherwise", "postgres://user:%zzsecret@localhost/db"},
		{"an @ in it", "postgres://user:x@secret@localhost:port/db"},
		{"a / in it", "postgres://user:x/secret@localhost/db"},
		{"a / in it, after what may be a port", "postgres://user:1/secret@localhost/db"},
		{"a # in it", "postgres://user:x#secret@localhost/db"},
		{"a ? in it", "postgres://user:x?secret@localhost/db"},
		{"a space in it", "postgres://user:x secret@local host/db"},
		{"as a parameter", "postgres://user@localhost:port/db?password=secret"},
		{"as a parameter, no server", "postgres://user@/db?password=secret&host=" + folder},
		{"no server", "postgres://user:secret@/db?host=" + folder},
		{"a parameter that is none", "postgres://user:secret@localhost/db?sslmode=sometimes"},
		{"a ? in it, after what may be a port", "postgres://user:1?secret@localhost/db"},
		{"a certificate that is not there", "postgres://user:secret@localhost/db?sslmode=verify-full&sslrootcert=/none"},
	} {
		s, err := store.OpenScans(t.Context(), row.url)
		if err == nil {
			s.Close()
			t.Errorf("%s: it was opened", row.why)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", row.why, err)
		}
	}
}
