// Package dkim signs and verifies messages with DomainKeys Identified Mail (RFC 6376), with
// the algorithms and key sizes of RFC 8301 and RFC 8463 and internationalised domains by
// RFC 8616, and reads, prints, makes and criticises the key records.
//
// A message is read once, as a stream, in bounded memory, whatever its size and however
// many signatures it has. Its lines may end with CRLF or with LF alone: both mean a CRLF,
// which is what is hashed. A CR without LF is an octet like any other.
//
// Not implemented: rsa-sha1, which RFC 8301 §3.1 forbids; signatures that cover a part of
// the body (l=), which others can add to; the copied fields of z=, which are not looked at;
// key servers other than the DNS (q=). Author Domain Signing Practices are history.
package dkim

import (
	"errors"
	"fmt"
	"strings"
)

// The classes of errors about key records.
var (
	// ErrNotKey: the text is some other record, which may stand beside a key.
	ErrNotKey = errors.New("not a DKIM key record")
	// ErrPermanent: it is a key record, or should be one, and cannot be used.
	ErrPermanent = errors.New("unusable DKIM key")
	// ErrKeySize: the key is too small or too large to be trusted; ErrPermanent goes with it.
	ErrKeySize = errors.New("unacceptable size of a DKIM key")
	// ErrTemporary: it could not be asked for; a dns.Error goes with it.
	ErrTemporary = errors.New("the DKIM key could not be asked for")
)

// ErrTags is the class of the errors of ParseTags.
var ErrTags = errors.New("malformed tag list")

// maxTags bounds a tag list. The largest that a standard defines has 13 (RFC 6376 §3.5).
const maxTags = 64

// Tag is one tag of a list, "name=value". The white space around the value is gone, that
// within it is kept.
type Tag struct{ Name, Value string }

// Tags is a tag list (RFC 6376 §3.2) in its order. ARC uses the same (RFC 8617 §3.9).
type Tags []Tag

// ParseTags reads "a=b; c=d", folded or not. Names count in their own case and stand once.
// The error wraps ErrTags.
func ParseTags(s string) (Tags, error) {
	tags := make(Tags, 0, min(strings.Count(s, ";")+1, maxTags))
	for part := range strings.SplitSeq(s, ";") {
		part = trimSpace(part)
		if part == "" {
			if len(tags) == 0 {
				return nil, fmt.Errorf("%w: expected name=value, got nothing", ErrTags)
			}
			continue // the semicolon at the end; others are let pass, as everybody does
		}
		name, value, ok := strings.Cut(part, "=")
		name = trimSpace(name)
		if !ok || !isTagName(name) {
			return nil, fmt.Errorf("%w: expected name=value, got %q", ErrTags, excerpt(part))
		}
		if _, twice := tags.Get(name); twice {
			return nil, fmt.Errorf("%w: %s= stands twice", ErrTags, name)
		}
		if len(tags) == maxTags {
			return nil, fmt.Errorf("%w: more than %d tags", ErrTags, maxTags)
		}
		tags = append(tags, Tag{name, trimSpace(value)})
	}
	return tags, nil
}

// Get gives the value of a tag and whether the list has it.
func (t Tags) Get(name string) (string, bool) {
	for _, tag := range t {
		if tag.Name == name {
			return tag.Value, true
		}
	}
	return "", false
}

// Compact gives the value of a tag without any white space, as most are to be read; ""
// where the list has no such tag.
func (t Tags) Compact(name string) string {
	value, _ := t.Get(name)
	return withoutSpace(value)
}

// List gives the parts of a value that colons separate, without white space; nil where the
// list has no such tag.
func (t Tags) List(name string) []string {
	if _, ok := t.Get(name); !ok {
		return nil
	}
	return strings.Split(t.Compact(name), ":")
}

// isTagName: a letter, then letters, digits and underscores (RFC 6376 §3.2).
func isTagName(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || s[i] != '_' && (s[i] < '0' || s[i] > '9')) {
			return false
		}
	}
	return s != ""
}

// space is folding white space.
const space = " \t\r\n"

func trimSpace(s string) string { return strings.Trim(s, space) }

func withoutSpace(s string) string {
	if !strings.ContainsAny(s, space) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(space, r) {
			return -1
		}
		return r
	}, s)
}

// excerpt cuts what goes into an error.
func excerpt(s string) string {
	const most = 60
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
