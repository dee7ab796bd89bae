package resolver

import (
	"bytes"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"mxward/internal/dns"
)

// maxNameOctets is RFC 1035 §2.3.4's.
const maxNameOctets = 255

// A shard has at least so many bytes, so that a small cache is not cut into pieces that
// hold next to nothing.
const (
	shardBytes = 1 << 20
	maxShards  = 64
)

// What an entry costs beside its bytes: itself and its share of a map that is between half
// and 7/8 full, and the skeleton of a piece.
const (
	entryBytes = int(unsafe.Sizeof(entry{})) + 32
	pieceBytes = int(unsafe.Sizeof(piece{})) + 8
)

// cache holds pieces, delegations, failures and whole answers up to a number and a size.
// It is cut into shards with a lock each, and a shard throws out by SIEVE: what was not
// asked for since the hand passed last. Records are kept packed, which is a third of their
// size as structures, gives the collector nothing to follow, and is what goes out again.
// limit makes it ready.
type cache struct {
	seed   maphash.Seed
	base   time.Time // times are kept as nanoseconds since then
	shards []shard
	barred func(ask) bool // what is not to be kept; may be nil
}

type shard struct {
	mu         sync.Mutex
	m          map[uint64]*entry
	newest     *entry
	oldest     *entry
	hand       *entry
	bytes      int
	maxEntries int
	maxBytes   int
	hits       atomic.Uint64 // answers from AppendAnswer
	_          [32]byte
}

// entry is immutable but for the links and marks, which the shard's lock protects.
type entry struct {
	hash         uint64
	newer, older *entry
	hot          atomic.Pointer[hotAnswer]
	value        any    // *piece without name and records, *delegation, *failure or *chain
	data         []byte // the name as on the wire, in lower case, and the records
	key          entryKey
	expires      int64
	bytes        int

	answers, authority uint16 // records in data
	nameLen            uint8
	visited            bool          // since the hand passed
	renewAt            atomic.Int64  // not renewed before
	hits               atomic.Uint32 // since it came
}

// entryKey is a cacheKey without the name.
type entryKey struct {
	typ    dns.Type
	kind   cacheKind
	dnssec bool

	unchecked bool
}

func (c *cache) limit(entries, bytes int) {
	if entries <= 0 {
		entries = defaultCacheEntries
	}
	if bytes <= 0 {
		bytes = defaultCacheBytes
	}
	n := 1
	for n < maxShards && bytes/(2*n) >= shardBytes && entries/(2*n) >= 1000 {
		n *= 2
	}
	c.seed, c.base = maphash.MakeSeed(), time.Now()
	c.shards = make([]shard, n)
	for i := range c.shards {
		c.shards[i].maxEntries, c.shards[i].maxBytes = entries/n, bytes/n
	}
}

// since gives a time as entries keep it.
func (c *cache) since(t time.Time) int64 { return int64(t.Sub(c.base)) }

// hash mixes the name's hash with the rest of the key.
func (c *cache) hash(name []byte, k entryKey) uint64 { return k.mix(maphash.Bytes(c.seed, name)) }

func (k entryKey) mix(name uint64) uint64 {
	h := name ^ uint64(k.typ)<<16 ^ uint64(k.kind)<<8
	if k.dnssec {
		h ^= 1
	}
	if k.unchecked {
		h ^= 2
	}
	h *= 0x9e3779b97f4a7c15 // 2^64 over the golden ratio: spreads the bits of the type
	return h ^ h>>32
}

func (c *cache) shard(hash uint64) *shard { return &c.shards[hash>>40%uint64(len(c.shards))] }

// lookup finds an entry, expired or not, by its name on the wire in lower case. The name is
// compared, not just its hash: two names must never share an answer.
func (c *cache) lookup(name []byte, key cacheKey) *entry {
	return c.lookupHashed(name, maphash.Bytes(c.seed, name), key)
}

// lookupHashed is lookup with the name's hash, for who looks up one name more than once.
func (c *cache) lookupHashed(name []byte, hashed uint64, key cacheKey) *entry {
	k := entryKey{key.typ, key.kind, key.dnssec, key.unchecked}
	hash := k.mix(hashed)
	s := c.shard(hash)
	s.mu.Lock()
	e := s.m[hash]
	if e != nil && e.key == k && bytes.Equal(e.name(), name) {
		e.visited = true
	} else {
		e = nil
	}
	s.mu.Unlock()
	if e != nil && e.hits.Load() < renewHits {
		e.hits.Add(1)
	}
	return e
}

