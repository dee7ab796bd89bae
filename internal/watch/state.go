package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"mxward/internal/audit"
	"mxward/internal/dns"
	"mxward/internal/durable"
)

// Schema names the document in which the state is kept; within a number, fields are only added.
const Schema = "mxward.watch/1"

// The limits of the state; ours. MaxState is in octets: a thousand domains with dozens of problems
// each.
const (
	MaxState   = 64 << 20
	maxUnsent  = 1000 // changes that wait to be sent
	maxDetail  = 400  // octets of a detail that is kept
	forgetTime = 30 * 24 * time.Hour
)

// ErrState is the class of errors about a state that cannot be read as one.
var ErrState = errors.New("it is no state of a watch")

// Store keeps the state: the old or the new one is there, whole, whatever happens meanwhile. Load
// gives nothing where nothing was kept.
type Store interface {
	Load(ctx context.Context) ([]byte, error)
	Save(ctx context.Context, text []byte) error
}

// state is all that the watch knows.
type state struct {
	Schema  string             `json:"schema"`
	Holder  string             `json:"holder"` // the gate that watches; "" where there is one process, or none watches
	Until   time.Time          `json:"until"`  // until then without a sign of life
	Domains map[string]*domain `json:"domains"`
	Unsent  []Change           `json:"unsent"`      // what nobody was told by mail, the oldest first
	More    int                `json:"unsent_more"` // beyond maxUnsent; they stand in the log
}

// domain is what is known of one domain.
type domain struct {
	Looked   time.Time `json:"looked"`
	Problems []problem `json:"problems"` // that were told
	Worse    []problem `json:"worse"`    // seen once: they are new, or worse than in Problems
	Better   []problem `json:"better"`   // of Problems: seen once to be gone or milder
	Clocks   []clock   `json:"clocks"`

	soon bool // the last look has seen something for the first time
}

// problem is what is kept of a finding that failed.
type problem struct {
	ID       string         `json:"id"`
	Target   string         `json:"target"`
	Severity audit.Severity `json:"severity"`
	Blame    audit.Blame    `json:"blame"`
	Title    string         `json:"title"`
	Detail   string         `json:"detail"`
}

// Turn is what became of a thing.
type Turn string

// The turns.
const (
	Worse   Turn = "worse"   // a problem is new, or worse than it was
	Better  Turn = "better"  // it is gone, or milder
	Ends    Turn = "ends"    // something ends soon
	Renewed Turn = "renewed" // and does not any more
)

// Turns gives all of them.
func Turns() []Turn { return []Turn{Worse, Ends, Better, Renewed} }

// Change is one thing to tell.
type Change struct {
	When     time.Time      `json:"when"`
	Domain   dns.Name       `json:"domain"`
	Turn     Turn           `json:"change"`
	ID       string         `json:"id"` // of a check, or "clock." and the kind of a clock
	Target   string         `json:"target"`
	Severity audit.Severity `json:"severity"` // of what is gone: what it was
	Blame    audit.Blame    `json:"blame"`
	Title    string         `json:"title"`
	Detail   string         `json:"detail"`
	Fix      string         `json:"fix"` // in words, then a line for each record
}

func newState() *state { return &state{Schema: Schema, Domains: map[string]*domain{}} }

func readState(text []byte) (*state, error) {
	s := newState()
	if len(text) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%w: expected JSON of the schema %s, and it is none, or cut off", ErrState, Schema)
	}
	if s.Schema != Schema {
		return nil, fmt.Errorf("%w: expected the schema %s, got %q", ErrState, Schema, s.Schema[:min(len(s.Schema), 40)])
	}
	if s.Domains == nil {
		s.Domains = map[string]*domain{}
	}
	return s, nil
}

// text writes the state; an empty list is [].
func (s *state) text() ([]byte, error) {
	list := func(l *[]problem) {
		if *l == nil {
			*l = []problem{}
		}
	}
	for name := range s.Domains {
		d := s.Domains[name]
		if d == nil {
			delete(s.Domains, name)
			continue
		}
		list(&d.Problems)
		list(&d.Worse)
		list(&d.Better)
		if d.Clocks == nil {
			d.Clocks = []clock{}
		}
	}
	if s.Unsent == nil {
		s.Unsent = []Change{}
	}
	text, err := json.Marshal(s)
	if err == nil && len(text) > MaxState {
		err = fmt.Errorf("it has %d octets, and %d are the most", len(text), MaxState)
	}
	if err != nil {
		return nil, fmt.Errorf("write the state of the watch: %w", err)
	}
	return text, nil
}

// domain gives what is known of a domain.
func (s *state) domain(name dns.Name) *domain {
	d := s.Domains[name.String()]
	if d == nil {
		d = &domain{}
		s.Domains[name.String()] = d
	}
	return d
}

// forget forgets the domains that are not watched any more.
func (s *state) forget(watched []dns.Name) {
	for name := range s.Domains {
		if !slices.ContainsFunc(watched, func(d dns.Name) bool { return d.String() == name }) {
			delete(s.Domains, name)
		}
	}
}

// keep keeps changes until they are sent, where somebody wants them.
func (s *state) keep(changes []Change, wanted bool) {
	if !wanted {
		s.Unsent, s.More = nil, 0
		return
	}
	room := min(len(changes), max(0, maxUnsent-len(s.Unsent)))
	s.Unsent = append(s.Unsent, changes[:room]...)
	s.More += len(changes) - room
}

// File is a Store in a file.
type File string

// Load implements Store.
func (f File) Load(context.Context) ([]byte, error) {
	in, err := os.Open(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the state of the watch: %w", err)
	}
	defer in.Close()
	text, err := io.ReadAll(io.LimitReader(in, MaxState+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the state of the watch: %w", err)
	case len(text) > MaxState:
		return nil, fmt.Errorf("%w: it has more than %d octets", ErrState, MaxState)
	case len(text) == 0: // as after a crash of a system that does not keep its promises
		return nil, fmt.Errorf("%w: it is empty", ErrState)
	}
	return text, nil
}

// Save implements Store.
func (f File) Save(_ context.Context, text []byte) error {
	if err := durable.WriteFile(f.real(), 0o600, text); err != nil {
		return fmt.Errorf("write the state of the watch: %w", err)
	}
	return nil
}

// real gives the file's own name where f is a symlink: the link stays, and is no second state.
func (f File) real() string {
	if real, err := filepath.EvalSymlinks(string(f)); err == nil {
		return real
	}
	return string(f)
}

// Lock keeps the file for this process until it ends or unlock is called. The lock is a file
// beside it, which stays: the state itself is another file after each write.
func (f File) Lock() (unlock func(), err error) {
	lock, err := os.OpenFile(f.real()+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the state of the watch: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: another mxward watch is at work with it; stop that, or choose another file", f)
		}
		return nil, fmt.Errorf("lock the state of the watch in %s: %w", lock.Name(), err)
	}
	return func() { lock.Close() }, nil
}
