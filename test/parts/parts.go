// Package parts gives the tests the programs and libraries that they need and
// this module does not have: commands of the system, and the clients of other
// languages from their registries.
//
// It promises that a test skips with a clear message where a command is
// absent, and fails where VERDANT_REQUIRE_PARTS is set. Libraries go to the
// user's cache, once for each version of the file that names them, and never
// into the tree.
package parts

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Need skips the test, or fails it where parts are required, unless the
// system has all the commands.
func Need(t *testing.T, commands ...string) {
	t.Helper()
	for _, command := range commands {
		if _, err := exec.LookPath(command); err != nil {
			if os.Getenv("VERDANT_REQUIRE_PARTS") != "" {
				t.Fatalf("%s is not installed and VERDANT_REQUIRE_PARTS is set", command)
			}
			t.Skipf("%s is not installed", command)
		}
	}
}

// Install returns the directory with the libraries that the file manifest
// names, and fills it with the commands, run in it, where it is new.
func Install(t *testing.T, name, manifest string, commands func(dir string) [][]string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	dir := filepath.Join(cache, "verdant", name+"-"+hex.EncodeToString(sum[:6]))
	complete := filepath.Join(dir, "complete")
	if _, err := os.Stat(complete); err == nil {
		return dir
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, command := range commands(dir) {
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
		}
	}
	if err := os.WriteFile(complete, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Maven is the command that copies the libraries of a pom.xml, and what they
// need, into dir.
func Maven(pom, dir string) []string {
	return []string{"mvn", "--batch-mode", "--quiet", "-f", pom,
		"org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies", "-DoutputDirectory=" + dir}
}
