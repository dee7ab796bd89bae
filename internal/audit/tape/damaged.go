package tape

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// damaged says of a line that was not written by us what is wrong with it, where the decoder would
// name its own parts.
func damaged(err error) error {
	const since = "the file was changed or damaged since mxward check --record wrote it"
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var clock *time.ParseError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("expected one object of JSON, which is broken at octet %d: %s", syntax.Offset, since)
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Errorf("expected an object, got a JSON %s: %s", kind.Value, since)
	case errors.As(err, &kind):
		return fmt.Errorf("%s cannot be a JSON %s: %s", kind.Field, kind.Value, since)
	case errors.As(err, &clock):
		return fmt.Errorf("expected a time such as 2027-01-31T12:00:00Z, got %.40q: %s", clock.Value, since)
	}
	return err
}
