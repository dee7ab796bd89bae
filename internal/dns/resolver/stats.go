package resolver

import (
	"errors"
	"sync/atomic"
	"time"

	"mxward/internal/dns"
)

// Stats counts since the start.
type Stats struct {
	Questions  uint64 // asked of Resolve, and those that the cache answered on the wire
	Hits       uint64 // names found in the cache, those that a question needed among them
	Packets    uint64 // sent upstream, TCP questions included
	Strays     uint64 // datagrams dropped: wrong ID, wrong question, unreadable
	NearMisses uint64 // of the strays, those that somebody who guesses might send
	TCP        uint64 // questions to one server that went on over TCP
	Failures   uint64 // questions without an answer
	Stale      uint64 // questions answered with what had expired
	Renewals   uint64 // of popular names, before they expire
	Rebinds    uint64 // answers that led into a private network
	Denied     uint64 // names and types that a known denial answered (RFC 8198)
	Panics     uint64 // faults of ours that were caught

	Replies uint64            // that came from servers
	RTT     time.Duration     // that they took, all together
	Within  [rttBounds]uint64 // of the replies, those that took no longer than the bound of RTTBounds

	// By kind, without those at zero. Those answered on the wire are not in Types and
	// Answers.
	Types    map[dns.Type]uint64    // questions; under 0 the types beyond the usual
	Answers  map[dns.Rcode]uint64   // questions that got one; under NoError those without data as well
	Troubles map[dns.Trouble]uint64 // questions that got none
	Limits   map[string]uint64      // limits of work that were reached
	Bogus    map[uint16]uint64      // questions that failed validation, by extended error (RFC 8914)
}

// limit is a bound on work, by the name that the counter has.
type limit int

const (
	limitNone limit = iota
	limitPackets
	limitBytes
	limitNamePackets
	limitReferrals
	limitAliases
	limitNSLookups
	limitNSMissing
	limitDepth
	limitRecords
	limitWaiters
	limitInFlight
	limitStrays
	limitTime
	limitMinimisation
	limitValidation
	limits // their number
)

var limitNames = [limits]string{
	limitPackets:      "packets",
	limitBytes:        "bytes",
	limitNamePackets:  "name_packets",
	limitReferrals:    "referrals",
	limitAliases:      "aliases",
	limitNSLookups:    "ns_lookups",
	limitNSMissing:    "ns_missing",
	limitDepth:        "depth",
	limitRecords:      "records_in_set",
	limitWaiters:      "waiters",
	limitInFlight:     "in_flight",
	limitStrays:       "strays",
	limitTime:         "time",
	limitMinimisation: "minimisation",
	limitValidation:   "validation",
}

// How far types and codes are counted one by one: everything in use lies below.
const (
	countedTypes    = 261 // TLSA is 52, ANY 255, CAA 257
	countedRcodes   = 24
	countedTroubles = int(dns.Malformed) + 1
	countedExtended = 32 // extended errors; 27 is an unsupported NSEC3 iteration count
)

// rttBounds is the number of bounds that times of replies are counted by.
const rttBounds = 10

// RTTBounds gives the bounds of Stats.Within, the least first: from a server next door to
// one that is too slow for mail; a packet is given up after 1.5 s, a TCP exchange after 3.
func RTTBounds() [rttBounds]time.Duration {
	const ms = time.Millisecond
	return [...]time.Duration{1 * ms, 5 * ms, 10 * ms, 25 * ms, 50 * ms, 100 * ms, 250 * ms, 500 * ms, 1000 * ms, 2500 * ms}
}

type counters struct {
	hits, packets, strays, nearMisses, tcp, stale, renewals, rebinds, panics, denied atomic.Uint64

	replies  [rttBounds + 1]atomic.Uint64 // by the first bound that they kept; the last kept none
	rtt      atomic.Uint64                // nanoseconds
	types    [countedTypes]atomic.Uint64
	rcodes   [countedRcodes]atomic.Uint64
	troubles [countedTroubles]atomic.Uint64 // under 0: the asker's context ended first
	limits   [limits]atomic.Uint64
	bogus    [countedExtended]atomic.Uint64
}

// done counts a question that has come to its end.
func (c *counters) done(typ dns.Type, rcode dns.Rcode, err error) {
	if typ >= countedTypes {
		typ = 0
	}
	c.types[typ].Add(1)
	if err != nil {
		c.troubles[dns.TroubleOf(err)].Add(1)
		var e *dns.Error
		if errors.As(err, &e) && e.Trouble == dns.Bogus {
			c.bogus[min(e.Extended, countedExtended-1)].Add(1)
		}
		return
	}
	c.rcodes[min(rcode, countedRcodes-1)].Add(1)
}

// replied counts a reply's time.
func (c *counters) replied(took time.Duration) {
	bucket := 0
	for bounds := RTTBounds(); bucket < rttBounds && took > bounds[bucket]; {
		bucket++
	}
	c.replies[bucket].Add(1)
	c.rtt.Add(uint64(max(0, took)))
}

// Stats gives the counts so far.
func (r *Resolver) Stats() Stats {
	c := &r.counts
	wired := r.cache.wired()
	s := Stats{
		Questions: wired, Hits: c.hits.Load() + wired, Packets: c.packets.Load(),
		Strays: c.strays.Load(), NearMisses: c.nearMisses.Load(), TCP: c.tcp.Load(),
		Stale: c.stale.Load(), Renewals: c.renewals.Load(), Rebinds: c.rebinds.Load(), Denied: c.denied.Load(), Panics: c.panics.Load(),
		RTT:   time.Duration(c.rtt.Load()),
		Types: tally[dns.Type](c.types[:]), Answers: tally[dns.Rcode](c.rcodes[:]),
		Troubles: tally[dns.Trouble](c.troubles[:]), Limits: map[string]uint64{}, Bogus: tally[uint16](c.bogus[:]),
	}
	for i := range c.replies {
		s.Replies += c.replies[i].Load()
		if i < rttBounds {
			s.Within[i] = s.Replies
		}
	}
	for _, n := range s.Types {
		s.Questions += n
	}
	delete(s.Troubles, 0)
	for _, n := range s.Troubles {
		s.Failures += n
	}
	for i := range c.limits {
		if n := c.limits[i].Load(); n > 0 {
			s.Limits[limitNames[i]] = n
		}
	}
	return s
}

func tally[K ~int | ~uint16](counts []atomic.Uint64) map[K]uint64 {
	m := map[K]uint64{}
	for i := range counts {
		if n := counts[i].Load(); n > 0 {
			m[K(i)] = n
		}
	}
	return m
}
