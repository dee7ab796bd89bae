package dns

var troubleIDs = map[Trouble]string{
	NoNetwork:        "no-network",
	WorkLimit:        "work-limit",
	NoReply:          "no-reply",
	ServerFailed:     "server-failed",
	Lame:             "lame",
	BrokenDelegation: "broken-delegation",
	Bogus:            "bogus",
	Malformed:        "malformed",
}

// ID gives the word by which programs know the trouble, in JSON and in metrics. It never
// changes. An error that names no trouble, a cancelled context say, has "other".
func (t Trouble) ID() string {
	if id, ok := troubleIDs[t]; ok {
		return id
	}
	return "other"
}

// Codes of extended DNS errors (RFC 8914 §4) for troubles that have no closer one.
const (
	extendedOther       = 0
	extendedBogus       = 6
	extendedUnreachable = 22 // No Reachable Authority: silent, refusing or not to be found
	extendedNetwork     = 23 // Network Error: between us and another server
)

// ExtendedError gives the extended DNS error code for whoever asked: the error's own, or
// that of its trouble.
func (e *Error) ExtendedError() uint16 {
	if e.Extended != 0 {
		return e.Extended
	}
	switch e.Trouble {
	case NoNetwork, Malformed:
		return extendedNetwork
	case NoReply, ServerFailed, Lame, BrokenDelegation:
		return extendedUnreachable
	case Bogus:
		return extendedBogus
	}
	return extendedOther
}
