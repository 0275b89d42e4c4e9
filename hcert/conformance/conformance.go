// Package conformance runs certificates in the EU's test-data format through
// package hcert and reports what happened at each step.
//
// A vector is one JSON file (dgc-testdata, README): the certificate at every
// stage of its encoding, the test context (document signer certificate, clock)
// and the expected results. A flag that is absent is not tested, true means
// that the step must succeed, false that it must fail. Run evaluates every
// flag of the format, expected or not.
//
// Each step reads the stage that the format names for it if the file has it,
// else what the chain from PREFIX produced. Files are judged by their content
// only.
package conformance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// The flags of the format.
const (
	ValidObject      = "EXPECTEDVALIDOBJECT"      // JSON satisfies the schema
	Encode           = "EXPECTEDENCODE"           // JSON becomes CBOR that reads back the same
	PictureDecode    = "EXPECTEDPICTUREDECODE"    // 2DCODE reads as PREFIX
	Unprefix         = "EXPECTEDUNPREFIX"         // PREFIX is HC1: and BASE45
	Base45Decode     = "EXPECTEDB45DECODE"        // BASE45 decodes to COMPRESSED
	Compression      = "EXPECTEDCOMPRESSION"      // COMPRESSED inflates to COSE
	Verify           = "EXPECTEDVERIFY"           // COSE is signed by CERTIFICATE
	Decode           = "EXPECTEDDECODE"           // the payload equals JSON
	ValidJSON        = "EXPECTEDVALIDJSON"        // the chain from PREFIX ends in JSON
	SchemaValidation = "EXPECTEDSCHEMAVALIDATION" // the payload satisfies the schema
	ExpirationCheck  = "EXPECTEDEXPIRATIONCHECK"  // valid at VALIDATIONCLOCK
	KeyUsage         = "EXPECTEDKEYUSAGE"         // CERTIFICATE may sign this type
)

// Flags lists every flag in the order of the chain.
func Flags() []string {
	return []string{ValidObject, Encode, PictureDecode, Unprefix, Base45Decode, Compression,
		Verify, Decode, ValidJSON, SchemaValidation, ExpirationCheck, KeyUsage}
}

// Result is the outcome of one file.
type Result struct {
	// File is the path relative to the directory, with slashes.
	File string `json:"file"`
	// Steps tells for every flag whether its step succeeded. A flag that the
	// file misspells is there under its right and its misspelt name.
	Steps map[string]bool `json:"steps"`
	// Error is empty if every expectation was met, else says which was not and
	// why, or why the file could not be read.
	Error string `json:"error"`
	// Expected holds the file's expectations under their right names.
	Expected map[string]bool `json:"-"`
	// Why tells for each step that failed the reason.
	Why map[string]string `json:"-"`
}

// Passed reports whether every expectation was met.
func (r *Result) Passed() bool { return r.Error == "" }

// maxFile bounds a vector; the largest holds a picture of some 100 kB.
const maxFile = 8 << 20

// Run evaluates every vector below dir, in the order of their paths. JSON
// files that are no vectors (neither TESTCTX nor EXPECTEDRESULTS) are left
// out. The error is about the directory, never about a file in it.
func Run(dir string) ([]Result, error) {
	var results []Result
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
		rel = filepath.ToSlash(rel)
		data, err := readFile(path)
		if err != nil {
			results = append(results, Result{File: rel, Steps: noSteps(), Error: err.Error()})
			return nil
		}
		if r, ok := Evaluate(rel, data); ok {
			results = append(results, r)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read test vectors: %w", err)
	}
	return results, nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("larger than %d bytes", maxFile)
	}
	return os.ReadFile(path)
}

func noSteps() map[string]bool {
	m := make(map[string]bool)
	for _, f := range Flags() {
		m[f] = false
	}
	return m
}

// Evaluate evaluates one vector; ok is false if data is JSON but no vector.
func Evaluate(name string, data []byte) (r Result, ok bool) {
	r = Result{File: name, Steps: noSteps(), Why: map[string]string{}, Expected: map[string]bool{}}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	var v vector
	if err := json.Unmarshal(data, &v); err != nil {
		r.Error = "not a test vector: " + err.Error()
		return r, true
	}
	if v.Context == nil && v.Results == nil {
		return r, false
	}
	var complaints []string
	misspelt := map[string]string{}
	for name, raw := range v.Results {
		if string(raw) == "null" {
			continue // not tested
		}
		want, err := asBool(raw)
		if err != nil {
			complaints = append(complaints, name+" is neither true nor false")
			continue
		}
		flag := rightName(name)
		if flag == "" {
			complaints = append(complaints, name+" is no flag of the format")
			continue
		}
		if flag != name {
			misspelt[name] = flag
		}
		r.Expected[flag] = want
	}
	run := newRun(&v)
	for _, flag := range Flags() {
		err := run.step(flag)
		r.Steps[flag] = err == nil
		if err != nil {
			r.Why[flag] = err.Error()
		}
		if want, expected := r.Expected[flag]; expected && want != (err == nil) {
			if want {
				complaints = append(complaints, flag+" should succeed: "+err.Error())
			} else {
				complaints = append(complaints, flag+" should fail but succeeds")
			}
		}
	}
	for name, flag := range misspelt {
		r.Steps[name] = r.Steps[flag]
	}
	sort.Strings(complaints)
	r.Error = strings.Join(complaints, "; ")
	return r, true
}

func asBool(raw json.RawMessage) (bool, error) {
	var b bool
	if json.Unmarshal(raw, &b) == nil {
		return b, nil
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		switch strings.ToLower(strings.TrimSpace(s)) {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
	}
	return false, errors.New("neither true nor false")
}

// rightName finds the flag that a name means: names in circulation miss,
// double or swap letters, and some say EXPIRED for the expiration check. It
// returns "" if no flag is near or two are equally near.
func rightName(name string) string {
	known := map[string]string{"EXPECTEDEXPIRED": ExpirationCheck, "EXPECTEDEXPIRATION": ExpirationCheck,
		"EXPECTEDBASE45DECODE": Base45Decode, "EXPECTEDSCHEMA": SchemaValidation}
	for _, f := range Flags() {
		known[f] = f
	}
	name = strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToUpper(name))
	best, bestDistance, tie := "", 4, false
	for spelling, flag := range known {
		switch d := distance(name, spelling); {
		case d < bestDistance:
			best, bestDistance, tie = flag, d, false
		case d == bestDistance && flag != best:
			tie = true
		}
	}
	if tie {
		return ""
	}
	return best
}

// distance counts the letters to insert, delete or replace.
func distance(a, b string) int {
	if len(a) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next := min(row[j]+1, row[j-1]+1, diagonal+cost)
			diagonal, row[j] = row[j], next
		}
	}
	return row[len(b)]
}
