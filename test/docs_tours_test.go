package test

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// toured is what a tour of test/keyvault/tours found about one method.
type toured struct {
	where  string // the host and the kind of client
	method string // class and method
	why    string // of a refusal; empty if the method did what it promises
}

// toursText is the part of the vault's page that says how the clients of other
// languages fared. The verdicts are files that the tours' test compares with
// what it sees.
func toursText(t *testing.T) string {
	files, err := filepath.Glob("keyvault/tours/*.results")
	if err != nil || len(files) == 0 {
		t.Fatalf("no verdicts of tours: %v", err)
	}
	var b strings.Builder
	b.WriteString("\n## Clients of other languages\n\n" +
		"Scripted tours in `test/keyvault/tours` call every public method of Microsoft's unpatched clients against a vault and a managed HSM, " +
		"with tokens from our identity service and our metadata service, and check the answers. TLS certificates and challenge resources are verified. " +
		"Methods are listed by reflection: one that a tour does not call has failed.\n")
	for _, file := range files {
		packages, notes, verdicts := readTour(t, file)
		name := strings.TrimSuffix(filepath.Base(file), ".results")
		fmt.Fprintf(&b, "\n### %s\n\n%s.\n\n", name, strings.Join(packages, ", "))
		writeTour(&b, verdicts)
		for i, note := range notes {
			if i == 0 {
				b.WriteString("\nThese clients' own ways, whatever the vault answers:\n\n")
			}
			fmt.Fprintf(&b, "- %s\n", note)
		}
	}
	return b.String()
}

func readTour(t *testing.T, file string) (packages, notes []string, verdicts []toured) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if note, ok := strings.CutPrefix(lines.Text(), "# note: "); ok {
			notes = append(notes, note)
			continue
		}
		if name, ok := strings.CutPrefix(lines.Text(), "# "); ok {
			name, version, _ := strings.Cut(name, " ")
			packages = append(packages, fmt.Sprintf("`%s` %s", name, version))
			continue
		}
		label, result, _ := strings.Cut(lines.Text(), "\t")
		space := strings.LastIndexByte(label, ' ')
		if space < 0 || strings.HasPrefix(result, "FAILED") {
			t.Fatalf("%s: %s", file, lines.Text())
		}
		why := strings.TrimSuffix(strings.TrimPrefix(result, "refused as expected ("), ")")
		if result == "ok" {
			why = ""
		}
		verdicts = append(verdicts, toured{label[:space], label[space+1:], why})
	}
	return packages, notes, verdicts
}

// writeTour prints the figures of each class on each host, then the refusals
// with their reasons, then the methods.
func writeTour(b *strings.Builder, verdicts []toured) {
	type row struct{ where, class string }
	type tally struct{ ok, refused int }
	tallies, methods, refusals := map[row]*tally{}, map[string][]string{}, map[string][]string{}
	var rows []row
	for _, v := range verdicts {
		class, method, _ := strings.Cut(v.method, ".")
		r := row{v.where, class}
		if v.where == "credential" {
			r.class = ""
		}
		if tallies[r] == nil {
			tallies[r] = &tally{}
			rows = append(rows, r)
		}
		if v.why == "" {
			tallies[r].ok++
		} else {
			tallies[r].refused++
			refusals[v.why] = append(refusals[v.why], v.where+" `"+v.method+"`")
		}
		if r.class != "" && !slices.Contains(methods[class], method) {
			methods[class] = append(methods[class], method)
		}
	}
	b.WriteString("| on | class | methods ok | refused as expected | failed |\n|---|---|---|---|---|\n")
	var credentials []string
	for _, r := range rows {
		if r.class == "" {
			continue
		}
		fmt.Fprintf(b, "| %s | `%s` | %d | %d | 0 |\n", r.where, r.class, tallies[r].ok, tallies[r].refused)
	}
	for _, v := range verdicts {
		if v.where == "credential" {
			credentials = append(credentials, "`"+v.method+"`")
		}
	}
	fmt.Fprintf(b, "\nCredentials: %s.\n\nRefused as expected:\n\n", strings.Join(credentials, ", "))
	for _, why := range slices.Sorted(maps.Keys(refusals)) {
		fmt.Fprintf(b, "- %s: %s\n", why, strings.Join(refusals[why], ", "))
	}
	b.WriteString("\nMethods called:\n\n")
	for _, class := range slices.Sorted(maps.Keys(methods)) {
		slices.Sort(methods[class])
		fmt.Fprintf(b, "- `%s`: %s\n", class, strings.Join(methods[class], ", "))
	}
}
