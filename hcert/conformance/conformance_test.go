package conformance

import (
	"os"
	"testing"
)

const vectors = "../../../shared/data/dcc"

func TestEveryPublicVectorPasses(t *testing.T) {
	if _, err := os.Stat(vectors); err != nil {
		t.Skipf("public test data is not beside the repository: %v", err)
	}
	results, err := Run(vectors)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(results), 82; got != want {
		t.Errorf("got %d vectors, want %d", got, want)
	}
	for _, r := range results {
		if !r.Passed() {
			t.Errorf("%s: %s", r.File, r.Error)
		}
	}
}
