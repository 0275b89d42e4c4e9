// Package conformance runs the public tests of CertLogic and of business rules
// through package certlogic.
//
// Two formats are read, each recognised by what a file holds: the test suites
// of the CertLogic specification, for evaluation (cases with assertions) and
// for validation (cases with issues); and the EU's rules with tests
// (dgc-business-rules-testdata): a rule, and in its directory or one below it
// tests of a payload, external data and what is expected. Other JSON files are
// left out. What a suite marks to be skipped is run and reported, and counts as
// skipped.
package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"verdant/certlogic"
)

// maxFile bounds a file.
const maxFile = certlogic.MaxData

// file is a JSON object in a directory, with its members.
type file struct {
	name string // relative to the directory, with slashes
	err  error
	has  map[string]json.RawMessage
}

// read returns the JSON files below dir in the order of their paths. The error
// is about the directory, never about a file in it.
func read(dir string) ([]file, error) {
	var files []file
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() || !strings.EqualFold(filepath.Ext(path), ".json") {
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		f := file{name: filepath.ToSlash(rel)}
		f.has, f.err = readObject(path)
		files = append(files, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read tests: %w", err)
	}
	return files, nil
}

// readObject reads a file's object; JSON of another kind has no members.
func readObject(path string) (map[string]json.RawMessage, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("larger than %d bytes", maxFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if trimmed := bytes.TrimSpace(data); len(trimmed) == 0 || trimmed[0] != '{' {
		return nil, nil
	}
	var has map[string]json.RawMessage
	if err := json.Unmarshal(data, &has); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	return has, nil
}

// agrees compares what came out with what is expected. A date-time is compared
// in its JSON form, for JSON has no other.
func agrees(got certlogic.Value, expected json.RawMessage) (bool, error) {
	want, err := certlogic.FromJSON(expected)
	if err != nil {
		return false, fmt.Errorf("what is expected: %w", err)
	}
	if got.Kind() == certlogic.DateTime {
		return got.String() == want.String(), nil
	}
	return got.Equal(want), nil
}