func (e *entry) name() []byte { return e.data[:e.nameLen] }

// body gives the records as they stand in a message whose question has the entry's name.
func (e *entry) body() []byte { return e.data[e.nameLen:] }

// store puts an entry in place of whatever has its key.
func (c *cache) store(key cacheKey, e *entry, body []byte, expires time.Time, bytes int) {
	var buf [maxNameOctets]byte
	name := key.name.AppendWire(buf[:0])
	e.data = make([]byte, 0, len(name)+len(body))
	e.data = append(append(e.data, name...), body...)
	e.nameLen = uint8(len(name))
	e.key = entryKey{key.typ, key.kind, key.dnssec, key.unchecked}
	e.expires = c.since(expires)
	e.bytes = bytes + entryBytes + roundedUp(len(e.data))
	e.hash = c.hash(name, e.key)
	c.shard(e.hash).insert(e)
}

// roundedUp is about what the allocator makes of a size.
func roundedUp(n int) int {
	switch {
	case n <= 128:
		return (n + 15) &^ 15
	case n <= 1024:
		return n + n/16
	}
	return n + n/8
}

func (s *shard) insert(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[uint64]*entry{}
	}
	if old := s.m[e.hash]; old != nil {
		s.remove(old)
	}
	s.m[e.hash] = e
	s.bytes += e.bytes
	if e.older = s.newest; e.older != nil {
		e.older.newer = e
	} else {
		s.oldest = e
	}
	s.newest = e
	s.shrink()
}

// shrink brings the shard back below its bounds.
func (s *shard) shrink() {
	for len(s.m) > 0 && (s.bytes > s.maxBytes || len(s.m) > s.maxEntries) {
		s.evict()
	}
}

// evict throws one entry out by SIEVE: the hand walks from old to new, forgives once what
// was asked for, and takes the first that was not. What came last is spared as long as
// there is anything else.
func (s *shard) evict() {
	e := s.hand
	for range 2*len(s.m) + 1 {
		if e == nil {
			e = s.oldest
		}
		if !e.visited && (e != s.newest || len(s.m) == 1) {
			break
		}
		e.visited = false
		e = e.newer
	}
	if e == nil {
		e = s.oldest
	}
	s.hand = e.newer
	s.remove(e)
}

// remove takes an entry out. The lock is held.
func (s *shard) remove(e *entry) {
	if s.hand == e {
		s.hand = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		s.newest = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		s.oldest = e.newer
	}
	e.newer, e.older = nil, nil
	delete(s.m, e.hash)
	s.bytes -= e.bytes
}

// grow accounts for what an entry has come to hold, unless it has gone meanwhile.
func (c *cache) grow(e *entry, bytes int) {
	s := c.shard(e.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[e.hash] == e {
		e.bytes += bytes
		s.bytes += bytes
		s.shrink()
	}
}

func (c *cache) drop(key cacheKey) {
	var buf [maxNameOctets]byte
	name := key.name.AppendWire(buf[:0])
	if e := c.lookup(name, key); e != nil {
		c.dropEntry(e)
	}
}

func (c *cache) dropEntry(e *entry) {
	s := c.shard(e.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[e.hash] == e {
		s.remove(e)
	}
}

// flush drops everything at name and below it, and every alias chain, since each may lead
// there: they are made again from their links.
func (c *cache) flush(name dns.Name) {
	suffix := name.AppendWire(nil)
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for e := s.newest; e != nil; {
			older := e.older
			if e.key.kind == kindChain || below(e.name(), suffix) {
				s.remove(e)
			}
			e = older
		}
		s.mu.Unlock()
	}
}

// below reports whether a name ends in another, label by label.
func below(name, suffix []byte) bool {
	for len(name) >= len(suffix) {
		if len(name) == len(suffix) {
			return bytes.Equal(name, suffix)
		}
		name = name[1+int(name[0]):]
	}
	return false
}

// total gives the number of entries and what they cost.
func (c *cache) total() (entries, bytes int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		entries += len(s.m)
		bytes += s.bytes
		s.mu.Unlock()
	}
	return entries, bytes
}

// wired counts the answers of AppendAnswer.
func (c *cache) wired() uint64 {
	var n uint64
	for i := range c.shards {
		n += c.shards[i].hits.Load()
	}
	return n
}
