package revocation

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var now = time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)

// hashes makes hashes that look like SHA-256 and are the same at every call:
// AES of a counter. Different seeds share none.
type hashes struct{ c cipher.Block }

func newHashes(seed byte) hashes {
	c, err := aes.NewCipher(append(make([]byte, 15), seed))
	if err != nil {
		panic(err)
	}
	return hashes{c}
}

func (h hashes) at(i uint64) (out Hash) {
	binary.LittleEndian.PutUint64(out[:], i)
	h.c.Encrypt(out[:], out[:])
	return out
}

// build makes a list of n revoked certificates.
func build(t testing.TB, n uint64) (*List, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "revoked")
	b, err := NewBuilder(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	h := newHashes(1)
	for i := uint64(0); i < n; i += MaxEntries {
		batch := &Batch{ID: fmt.Sprintf("%036d", i), Country: "IE", Expires: now.AddDate(1, 0, 0), KID: UnknownKID, Type: UCI}
		for j := i; j < min(i+MaxEntries, n); j++ {
			batch.Entries = append(batch.Entries, h.at(j))
		}
		if err := b.Add(batch); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Finish(); err != nil {
		t.Fatal(err)
	}
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, path
}

// TestEveryRevokedHashIsFoundAndNoOther at sizes around every border of the format.
func TestEveryRevokedHashIsFoundAndNoOther(t *testing.T) {
	for _, n := range []uint64{0, 1, 2, 113, 114, 203, 204, 205, 1000, 4096, 100_000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			l, _ := build(t, n)
			if got := l.Len(); got != int(n) {
				t.Errorf("Len is %d, want %d", got, n)
			}
			revoked, others := newHashes(1), newHashes(2)
			step := max(1, n/5000)
			for i := uint64(0); i < n; i += step {
				var got []Revocation
				if err := l.Each(revoked.at(i), func(r Revocation) bool { got = append(got, r); return true }); err != nil {
					t.Fatal(err)
				}
				want := Revocation{BatchID: fmt.Sprintf("%036d", i/MaxEntries*MaxEntries), Country: "IE", Type: UCI, Expires: now.AddDate(1, 0, 0)}
				if len(got) != 1 || got[0].BatchID != want.BatchID || got[0].Country != "IE" || !got[0].Expires.Equal(want.Expires) {
					t.Fatalf("hash %d: got %v, want %v", i, got, want)
				}
			}
			for i := range uint64(20_000) {
				if err := l.Each(others.at(i), func(r Revocation) bool { t.Errorf("%v was not revoked, got %v", i, r); return false }); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// sip is SipHash-c-d as its paper has it.
func sip(k sipKey, h Hash, c, d int) uint64 {
	v0, v1, v2, v3 := k.start()
	for _, m := range []uint64{binary.LittleEndian.Uint64(h[:]), binary.LittleEndian.Uint64(h[8:]), uint64(len(h)) << 56} {
		v3 ^= m
		for range c {
			v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		}
		v0 ^= m
	}
	v2 ^= 0xff
	for range d {
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	}
	return v0 ^ v1 ^ v2 ^ v3
}

// TestSipHash checks the rounds by the authors' vector, which is of
// SipHash-2-4, and what is written out by the rounds.
func TestSipHash(t *testing.T) {
	var raw [16]byte
	var in Hash
	for i := range raw {
		raw[i], in[i] = byte(i), byte(i)
	}
	key := newSipKey(raw)
	if got, want := sip(key, in, 2, 4), uint64(0x3f2acc7f57c29bdb); got != want {
		t.Errorf("SipHash-2-4: got %#x, want %#x", got, want)
	}
	if got, want := key.of(&in), sip(key, in, 1, 3); got != want {
		t.Errorf("SipHash-1-3: got %#x, want %#x", got, want)
	}
}

func TestTheFilterLetsFewThroughInFewBits(t *testing.T) {
	const n, probes = 200_000, 2_000_000
	l, _ := build(t, n)
	if bits := float64(8*l.Memory()) / n; bits > 20 {
		t.Errorf("%.2f bits an entry, want at most 20", bits)
	}
	others, through := newHashes(2), 0
	for i := range uint64(probes) {
		if l.Maybe(others.at(i)) {
			through++
		}
	}
	// 27 are expected; the hashes are fixed but the list's key is not, and 31
	// (2⁻¹⁶) plus six deviations is what chance never reaches.
	if through > 31+6*6 {
		t.Errorf("the filter let %d of %d through, want about %d", through, probes, probes>>16)
	}
}

func TestTheSameHashInSeveralBatches(t *testing.T) {
	path := filepath.Join(t.TempDir(), "revoked")
	b, err := NewBuilder(path)
	if err != nil {
		t.Fatal(err)
	}
	h := newHashes(1).at(7)
	for _, in := range []Batch{
		{ID: "ends first", Country: "IE", KID: UnknownKID, Type: UCI, Expires: now.Add(time.Hour)},
		{ID: "ends last", Country: "IE", KID: UnknownKID, Type: UCI, Expires: now.Add(3 * time.Hour)},
		{ID: "between", Country: "IE", KID: UnknownKID, Type: UCI, Expires: now.Add(2 * time.Hour)},
		{ID: "other type", Country: "IE", KID: UnknownKID, Type: Signature, Expires: now.Add(time.Hour)},
		{ID: "other country", Country: "DE", KID: UnknownKID, Type: UCI, Expires: now.Add(time.Hour)},
		{ID: "one signer", Country: "IE", KID: "AAAAAAAAAAA=", Type: UCI, Expires: now.Add(time.Hour)},
	} {
		in.Entries = []Hash{h, h}
		if err := b.Add(&in); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Finish(); err != nil {
		t.Fatal(err)
	}
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := map[string]bool{}
	if err := l.Each(h, func(r Revocation) bool { got[r.BatchID] = true; return true }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 || !got["ends last"] || !got["other type"] || !got["other country"] || !got["one signer"] {
		t.Errorf("got %v, want the last of the first three and each of the others", got)
	}
}

func TestABuildThatFailsLeavesTheOldListAndNothingElse(t *testing.T) {
	_, path := build(t, 10)
	b, err := NewBuilder(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Add(&Batch{Country: "IE"}); err == nil {
		t.Error("a batch without entries was taken")
	}
	if err := b.scratch.Close(); err != nil { // as a disk that went away
		t.Fatal(err)
	}
	h := newHashes(3)
	for i := uint64(0); err == nil && i < 1_000_000; i += MaxEntries {
		in := &Batch{Country: "IE", Expires: now, KID: UnknownKID, Type: UCI}
		for j := range uint64(MaxEntries) {
			in.Entries = append(in.Entries, h.at(i+j))
		}
		err = b.Add(in)
	}
	if err == nil {
		t.Error("entries went to a closed file without an error")
	}
	if err := b.Finish(); err == nil {
		t.Error("a list was made of what was lost")
	}
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Len() != 10 {
		t.Errorf("the list has %d entries, want the 10 of before", l.Len())
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
		t.Errorf("%v beside the list (%v)", names, err)
	}
}

// TestDamageIsAnErrorAndNeverAnAnswer flips single bits all over the file.
func TestDamageIsAnErrorAndNeverAnAnswer(t *testing.T) {
	_, path := build(t, 1000)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	revoked := newHashes(1)
	random := rand.New(rand.NewPCG(1, 2))
	bad := filepath.Join(t.TempDir(), "bad")
	for range 300 {
		at := random.IntN(len(good))
		damaged := append([]byte{}, good...)
		damaged[at] ^= 1 << random.IntN(8)
		if err := os.WriteFile(bad, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(bad)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("bit in byte %d: %v", at, err)
			}
			continue
		}
		for i := range uint64(1000) {
			found := false
			err := l.Each(revoked.at(i), func(Revocation) bool { found = true; return false })
			if err != nil && !errors.Is(err, ErrDamaged) || err == nil && !found {
				t.Fatalf("bit in byte %d: hash %d was found: %v, error %v", at, i, found, err)
			}
		}
		l.Close()
	}
	for _, cut := range []int{0, 1, 100, headerSize, len(good) - 1} {
		if err := os.WriteFile(bad, good[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(bad); !errors.Is(err, ErrDamaged) {
			t.Errorf("a file cut at %d: %v", cut, err)
		}
	}
}

func readAll(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// forge writes a list whose counts and body are changed, with checksums that
// fit, and returns its path.
func forge(t testing.TB, good, head, tail []byte) string {
	t.Helper()
	raw := append([]byte{}, good...)
	h, err := parseHeader([headerSize]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	at := int(h.bodyOffset())
	copy(raw[at:], tail)
	h.bodySum = sha256.Sum256(raw[at:])
	counts := []*uint64{&h.entries, &h.shards, &h.slots, &h.batches}
	for i, b := range head {
		*counts[i%4] += uint64(int64(int8(b)))
	}
	encoded := h.encode()
	copy(raw, encoded[:])
	path := filepath.Join(t.TempDir(), "forged")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
