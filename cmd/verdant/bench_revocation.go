package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"sync"
	"time"

	"verdant/trustlist/revocation"
)

// benchRevocation builds a revocation list of n entries in a temporary
// directory and asks it.
func benchRevocation(ctx context.Context, n uint64) (figures []figure, err error) {
	dir, err := os.MkdirTemp("", "verdant-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "revoked")
	peak, err := buildRevocations(ctx, path, n)
	if err != nil {
		return nil, err
	}
	runtime.GC()
	list, err := revocation.Open(path)
	if err != nil {
		return nil, err
	}
	defer list.Close()
	size := float64(list.Memory())
	name := fmt.Sprintf("revocations %dM", n/1_000_000)
	if n < 1_000_000 {
		name = fmt.Sprintf("revocations %d", n)
	}
	figures = []figure{
		cost(name+", bits an entry", 8*size/float64(n), "bit", "bound", 20),
		cost(name+", peak memory of the build", peak/(1<<20), "MiB", "twice the filter", 2*size/(1<<20)),
	}
	measured, err := askRevocations(ctx, list, n, name, int(size))
	return append(figures, measured...), err
}

// revokedHash gives each number a hash that looks like SHA-256.
type revokedHash struct{ block cipher.Block }

func newRevokedHash(seed byte) (revokedHash, error) {
	block, err := aes.NewCipher(append(make([]byte, 15), seed))
	return revokedHash{block}, err
}

func (r revokedHash) of(i uint64) (h revocation.Hash) {
	binary.LittleEndian.PutUint64(h[:], i)
	r.block.Encrypt(h[:], h[:])
	return h
}

// buildRevocations returns by how many bytes the heap grew at the most.
func buildRevocations(ctx context.Context, path string, n uint64) (peak float64, err error) {
	hashes, err := newRevokedHash(1)
	if err != nil {
		return 0, err
	}
	runtime.GC()
	stop := watchHeap(ctx)
	begun := time.Now()
	b, err := revocation.NewBuilder(path)
	if err != nil {
		return 0, err
	}
	defer b.Close()
	batch := &revocation.Batch{Country: "IE", Expires: begun.AddDate(1, 0, 0), KID: revocation.UnknownKID, Type: revocation.UCI,
		Entries: make([]revocation.Hash, 0, revocation.MaxEntries)}
	for i := uint64(0); i < n && ctx.Err() == nil; {
		batch.ID, batch.Entries = fmt.Sprintf("%036d", i), batch.Entries[:0]
		for ; i < n && len(batch.Entries) < revocation.MaxEntries; i++ {
			batch.Entries = append(batch.Entries, hashes.of(i))
		}
		if err := b.Add(batch); err != nil {
			return 0, err
		}
		if i%10_000_000 == 0 {
			fmt.Fprintf(os.Stderr, "  %d of %d million entries taken in\n", i/1_000_000, n/1_000_000)
		}
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := b.Finish(); err != nil {
		return 0, err
	}
	fmt.Fprintf(os.Stderr, "  a list of %d entries built in %.1f s\n", n, time.Since(begun).Seconds())
	return stop(), nil
}

// watchHeap samples the heap, garbage included, until stop is called, which
// returns by how much it grew at the most.
func watchHeap(ctx context.Context) (stop func() float64) {
	read := func() float64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return float64(s[0].Value.Uint64())
	}
	ctx, cancel := context.WithCancel(ctx)
	first := read()
	peak := first
	var wg sync.WaitGroup
	wg.Go(func() {
		for tick := time.NewTicker(2 * time.Millisecond); ; {
			select {
			case <-tick.C:
				peak = max(peak, read())
			case <-ctx.Done():
				tick.Stop()
				return
			}
		}
	})
	return func() float64 {
		cancel()
		wg.Wait()
		return peak - first
	}
}

// askRevocations measures look-ups on one core: of certificates that were not
// revoked, beside reads of random places in as much memory, each of which waits
// for the one before; and of ones that were, which read the file.
func askRevocations(ctx context.Context, list *revocation.List, n uint64, name string, size int) ([]figure, error) {
	const probes = 1 << 20
	const round = 1 << 16 // short, so that what else the machine does hits some rounds and not the median
	others, err := newRevokedHash(2)
	if err != nil {
		return nil, err
	}
	revoked, err := newRevokedHash(1)
	if err != nil {
		return nil, err
	}
	absent := make([]revocation.Hash, probes)
	present := make([]revocation.Hash, probes/16)
	for i := range absent {
		absent[i] = others.of(uint64(i))
	}
	for i := range present {
		present[i] = revoked.of(rand.Uint64N(n))
	}
	chain := newChain(size)
	var perLookup, perRead, perHit []float64
	found := 0
	count := func(revocation.Revocation) bool { found++; return false }
	for at := 0; at < probes; at += round {
		begun := time.Now()
		for _, h := range absent[at : at+round] {
			if err := list.Each(h, count); err != nil {
				return nil, err
			}
		}
		perLookup = append(perLookup, float64(time.Since(begun).Nanoseconds())/round)
		begun = time.Now()
		chain.walk(round)
		perRead = append(perRead, float64(time.Since(begun).Nanoseconds())/round)
		if found != 0 {
			return nil, fmt.Errorf("%d certificates that were never revoked were found", found)
		}
		begun = time.Now()
		for _, h := range present[at/16 : (at+round)/16] {
			if err := list.Each(h, count); err != nil {
				return nil, err
			}
		}
		perHit = append(perHit, float64(time.Since(begun).Nanoseconds())/(round/16))
		if found != round/16 {
			return nil, fmt.Errorf("%d of %d revoked certificates were found", found, round/16)
		}
		found = 0
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	through := 0
	trials := min(64*n, 1<<24)
	for i := range trials {
		if list.Maybe(others.of(i)) {
			through++
		}
	}
	return []figure{
		cost(name+", look-up of one not revoked", median(perLookup), "ns", "a random read of as much memory", median(perRead)),
		cost(name+", look-up of one not revoked", median(perLookup), "ns", "bound", 200),
		cost(name+", look-up of one revoked", median(perHit)/1000, "µs", "look-up of one not revoked", median(perLookup)/1000),
		cost(name+", let through to the file", float64(through)/float64(trials)*(1<<16), "2⁻¹⁶", "bound", 1),
	}, nil
}

// chain is memory in which every place says where to read next: one cycle
// through all cache lines in random order.
type chain []uint32

func newChain(size int) chain {
	const line = 16 // words
	lines := max(size/64, 2)
	c := make(chain, lines*line)
	order := rand.Perm(lines)
	for i, at := range order {
		c[at*line] = uint32(order[(i+1)%lines] * line)
	}
	return c
}

func (c chain) walk(steps int) uint32 {
	at := uint32(0)
	for range steps {
		at = c[at]
	}
	return at
}
