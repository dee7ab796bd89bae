package queue

import (
	"crypto/rand"
	"time"
)

// An ID is 9 digits of time and 11 of chance in base 32: 45 bits of milliseconds sort by
// age until the year 3084, and 55 random bits keep the IDs of one millisecond apart
// without asking anybody.
const (
	idDigits     = "0123456789abcdefghjkmnpqrstvwxyz"
	idTimeLength = 9
	idLength     = 20
)

// NewID makes an ID that nobody else has: IDs made later sort later, to the millisecond.
func NewID() ID {
	var b [idLength]byte
	rand.Read(b[idTimeLength:]) // never fails (crypto/rand)
	for i := idTimeLength; i < idLength; i++ {
		b[i] = idDigits[b[i]%32]
	}
	ms := uint64(time.Now().UnixMilli())
	for i := idTimeLength - 1; i >= 0; i-- {
		b[i] = idDigits[ms%32]
		ms /= 32
	}
	return ID(b[:])
}
