package report

import (
	"io"

	"mxward/internal/mailauth/attach"
	"mxward/internal/mailauth/dmarcrpt"
	"mxward/internal/mailauth/tlsrpt"
)

// Found is the reports of one message or file.
type Found struct {
	Aggregate []dmarcrpt.Report
	Failures  []dmarcrpt.Failure
	TLS       []tlsrpt.Report
	Faults    []string // what was overlooked, for people
}

// Parse finds the reports of all kinds in a message or a file, compressed or not. It gives at
// least one, or an error: then nothing.
func Parse(r io.Reader) (Found, error) {
	var f Found
	if err := attach.Find(r, f.take); err != nil {
		return Found{}, err
	}
	return f, nil
}

func (f *Found) take(i attach.Item) error {
	switch i.Kind {
	case attach.XML:
		r, err := dmarcrpt.Parse(i.Content)
		if err != nil {
			return err
		}
		f.Aggregate, f.Faults = append(f.Aggregate, r), append(f.Faults, r.Faults...)
	case attach.JSON:
		r, err := tlsrpt.ParseReport(i.Content)
		if err != nil {
			return err
		}
		f.TLS, f.Faults = append(f.TLS, r), append(f.Faults, r.Faults...)
	case attach.Feedback:
		r, err := dmarcrpt.ParseFailure(i.Content)
		if err != nil {
			return err
		}
		f.Failures, f.Faults = append(f.Failures, r), append(f.Faults, r.Faults...)
	case attach.Original: // belongs to the failure report before it
		if len(f.Failures) == 0 {
			return attach.ErrNotReport
		}
		return f.Failures[len(f.Failures)-1].ReadOriginal(i.Content)
	}
	return nil
}
