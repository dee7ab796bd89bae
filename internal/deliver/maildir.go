package deliver

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mxward/internal/durable"
	"mxward/internal/mail"
)

// A Maildir for each recipient, as D. J. Bernstein's description has it
// (https://cr.yp.to/proto/maildir.html):
//
//	ROOT/example.com/user/{tmp,new,cur}
//
// A message is written to tmp, synced, renamed into new, and new is synced: only then is
// it delivered. Lines end in LF. Files that a crash left in tmp are for the mail reader to
// remove, as that description says. Nothing makes folders below a recipient's.

const (
	maildirMode     = 0o700
	maildirFileMode = 0o600
	maxFolderName   = 200 // octets; file systems allow 255
	maildirBuffer   = 64 << 10
)

// maildir writes messages below a root.
type maildir struct {
	root     string
	hostname string
}

// deliver writes the message for one recipient.
func (m maildir) deliver(ctx context.Context, from mail.Path, to mail.Address, open func() io.ReadCloser) mail.Outcome {
	o := mail.Outcome{
		Recipient: to,
		Status:    mail.Delivered,
		Stage:     mail.StageDeliver,
		Reply:     mail.NewReply(250, 0, 0, "kept in a Maildir"),
	}
	if err := m.write(ctx, from, to, open); err != nil {
		o.Status, o.Reply = mail.Deferred, diskReply(err)
	}
	o.When = time.Now()
	return o
}

// diskReply: a disk's trouble is never the message's fault.
func diskReply(err error) mail.Reply {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return mail.NewReply(452, 3, 1, "no space: "+err.Error())
	}
	return mail.NewReply(451, 3, 0, err.Error())
}

func (m maildir) write(ctx context.Context, from mail.Path, to mail.Address, open func() io.ReadCloser) error {
	folder := filepath.Join(m.root, folderOf(to))
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := makeFolder(filepath.Join(folder, sub)); err != nil {
			return fmt.Errorf("make a maildir: %w", err)
		}
	}
	name := m.uniqueName(time.Now())
	tmp := filepath.Join(folder, "tmp", name)
	if err := writeFile(ctx, tmp, from, to, open); err != nil {
		os.Remove(tmp) // a failure here leaves what a crash would leave
		return fmt.Errorf("write to a maildir: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(folder, "new", name)); err != nil {
		os.Remove(tmp)
		return fmt.Errorf("write to a maildir: %w", err)
	}
	if err := durable.SyncFolder(filepath.Join(folder, "new")); err != nil {
		return fmt.Errorf("write to a maildir: %w", err)
	}
	return nil
}

// uniqueName: the time, then what tells apart the deliveries of a moment, then the host.
func (m maildir) uniqueName(now time.Time) string {
	var random [8]byte
	rand.Read(random[:]) // never fails
	host := strings.NewReplacer("/", `\057`, ":", `\072`).Replace(m.hostname)
	if host == "" {
		host = "localhost"
	}
	return fmt.Sprintf("%d.M%dP%dR%s.%s", now.Unix(), now.Nanosecond()/1000, os.Getpid(), hex.EncodeToString(random[:]), host)
}

func writeFile(ctx context.Context, path string, from mail.Path, to mail.Address, open func() io.ReadCloser) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, maildirFileMode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	body := open()
	defer body.Close()
	w := bufio.NewWriterSize(f, maildirBuffer)
	// RFC 5321 §4.4: the last hop puts the reverse-path in front.
	fmt.Fprintf(w, "Return-Path: <%s>\nDelivered-To: %s\n", oneLine(from.String()), oneLine(to.String()))
	if err := copyLF(ctx, w, body); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Sync()
}

// oneLine keeps an address that was not parsed from making headers of its own.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

// copyLF copies and turns CRLF into LF. A CR that no LF follows stays.
func copyLF(ctx context.Context, w *bufio.Writer, r io.Reader) error {
	in := bufio.NewReaderSize(r, maildirBuffer)
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		line, err := in.ReadSlice('\n')
		if n := len(line); n >= 2 && line[n-1] == '\n' && line[n-2] == '\r' {
			line[n-2] = '\n'
			line = line[:n-1]
		} else if errors.Is(err, bufio.ErrBufferFull) && line[n-1] == '\r' {
			// The LF may be the next octet: leave the CR for the next round.
			if uerr := in.UnreadByte(); uerr != nil {
				return uerr
			}
			line = line[:n-1]
		}
		if _, werr := w.Write(line); werr != nil {
			return werr
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// makeFolder makes a folder and those above it, and syncs each folder that got an entry:
// a message is not safe in a folder that a crash forgets.
func makeFolder(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	above := filepath.Dir(path)
	if above != path {
		if err := makeFolder(above); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, maildirMode); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return durable.SyncFolder(above)
}

// folderOf gives the recipient's folder, relative to the root and two deep: the domain,
// then the local part. ASCII letters of the local part are folded to lower case: RFC 5321
// §2.4 lets a host treat case as it likes, and people expect John and john to be one.
// Otherwise different recipients have different folders.
func folderOf(a mail.Address) string {
	return filepath.Join(folderName(a.Host()), folderName(a.Local))
}

// folderName gives a name that is safe in every file system: letters, digits and a few
// signs stand for themselves, all else is %xx. A dot in front is escaped, so there is no
// "..", no hidden folder and no Maildir++ subfolder. The empty name is "%", and one that
// would be too long is cut and ends in "%%" and its hash.
func folderName(s string) string {
	if s == "" {
		return "%"
	}
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', strings.IndexByte("-_+=", c) >= 0, c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	if b.Len() <= maxFolderName {
		return b.String()
	}
	sum := sha256.Sum256([]byte(b.String()))
	hash := "%%" + hex.EncodeToString(sum[:])
	return b.String()[:maxFolderName-len(hash)] + hash
}
