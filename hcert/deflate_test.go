package hcert

import (
	"bytes"
	"compress/zlib"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryLengthAndDistanceOfAMatch(t *testing.T) {
	for length := minMatch; length <= maxMatch; length++ {
		for _, gap := range []int{0, 1, 2, 3, 4, 7, 8, 100, 1000, 3000} {
			// A phrase, noise that repeats nothing, the phrase again.
			random := rand.New(rand.NewPCG(uint64(length), uint64(gap)))
			var data []byte
			for range length + gap {
				data = append(data, byte(random.Uint32()))
			}
			data = append(data, data[:length]...)
			roundTrip(t, data)
		}
	}
	for distance := 1; distance <= maxShort-300; distance++ {
		data := make([]byte, distance+20)
		for i := range distance {
			data[i] = byte(i * 7 >> 3 * 31)
		}
		copy(data[distance:], data)
		roundTrip(t, data)
	}
}

func roundTrip(t *testing.T, data []byte) {
	t.Helper()
	out, err := deflate([]byte("before"), data)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(out, []byte("before")) {
		t.Fatal("what was before is gone")
	}
	back, err := Inflate(out[6:], Limits{})
	if err != nil || !bytes.Equal(back, data) {
		t.Fatalf("%d bytes do not come back: %v", len(data), err)
	}
}

func TestShortAndLongMessages(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 4, 258, 259, 260, 517, maxShort - 1, maxShort, maxShort + 1, 60000} {
		roundTrip(t, make([]byte, n))
		roundTrip(t, bytes.Repeat([]byte("abc"), n/3))
		random := rand.New(rand.NewPCG(1, uint64(n)))
		noise := make([]byte, n)
		for i := range noise {
			noise[i] = byte(random.Uint32())
		}
		roundTrip(t, noise)
	}
}

// TestSizeOfPublicSamples compares our messages with zlib at its best over all
// public samples: codes must not grow for the sake of speed.
func TestSizeOfPublicSamples(t *testing.T) {
	ours, best := 0, 0
	err := filepath.WalkDir("../../shared/data/dcc", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".json") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var v struct{ COSE string }
		if err := json.Unmarshal(data, &v); err != nil {
			return err
		}
		msg, err := hex.DecodeString(v.COSE)
		if err != nil {
			return err
		}
		out, err := deflate(nil, msg)
		if err != nil {
			return err
		}
		ours += len(out)
		var buf bytes.Buffer
		z, err := zlib.NewWriterLevel(&buf, zlib.BestCompression)
		if err != nil {
			return err
		}
		if _, err := z.Write(msg); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		best += buf.Len()
		return nil
	})
	if err != nil {
		t.Skipf("public test data is not beside the repository: %v", err)
	}
	t.Logf("ours %d bytes, zlib %d", ours, best)
	if ours > best+best/50 {
		t.Errorf("got %d bytes, zlib makes %d", ours, best)
	}
}

func FuzzDeflate(f *testing.F) {
	f.Add([]byte("abcabcabcabd"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 60000 {
			return
		}
		roundTrip(t, data)
	})
}
