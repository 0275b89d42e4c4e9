package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestArchitectureNamesWhatIsThere holds ARCHITECTURE.md against the tree:
// every file and directory it names exists, and every function that follows a
// file's name is declared in that file.
func TestArchitectureNamesWhatIsThere(t *testing.T) {
	raw, err := os.ReadFile("../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(raw), "\n   ", " ")
	for _, name := range regexp.MustCompile("`([a-z0-9_/.]+)`").FindAllStringSubmatch(text, -1) {
		if !strings.Contains(name[1], "/") && !strings.HasSuffix(name[1], ".go") || strings.HasSuffix(name[1], "/...") {
			continue
		}
		if strings.HasPrefix(name[1], ".") || name[1] == "routes.go" {
			continue
		}
		if _, err := os.Stat(filepath.Join("..", name[1])); err != nil {
			t.Errorf("ARCHITECTURE.md names %s: %v", name[1], err)
		}
	}
	pairs := regexp.MustCompile("`([a-z0-9_/]+\\.go)`, `([^`]+)`( and `([^`]+)`)?").FindAllStringSubmatch(text, -1)
	if len(pairs) < 11 {
		t.Fatalf("only %d functions are named with their files", len(pairs))
	}
	for _, p := range pairs {
		code, err := os.ReadFile(filepath.Join("..", p[1]))
		if err != nil {
			continue // reported above
		}
		for _, function := range []string{p[2], p[4]} {
			if function == "" || strings.HasSuffix(function, ".go") {
				continue
			}
			name := function[strings.LastIndex(function, ".")+1:]
			if !regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + regexp.QuoteMeta(name) + `[\[(]`).Match(code) {
				t.Errorf("ARCHITECTURE.md: %s declares no %s", p[1], function)
			}
		}
	}
}
