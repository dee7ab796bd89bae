package scan

import "hash/maphash"

// The limits of what is known of names that were seen; ours.
const (
	MaxSeen   = 10_000_000 // names; later ones are looked at even if they come twice
	seenParts = 256        // that grow one by one
	seenFirst = 16         // places in each at first
)

// Seen knows names again: for each it keeps 64 bits of its hash and the line where it first
// stood, 12 octets in tables that are at least two thirds full, so at most 18 octets a name and
// 180 MB at MaxSeen. That two names of ten million are taken for the same has a chance of one
// in 300,000. The zero value is ready.
type Seen struct {
	seed  maphash.Seed
	names int
	parts [seenParts]seenPart
}

// seenPart is an open table. A place with line 0 is free.
type seenPart struct {
	hashes []uint64
	lines  []uint32
	used   int
}

// Add gives the line where the name stood first, if it was added before; otherwise it adds it.
func (s *Seen) Add(name string, line int) (first int, known bool) {
	if s.names == 0 {
		s.seed = maphash.MakeSeed()
	}
	hash := maphash.String(s.seed, name)
	part := &s.parts[hash%seenParts]
	at, known := part.find(hash)
	switch {
	case known:
		return int(part.lines[at]), true
	case s.names >= MaxSeen || int(uint32(line)) != line:
		return 0, false
	}
	if (part.used+1)*20 > len(part.hashes)*17 {
		part.grow()
		at, _ = part.find(hash)
	}
	part.hashes[at], part.lines[at] = hash, uint32(line)
	part.used++
	s.names++
	return 0, false
}

// find gives the place of a hash, or a free one for it.
func (p *seenPart) find(hash uint64) (at int, known bool) {
	if len(p.hashes) == 0 {
		return 0, false
	}
	for at = int((hash >> 8) % uint64(len(p.hashes))); ; at = (at + 1) % len(p.hashes) {
		switch {
		case p.lines[at] == 0:
			return at, false
		case p.hashes[at] == hash:
			return at, true
		}
	}
}

// grow makes a quarter more places.
func (p *seenPart) grow() {
	old := *p
	n := max(seenFirst, len(old.hashes)+len(old.hashes)/4)
	p.hashes, p.lines = make([]uint64, n), make([]uint32, n)
	for i, line := range old.lines {
		if line != 0 {
			at, _ := p.find(old.hashes[i])
			p.hashes[at], p.lines[at] = old.hashes[i], line
		}
	}
}

// octets gives what the tables take.
func (s *Seen) octets() int {
	n := 0
	for _, p := range s.parts {
		n += 12 * len(p.hashes)
	}
	return n
}
