package probe

import (
	"errors"
	"fmt"
	"time"

	"mxward/internal/dns"
	"mxward/internal/mailauth/mtasts"
	"mxward/internal/mailauth/tlsa"
)

// STS is what MTA-STS demands of a host, and whether the session met it (RFC 8461 §5).
type STS struct {
	State   string      `json:"state"` // "policy", "none", "unusable" or "unknown"
	Mode    mtasts.Mode `json:"mode"`
	Matches bool        `json:"matches"` // the policy names the host
	// Satisfied: a sender that heeds the policy delivers to the host.
	Satisfied bool   `json:"satisfied"`
	Why       string `json:"why"` // in words, where it is not, or where nobody can tell
}

// DemandSTS compares a session with the domain's policy.
func DemandSTS(survey *mtasts.Survey, s Session, at time.Time) STS {
	err := survey.RecordErr
	if err == nil {
		err = survey.PolicyErr
	}
	switch {
	case errors.Is(err, mtasts.ErrNone):
		return STS{State: "none", Satisfied: true}
	case errors.Is(err, mtasts.ErrPermanent):
		return STS{State: "unusable", Satisfied: true, Why: err.Error()}
	case err != nil:
		return STS{State: "unknown", Why: err.Error()}
	}
	policy := survey.Fetched.Policy
	d := STS{State: "policy", Mode: policy.Mode, Matches: policy.Matches(s.Host)}
	switch {
	case policy.Mode == mtasts.None:
		d.Satisfied = true
	case !d.Matches:
		d.Why = "the policy does not name the host"
	case s.TLS == nil:
		d.Why = "there was no TLS: " + s.without()
	default:
		if err := s.TLS.PKIX(s.Host, at); err != nil {
			d.Why = "the certificate: " + err.Error()
		}
	}
	d.Satisfied = d.Why == ""
	return d
}

// String says it in a line.
func (d STS) String() string {
	switch {
	case d.State == "none":
		return "MTA-STS: no policy"
	case d.State != "policy":
		return fmt.Sprintf("MTA-STS: %s: %s", d.State, d.Why)
	case d.Mode == mtasts.None:
		return "MTA-STS (none): the policy is taken back"
	case d.Satisfied:
		return fmt.Sprintf("MTA-STS (%s): the policy names the host, and its certificate is valid", d.Mode)
	}
	return fmt.Sprintf("MTA-STS (%s): not met: %s", d.Mode, d.Why)
}

// DANE is what the TLSA records of a host demand, and whether the session met it (RFC 7672).
type DANE struct {
	State     tlsa.State `json:"state"` // "unvalidated" where another resolver was asked
	Duty      tlsa.Duty  `json:"duty"`
	Records   []string   `json:"records"`
	Satisfied bool       `json:"satisfied"` // a sender that heeds them delivers to the host
	Why       string     `json:"why"`
}

// Unvalidated is the state where the resolver's word on validation is not believed.
const Unvalidated tlsa.State = "unvalidated"

// DemandDANE compares a session with the TLSA records of its host. Names are those of Match
// beside the base of the records.
func DemandDANE(r tlsa.Result, s Session, at time.Time, names ...dns.Name) DANE {
	d := DANE{State: r.State, Duty: r.Duty(), Records: []string{}}
	for _, record := range r.Records {
		d.Records = append(d.Records, record.String())
	}
	switch {
	case d.Duty == tlsa.Opportunistic:
	case d.Duty == tlsa.Delay:
		d.Why = r.Err.Error()
	case s.TLS == nil:
		d.Why = "there was no TLS: " + s.without()
	case d.Duty == tlsa.Authenticate:
		if err := s.TLS.DANE(r.Records, at, append([]dns.Name{r.Base}, names...)...); err != nil {
			d.Why = err.Error()
		}
	}
	d.Satisfied = d.Why == ""
	return d
}

// String says it in a line.
func (d DANE) String() string {
	switch {
	case d.State == Unvalidated:
		return "DANE: not known: " + d.Why
	case d.Duty == tlsa.Opportunistic:
		return "DANE: no demand: " + string(d.State)
	case d.Satisfied && d.Duty == tlsa.Encrypt:
		return fmt.Sprintf("DANE: none of %d TLSA records can be used, so any certificate will do", len(d.Records))
	case d.Satisfied:
		return fmt.Sprintf("DANE: one of %d TLSA records means the certificate", len(d.Records))
	}
	return "DANE: not met: " + d.Why
}

// without says why there was no TLS.
func (s Session) without() string {
	if fault := s.TLSFault(); fault != "" {
		return fault
	}
	if s.Listens() {
		return "the host does not offer it"
	}
	return s.Because()
}

// Because says where the session ended, and why, in words.
func (s Session) Because() string {
	end := s.End()
	if end.Error != "" {
		return fmt.Sprintf("%s: %s", end.Stage, end.Error)
	}
	return fmt.Sprintf("%s: the host says %s", end.Stage, end.Reply())
}
