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
	if _, err := unpack(packed); err != nil {
		return "", fmt.Errorf("write %s: %w", Type(rr.Header().Rrtype), err)
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
	rr, err := unpack(packed)
	if err != nil {
		return nil, fmt.Errorf("not the bytes of a record: %w", err)
	}
	return rr, nil
}

// readLine gives the record as it would be if it had come in a packet.
func readLine(text string) (RR, error) {
	wrong := fmt.Errorf("not a record: %.80q", text)
	if strings.ContainsAny(text, "\n\r") || strings.HasPrefix(text, "$") || strings.HasPrefix(text, " ") {
		return nil, wrong
	}
	parser := wire.NewZoneParser(strings.NewReader(text+"\n"), ".", "")
	rr, ok := parser.Next()
	if parser.Err() != nil || !ok {
		return nil, wrong
	}
	packed, err := pack(rr)
	if err != nil {
		return nil, wrong
	}
	if rr, err = unpack(packed); err != nil {
		return nil, wrong
	}
	return rr, nil
}

// bare reports a record without the data that its type must have: the library takes it for one.
func bare(rr RR) bool {
	const owner, ttl, class, typ = 1, 1, 1, 1
	switch rr.Header().Rrtype {
	case wire.TypeAPL, wire.TypeNULL, wire.TypeOPT:
		return false
	}
	return len(strings.Fields(rr.String())) <= owner+ttl+class+typ
}

func pack(rr RR) ([]byte, error) {
	buf := make([]byte, wire.Len(rr)+1)                      // a TXT record without a text has an empty one
	n, err := wire.PackRR(wire.Copy(rr), buf, 0, nil, false) // it writes into the header, and others read the record
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

func unpack(packed []byte) (RR, error) {
	const least = 1 + 2 + 2 + 4 + 2 // the root, and no data; the library takes nothing for a record
	if len(packed) < least {
		return nil, errors.New("there are too few of them")
	}
	rr, end, err := wire.UnpackRR(packed, 0)
	switch {
	case err != nil:
		return nil, err
	case end != len(packed):
		return nil, errors.New("there are more of them")
	case bare(rr):
		return nil, errors.New("it has no data")
	}
	return rr, nil
}
