package tape

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/fetch"
)

// fault is an error with all that whoever judges it can see in it.
type fault struct {
	Text    string   `json:"text"`
	Is      []string `json:"is"` // words of marks, and "certificate" for one that is not valid
	Timeout bool     `json:"timeout"`
	DNS     *trouble `json:"dns"`
}

// trouble is a dns.Error.
type trouble struct {
	Question question  `json:"question"`
	Trouble  string    `json:"trouble"`
	Extended uint16    `json:"extended"`
	Detail   string    `json:"detail"`
	Attempts []attempt `json:"attempts"`
	Packets  int       `json:"packets"`
	Cause    *fault    `json:"cause"`
}

type attempt struct {
	Server   netip.AddrPort `json:"server"`
	Name     string         `json:"name"`
	Protocol string         `json:"protocol"`
	Said     string         `json:"said"`
	Took     time.Duration  `json:"took_ns"`
}

// marks are the errors that are known by what they are.
func marks() map[string]error {
	return map[string]error{
		"deadline": context.DeadlineExceeded, "canceled": context.Canceled, "eof": io.EOF, "unexpected-eof": io.ErrUnexpectedEOF,
		"ENETUNREACH": syscall.ENETUNREACH, "EHOSTUNREACH": syscall.EHOSTUNREACH, "EADDRNOTAVAIL": syscall.EADDRNOTAVAIL,
		"ECONNREFUSED": syscall.ECONNREFUSED, "ECONNRESET": syscall.ECONNRESET, "no-roots": fetch.ErrNoRoots,
	}
}

const badCertificate = "certificate"

// troubles are the words for those of the DNS.
func troubles() map[dns.Trouble]string {
	return map[dns.Trouble]string{
		0: "", dns.NoNetwork: "no-network", dns.WorkLimit: "work-limit", dns.NoReply: "no-reply", dns.ServerFailed: "server-failed",
		dns.Lame: "lame", dns.BrokenDelegation: "broken-delegation", dns.Bogus: "bogus", dns.Malformed: "malformed",
	}
}

func faultOf(err error) *fault {
	if err == nil {
		return nil
	}
	f := &fault{Text: err.Error(), Is: []string{}}
	for word, mark := range marks() {
		if errors.Is(err, mark) {
			f.Is = append(f.Is, word)
		}
	}
	slices.Sort(f.Is)
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		f.Is = append(f.Is, badCertificate)
	}
	var late interface{ Timeout() bool }
	f.Timeout = errors.As(err, &late) && late.Timeout()
	var de *dns.Error
	if errors.As(err, &de) {
		f.DNS = troubleOf(de)
	}
	return f
}

func troubleOf(e *dns.Error) *trouble {
	t := &trouble{Question: questionOf(e.Question), Trouble: troubles()[e.Trouble], Extended: e.Extended, Detail: e.Detail, Attempts: []attempt{}, Packets: e.Packets, Cause: faultOf(e.Err)}
	for _, a := range e.Attempts {
		t.Attempts = append(t.Attempts, attempt(a))
	}
	return t
}

// err gives an error that is judged as the one that was taken down; nil of nil.
func (f *fault) err() (error, error) {
	if f == nil {
		return nil, nil
	}
	out := told{text: f.Text, timeout: f.Timeout}
	for _, word := range f.Is {
		switch mark := marks()[word]; {
		case mark != nil:
			out.causes = append(out.causes, mark)
		case word == badCertificate:
			out.causes = append(out.causes, &tls.CertificateVerificationError{Err: errors.New(f.Text)})
		}
	}
	if f.DNS == nil {
		return out, nil
	}
	de, err := f.DNS.err()
	if err != nil {
		return nil, err
	}
	if de.Error() == f.Text {
		return de, nil // which has the causes itself
	}
	out.causes = append(out.causes, de)
	return out, nil
}

func (t *trouble) err() (*dns.Error, error) {
	q, wrong := t.Question.question()
	cause, err := t.Cause.err()
	if wrong != nil || err != nil {
		return nil, errors.Join(wrong, err)
	}
	e := &dns.Error{Question: q, Extended: t.Extended, Detail: t.Detail, Packets: t.Packets, Err: cause}
	for known, word := range troubles() {
		if word == t.Trouble {
			e.Trouble = known
		}
	}
	for _, a := range t.Attempts {
		e.Attempts = append(e.Attempts, dns.Attempt(a))
	}
	return e, nil
}

// told is an error of which somebody has told us.
type told struct {
	text    string
	timeout bool
	causes  []error
}

func (e told) Error() string   { return e.text }
func (e told) Timeout() bool   { return e.timeout }
func (e told) Unwrap() []error { return e.causes }
