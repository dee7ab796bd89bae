package scan

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"mxward/internal/durable"

	"golang.org/x/sys/unix"
)

// JournalSchema is that of the file beside an output, which says of what it is the output.
const JournalSchema = "mxward.scan-journal/1"

// journalHead is that file.
type journalHead struct {
	Schema string   `json:"schema"`
	Input  Identity `json:"input"`
	Mode   string   `json:"mode"` // the options that decide what a line says
}

// maxResult is how long a line of an output may be to be read again; ours. A line of all
// checks with all evidence has some 100 KiB.
const (
	maxResult = 64 << 20
	maxLines  = 1<<31 - 1 // of an input, that a journal knows: 256 MB of bits
)

// Journal is an output file that knows which lines it has.
type Journal struct {
	*os.File
	done lines
}

// headFile is where an output's head is.
func headFile(path string) string { return path + ".journal" }

// Create makes a new output file, and its head beside it. It overwrites nothing, but for the head
// of an output that is gone.
func Create(path string, id Identity, mode string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%s exists: go on with --resume, or give another name", path)
	}
	if err != nil {
		return nil, err
	}
	if err := lock(f, path); err != nil { // somebody goes on with it already, and it is theirs
		return nil, errors.Join(err, f.Close())
	}
	if err := begin(path, journalHead{JournalSchema, id, mode}); err != nil {
		return nil, errors.Join(err, os.Remove(path), f.Close())
	}
	return &Journal{File: f}, nil
}

// begin says of what an output is that has nothing yet.
func begin(path string, head journalHead) error {
	if err := vacant(headFile(path)); err != nil {
		return err
	}
	return writeHead(path, head)
}

// vacant refuses to write over what is no journal of a scan.
func vacant(file string) error {
	_, err := readHead(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case errors.Is(err, errNoJournal):
		return fmt.Errorf("%s is there, where the journal goes, and is none of a scan: move it away, or give the output another name", file)
	}
	return err
}

// lock keeps a second scan from writing into the same output.
func lock(f *os.File, path string) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%s: another scan writes to it; wait for that, or stop it", path)
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", path, err)
	}
	return nil
}

// writeHead writes it whole, or not at all.
func writeHead(path string, head journalHead) error {
	text, err := json.Marshal(head)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(headFile(path), 0o644, append(text, '\n')); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}

var errNoJournal = errors.New("it is no journal of a scan")

func readHead(file string) (journalHead, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return journalHead{}, err
	}
	var head journalHead
	if err := json.Unmarshal(text, &head); err != nil || head.Schema != JournalSchema {
		return head, fmt.Errorf("%s: %w", file, errNoJournal)
	}
	return head, nil
}

// Resume opens an output to go on with it: what it has is counted in tally, and a last line
// that is torn is cut off. It refuses where the input or the mode is not the one of before.
func Resume(path string, id Identity, mode string, tally *Tally) (*Journal, error) {
	head, err := readHead(headFile(path))
	if errors.Is(err, os.ErrNotExist) {
		return resumeNothing(path, journalHead{JournalSchema, id, mode})
	}
	switch {
	case errors.Is(err, errNoJournal):
		return nil, fmt.Errorf("%w, and so nobody can say of which input %s is: give the output another name", err, path)
	case err != nil:
		return nil, err
	case !head.Input.Same(id):
		return nil, fmt.Errorf("the input is not the one that %s was begun with: its size or its beginning differs", path)
	case head.Mode != mode:
		return nil, fmt.Errorf("%s was begun with other options: %s, now %s", path, head.Mode, mode)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := lock(f, path); err != nil {
		f.Close()
		return nil, err
	}
	j := &Journal{File: f}
	if err := j.load(tally); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return j, nil
}

// resumeNothing begins an output that has no head. It may be there, empty: a scan may have been
// killed between the two.
func resumeNothing(path string, head journalHead) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return Create(path, head.Input, head.Mode)
	}
	if err != nil {
		return nil, err
	}
	if err = lock(f, path); err == nil { // before it is looked at: who had it may have written
		err = beginEmpty(f, path, head)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Journal{File: f}, nil
}

func beginEmpty(f *os.File, path string, head journalHead) error {
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case info.Size() > 0 || !info.Mode().IsRegular():
		return fmt.Errorf("%s was not begun by a scan, or %s is lost: nobody can say of which input it is", path, headFile(path))
	}
	return begin(path, head)
}

// load reads what is there, and leaves the file to be written after it.
func (j *Journal) load(tally *Tally) error {
	in := bufio.NewReaderSize(j.File, 1<<20)
	var end int64
	for n := 1; ; n++ {
		line, err := readResult(in)
		if errors.Is(err, io.EOF) {
			break // what came without its end is torn
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if bytes.IndexByte(line, 0) >= 0 {
			break // a crash of the machine: what comes from here on was not yet stored
		}
		var b brief
		err = json.Unmarshal(line, &b) // a summary does not fit, but for its schema
		if b.Schema == SummarySchema {
			break // of a run that had ended; the next end has another
		}
		if err != nil || b.Line <= 0 || b.Line > maxLines {
			return fmt.Errorf("line %d is no result of a scan", n)
		}
		end += int64(len(line))
		if j.done.has(b.Line) {
			return fmt.Errorf("line %d: the result of input line %d stands there twice", n, b.Line)
		}
		j.done.add(b.Line)
		tally.count(b, true)
	}
	if err := j.Truncate(end); err != nil {
		return err
	}
	_, err := j.Seek(end, io.SeekStart)
	return err
}

// readResult reads one line with its end.
func readResult(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && len(line) < maxResult:
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("it has more than %d octets", maxResult)
		default:
			return line, err
		}
	}
}

// Done reports whether the result of an input line is there.
func (j *Journal) Done(line int) bool { return j.done.has(line) }

// lines is a set of line numbers: a bit each.
type lines []uint64

func (l lines) has(n int) bool { return n/64 < len(l) && l[n/64]>>(n%64)&1 != 0 }

func (l *lines) add(n int) {
	for n/64 >= len(*l) {
		*l = append(*l, make([]uint64, 1+len(*l))...)
	}
	(*l)[n/64] |= 1 << (n % 64)
}
