package tape

import (
	"errors"
	"fmt"
	"time"

	"mxward/internal/dns"
)

// question is a dns.Question.
type question struct {
	Name             dns.Name `json:"name"`
	Type             string   `json:"type"`
	DNSSEC           bool     `json:"dnssec"`
	CheckingDisabled bool     `json:"cd"`
}

func questionOf(q dns.Question) question {
	return question{q.Name, q.Type.String(), q.DNSSEC, q.CheckingDisabled}
}

func (q question) question() (dns.Question, error) {
	t, ok := dns.ParseType(q.Type)
	if !ok {
		return dns.Question{}, fmt.Errorf("there is no type %.40q", q.Type)
	}
	return dns.Question{Name: q.Name, Type: t, DNSSEC: q.DNSSEC, CheckingDisabled: q.CheckingDisabled}, nil
}

// said is a dns.Said. Of a resolver's answer nothing is said behind Additional.
type said struct {
	Rcode      dns.Rcode     `json:"rcode"`
	AA         bool          `json:"aa"`
	AD         bool          `json:"ad"`
	Extended   uint16        `json:"extended"`
	Packets    int           `json:"packets"`
	Answer     []string      `json:"answer"`
	Authority  []string      `json:"authority"`
	Additional []string      `json:"additional"`
	RA         bool          `json:"ra"`
	TC         bool          `json:"tc"`
	EDNS       bool          `json:"edns"`
	Size       int           `json:"size"`
	Took       time.Duration `json:"took_ns"`
}

func saidOf(s dns.Said) (*said, error) {
	out := &said{
		Rcode: s.Rcode, AA: s.Authoritative, AD: s.Authentic, Extended: s.Extended, Packets: s.Packets,
		RA: s.Recursion, TC: s.Truncated, EDNS: s.EDNS, Size: s.Size, Took: s.Took,
	}
	var wrong [3]error
	out.Answer, wrong[0] = write(s.Answer.Answer)
	out.Authority, wrong[1] = write(s.Authority)
	out.Additional, wrong[2] = write(s.Additional)
	return out, errors.Join(wrong[:]...)
}

func (s *said) said() (dns.Said, error) {
	out := dns.Said{
		Answer:    dns.Answer{Rcode: s.Rcode, Authoritative: s.AA, Authentic: s.AD, Extended: s.Extended, Packets: s.Packets},
		Recursion: s.RA, Truncated: s.TC, EDNS: s.EDNS, Size: s.Size, Took: s.Took,
	}
	var wrong [3]error
	out.Answer.Answer, wrong[0] = read(s.Answer)
	out.Authority, wrong[1] = read(s.Authority)
	out.Additional, wrong[2] = read(s.Additional)
	return out, errors.Join(wrong[:]...)
}

func write(section []dns.RR) ([]string, error) {
	texts := []string{}
	for _, rr := range section {
		text, err := dns.WriteRecord(rr)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	return texts, nil
}

func read(texts []string) ([]dns.RR, error) {
	var section []dns.RR
	for _, text := range texts {
		rr, err := dns.ReadRecord(text)
		if err != nil {
			return nil, err
		}
		section = append(section, rr)
	}
	return section, nil
}
