package scan

import (
	"context"
	"errors"
	"os"
	"testing"
)

// TestQuietPipe: a pipe that says nothing does not keep a scan that is to end, neither for its
// beginning nor for a line; what it said before is read, without waiting for more.
func TestQuietPipe(t *testing.T) {
	for _, row := range []struct {
		why string
		run func(context.Context, *Input) error
	}{
		{"its beginning", func(_ context.Context, in *Input) error { _, err := in.Identity(); return err }},
		{"a line", func(ctx context.Context, in *Input) error {
			return (&Scanner{Check: fine, Parse: parse, Tally: &Tally{}}).Run(ctx, in, &kept{})
		}},
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		ctx, cancel := context.WithCancel(t.Context())
		in, err := NewInput(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteString("example.com\nexam"); err != nil {
			t.Fatal(err)
		}
		if row.why == "a line" {
			if line, err := in.Next(); err != nil || line.Text != "example.com" {
				t.Errorf("%+v, %v", line, err)
			}
		}
		ended := make(chan error)
		go func() { ended <- row.run(ctx, in) }()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", row.why, err)
		}
	}
}
