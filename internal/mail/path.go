package mail

import (
	"errors"
	"fmt"
	"strings"
)

// ErrPath is the class of every error of ParsePath and ParseForwardPath.
var ErrPath = errors.New("not a mail path")

// ParsePath reads the reverse-path at the start of s, in its angle brackets, and gives what
// follows them: for MAIL, the parameters with the space before them. A source route is
// dropped (RFC 5321 §4.1.1.3, appendix C: it must be read and should be ignored). The error
// wraps ErrPath, and ErrAddress where the mailbox inside is at fault.
func ParsePath(s string) (Path, string, error) {
	inner, rest, err := cutPath(s)
	if err != nil {
		return Path{}, "", err
	}
	if inner == "" {
		return Path{}, rest, nil // RFC 5321 §4.5.5
	}
	a, err := parseRouted(inner)
	if err != nil {
		return Path{}, "", fmt.Errorf("%w: %w", ErrPath, err)
	}
	return Path{a}, rest, nil
}

// ParseForwardPath is ParsePath for RCPT: there is no null path, and "<postmaster>" needs
// no domain (RFC 5321 §4.5.1).
func ParseForwardPath(s string) (Address, string, error) {
	inner, rest, err := cutPath(s)
	if err != nil {
		return Address{}, "", err
	}
	if strings.EqualFold(inner, "postmaster") {
		return Address{Local: inner}, rest, nil
	}
	if inner == "" {
		return Address{}, "", fmt.Errorf("%w: the null path receives no mail", ErrPath)
	}
	a, err := parseRouted(inner)
	if err != nil {
		return Address{}, "", fmt.Errorf("%w: %w", ErrPath, err)
	}
	return a, rest, nil
}

// cutPath takes the angle brackets off the path at the start of s. A ">" inside a quoted
// local part does not end the path.
func cutPath(s string) (inner, rest string, err error) {
	if s == "" || s[0] != '<' {
		return "", "", fmt.Errorf("%w: it does not start with <", ErrPath)
	}
	quoted := false
	for i := 1; i < len(s) && i < maxPath; i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == '>' && !quoted:
			return s[1:i], s[i+1:], nil
		}
	}
	if len(s) >= maxPath {
		return "", "", fmt.Errorf("%w: longer than %d octets (RFC 5321 §4.5.3.1.3)", ErrPath, maxPath)
	}
	return "", "", fmt.Errorf("%w: there is no closing >", ErrPath)
}

// parseRouted reads a mailbox behind an optional source route, "@a.example,@b.example:".
func parseRouted(s string) (Address, error) {
	if s[0] != '@' {
		return ParseAddress(s)
	}
	route, mailbox, ok := strings.Cut(s, ":")
	if !ok {
		return Address{}, fmt.Errorf("%w: %q: there is no local part", ErrAddress, s)
	}
	for hop := range strings.SplitSeq(route, ",") {
		name, ok := strings.CutPrefix(hop, "@")
		if !ok {
			return Address{}, fmt.Errorf("%w: %q: the source route is malformed", ErrAddress, s)
		}
		if _, err := parseDomain(name); err != nil {
			return Address{}, fmt.Errorf("%w: %q: the source route is malformed: %w", ErrAddress, s, err)
		}
	}
	return ParseAddress(mailbox)
}
