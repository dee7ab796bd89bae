package mail

import (
	"fmt"
	"strconv"
	"strings"
)

// EnhancedCode is an enhanced status code: class, subject, detail (RFC 3463). The zero
// value is none.
type EnhancedCode struct{ Class, Subject, Detail int }

// IsZero reports whether there is no code.
func (e EnhancedCode) IsZero() bool { return e == EnhancedCode{} }

// String gives "4.7.1", or "" for none.
func (e EnhancedCode) String() string {
	if e.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d.%d.%d", e.Class, e.Subject, e.Detail)
}

// ParseEnhancedCode reads "4.7.1": class 2, 4 or 5, subject and detail of at most three
// digits (RFC 3463 §2).
func ParseEnhancedCode(s string) (EnhancedCode, bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || len(parts[0]) != 1 || strings.IndexByte("245", parts[0][0]) < 0 {
		return EnhancedCode{}, false
	}
	var numbers [3]int
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil || len(part) > 3 {
			return EnhancedCode{}, false
		}
		numbers[i] = int(n)
	}
	return EnhancedCode{numbers[0], numbers[1], numbers[2]}, true
}

// Reply is an SMTP reply (RFC 5321 §4.2). Text may have several lines, parted by "\n",
// and does not repeat the codes.
type Reply struct {
	Code     int
	Enhanced EnhancedCode
	Text     string
}

// NewReply makes a reply whose enhanced code's class is that of the code:
// NewReply(451, 4, 3, …) is "451 4.4.3 …".
func NewReply(code, subject, detail int, text string) Reply {
	return Reply{code, EnhancedCode{code / 100, subject, detail}, text}
}

// Positive reports a 2yz reply.
func (r Reply) Positive() bool { return r.Code/100 == 2 }

// Intermediate reports a 3yz reply.
func (r Reply) Intermediate() bool { return r.Code/100 == 3 }

// Temporary reports a 4yz reply.
func (r Reply) Temporary() bool { return r.Code/100 == 4 }

// Permanent reports a 5yz reply.
func (r Reply) Permanent() bool { return r.Code/100 == 5 }

// String gives the reply in one line, as logs show it.
func (r Reply) String() string {
	parts := make([]string, 0, 3)
	if r.Code != 0 {
		parts = append(parts, strconv.Itoa(r.Code))
	}
	if !r.Enhanced.IsZero() {
		parts = append(parts, r.Enhanced.String())
	}
	if r.Text != "" {
		parts = append(parts, strings.ReplaceAll(r.Text, "\n", " / "))
	}
	return strings.Join(parts, " ")
}

// Status gives what a final reply to a recipient or a message means for it.
func (r Reply) Status() Status {
	switch r.Code / 100 {
	case 2:
		return Delivered
	case 5:
		return Failed
	}
	return Deferred
}
