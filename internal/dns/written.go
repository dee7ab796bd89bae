package dns

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	wire "github.com/miekg/dns"
)

// packedMark begins a record that is written as its bytes; no name begins so in master-file
// format, where it is escaped.
const packedMark = "@wire "

// WriteRecord gives a record as a text that ReadRecord reads: one line of a master file, such as
// people read, where that says all of it, else its bytes.
func WriteRecord(rr RR) (string, error) {
	packed, err := pack(rr)
	if err != nil {
		return "", fmt.Errorf("write %s: %w", Type(rr.Header().Rrtype), err)
	}
	text := rr.String()
	if again, err := readLine(text); err == nil {
		if same, err := pack(again); err == nil && bytes.Equal(same, packed) {
			return text, nil
		}
	}
	return packedMark + base64.StdEncoding.EncodeToString(packed), nil
}

// ReadRecord reads what WriteRecord has written.
func ReadRecord(text string) (RR, error) {
	coded, ok := strings.CutPrefix(text, packedMark)
	if !ok {
		return readLine(text)
	}
	packed, err := base64.StdEncoding.DecodeString(coded)
	if err != nil {
		return nil, fmt.Errorf("not the bytes of a record: %w", err)
	}
	rr, end, err := wire.UnpackRR(packed, 0)
	switch {
	case err != nil:
		return nil, fmt.Errorf("not the bytes of a record: %w", err)
	case bare(rr):
		return nil, errors.New("not the bytes of a record: it has no data")
	case end != len(packed):
		return nil, errors.New("not the bytes of a record: there are more of them")
	}
	return rr, nil
}

func readLine(text string) (RR, error) {
	if strings.ContainsAny(text, "\n\r") || strings.HasPrefix(text, "$") || strings.HasPrefix(text, " ") {
		return nil, fmt.Errorf("not a record: %.80q", text)
	}
	parser := wire.NewZoneParser(strings.NewReader(text+"\n"), ".", "")
	rr, ok := parser.Next()
	if err := parser.Err(); err != nil || !ok || bare(rr) {
		return nil, fmt.Errorf("not a record: %.80q", text)
	}
	return rr, nil
}

// bare reports a record without the data that its type must have: the library takes it for one.
func bare(rr RR) bool {
	const owner, ttl, class, typ = 1, 1, 1, 1
	return rr.Header().Rrtype != wire.TypeAPL && len(strings.Fields(rr.String())) <= owner+ttl+class+typ
}

func pack(rr RR) ([]byte, error) {
	buf := make([]byte, wire.Len(rr)+1) // a TXT record without a text has an empty one
	n, err := wire.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}
