package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"verdant/estate"
)

// fence is a fenced block of a document.
type fence struct {
	line  int    // of its first line of content
	info  string // what follows the opening fence
	lines []string
}

// option is the value of name=… in the fence's info.
func (f fence) option(name string) string {
	for _, field := range strings.Fields(f.info) {
		if value, ok := strings.CutPrefix(field, name+"="); ok {
			return value
		}
	}
	return ""
}

func fences(t *testing.T, file string) []fence {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []fence
	open := false
	for i, line := range strings.Split(string(raw), "\n") {
		info, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && !open:
			all = append(all, fence{line: i + 2, info: info})
			open = true
		case isFence:
			open = false
		case open:
			last := &all[len(all)-1]
			last.lines = append(last.lines, line)
		}
	}
	if open {
		t.Fatalf("%s: the last fence is not closed", file)
	}
	return all
}

// example is one command of a console block and what it must print.
type example struct {
	line    int
	command string
	want    []string
	exit    int
}

func examplesOf(f fence) []example {
	var all []example
	for i, line := range f.lines {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			all = append(all, example{line: f.line + i, command: command})
			continue
		}
		if len(all) == 0 {
			continue
		}
		e := &all[len(all)-1]
		var exit int
		if more, ok := strings.CutPrefix(line, "> "); ok {
			e.command += "\n" + more
		} else if n, _ := fmt.Sscanf(line, "[exit %d]", &exit); n == 1 {
			e.exit = exit
		} else {
			e.want = append(e.want, line)
		}
	}
	return all
}

// prints tells whether output is what the document shows. "…" stands for any
// characters, on a line of its own for any lines; spaces count as one.
func prints(output string, want []string) bool {
	if len(want) == 0 {
		return true
	}
	var pattern strings.Builder
	pattern.WriteString(`^`)
	for i, line := range want {
		if line == "…" {
			pattern.WriteString(`(?:[^\n]*\n)*?`)
			continue
		}
		parts := strings.Split(strings.Join(strings.Fields(line), " "), "…")
		for j, p := range parts {
			parts[j] = regexp.QuoteMeta(p)
		}
		pattern.WriteString(strings.Join(parts, `[^\n]*`))
		if i < len(want)-1 || !strings.HasSuffix(line, "…") {
			pattern.WriteString(` ?\n`)
		} else {
			pattern.WriteString(`(?:.|\n)*`)
		}
	}
	pattern.WriteString(`$`)
	var lines []string
	for line := range strings.SplitSeq(strings.TrimRight(output, "\n"), "\n") {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return regexp.MustCompile(pattern.String()).MatchString(strings.Join(lines, "\n") + "\n")
}

// TestWhatADocumentShowsIsHeldAgainstTheOutput tests the comparison itself.
func TestWhatADocumentShowsIsHeldAgainstTheOutput(t *testing.T) {
	for _, c := range []struct {
		output string
		want   []string
		same   bool
	}{
		{"a\n", []string{"a"}, true},
		{"a\n", []string{"b"}, false},
		{"a\nb\n", []string{"a"}, false},
		{"a\nb\nc\n", []string{"a", "…"}, true},
		{"a\nb\nc\n", []string{"…", "c"}, true},
		{"a\nb\nc\n", []string{"…", "b"}, false},
		{"name   value\n", []string{"name value"}, true},
		{"VALID: until 2027\n", []string{"VALID: …"}, true},
		{"REFUSED: VALID: \n", []string{"VALID: …"}, false},
		{"", []string{"a"}, false},
	} {
		if got := prints(c.output, c.want); got != c.same {
			t.Errorf("%q shown as %q: got %v, want %v", c.output, c.want, got, c.same)
		}
	}
}

// docsShell runs the examples of documents on one estate, in a directory that
// looks like the repository's root to them.
type docsShell struct {
	*estateUnderTest
	dir string
	env []string
}

func newDocsShell(t *testing.T) *docsShell {
	t.Helper()
	e := startEstate(t, "auto")
	dir := t.TempDir()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "examples"), filepath.Join(dir, "examples")); err != nil {
		t.Fatal(err)
	}
	// `verdant up` of an example must not take the ports that a person's own
	// estate may have.
	script := fmt.Sprintf("#!/bin/sh\ncommand=$1\nif [ \"$command\" = up ]; then shift; set -- up --ingress-addr 127.0.0.1:0 --jumpbox-addr 127.0.0.1:0 \"$@\"; fi\nexec %s \"$@\"\n", e.binary)
	bin := filepath.Join(dir, ".bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "verdant"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "VERDANT_") || strings.HasPrefix(v, "PATH=") })
	return &docsShell{e, dir, append(env, "VERDANT_DATA_DIR="+e.dataDir, "PATH="+bin+":"+os.Getenv("PATH"))}
}

// run runs a block's commands in one shell and returns what each printed.
func (s *docsShell) run(commands []string) ([]string, []int, error) {
	const mark = "\x01docs-test"
	var script strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&script, "%s\nprintf '%s %%d\\n' $?\n", c, mark)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script.String())
	cmd.Dir, cmd.Env, cmd.WaitDelay = s.dir, s.env, 5*time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var outputs []string
	var exits []int
	rest := out.String()
	for range commands {
		output, after, ok := strings.Cut(rest, mark+" ")
		if !ok {
			return outputs, exits, fmt.Errorf("the shell ended early: %w\n%s", err, rest)
		}
		code, tail, _ := strings.Cut(after, "\n")
		exit, convErr := strconv.Atoi(code)
		if convErr != nil {
			return outputs, exits, convErr
		}
		outputs, exits, rest = append(outputs, output), append(exits, exit), tail
	}
	return outputs, exits, nil
}

// block runs one console block.
func (s *docsShell) block(t *testing.T, file string, f fence) int {
	t.Helper()
	list := examplesOf(f)
	var commands []string
	for _, e := range list {
		commands = append(commands, e.command)
	}
	outputs, exits, err := s.run(commands)
	if err != nil {
		t.Errorf("%s:%d: %v", file, f.line, err)
	}
	for i := range outputs {
		if exits[i] != list[i].exit || !prints(outputs[i], list[i].want) {
			t.Errorf("%s:%d: %s\ngot exit %d:\n%s\nwant exit %d:\n%s", file, list[i].line, list[i].command,
				exits[i], outputs[i], list[i].exit, strings.Join(list[i].want, "\n"))
		}
	}
	return len(outputs)
}

// TestTheGuidesExamplesRun runs every console block of the guide, in order, on
// one estate.
func TestTheGuidesExamplesRun(t *testing.T) {
	need(t, "bash")
	s := newDocsShell(t)
	const file = "docs/guide.md"
	ran, marked := 0, 0
	for _, f := range fences(t, "../"+file) {
		switch {
		case f.option("program") != "":
			s.build(t, f)
		case strings.HasPrefix(f.info, "console"):
			marked += len(examplesOf(f))
			t.Run(fmt.Sprintf("line %d", f.line), func(t *testing.T) {
				for _, part := range strings.FieldsFunc(f.option("needs"), func(r rune) bool { return r == ',' }) {
					if part != "isolated" {
						need(t, part)
					} else if !isolated(t, s.estateUnderTest) {
						t.Skip("the example is about kernel networks, and this machine has none")
					}
				}
				ran += s.block(t, file, f)
			})
		}
	}
	if marked < 10 || ran == 0 {
		t.Errorf("%d examples are marked and %d ran; want at least 10", marked, ran)
	}
}

// build makes the program of a fence, under the module's own versions.
func (s *docsShell) build(t *testing.T, f fence) {
	t.Helper()
	name := f.option("program")
	source := filepath.Join(s.dir, name+".go")
	if err := os.WriteFile(source, []byte(strings.Join(f.lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", filepath.Join(s.dir, name), source)
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the program at line %d: %v\n%s", f.line, err, out)
	}
}

// TestTheREADMEsCommandsRun runs what the README says to try by hand.
func TestTheREADMEsCommandsRun(t *testing.T) {
	need(t, "bash")
	raw, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for line := range strings.SplitSeq(string(raw), "\n") {
		command, ok := strings.CutPrefix(line, "    ./verdant ")
		if !ok || strings.HasPrefix(command, "demo") {
			continue
		}
		commands = append(commands, "verdant "+command)
	}
	if len(commands) < 5 {
		t.Fatalf("the README has %d commands to try, want at least 5: %q", len(commands), commands)
	}
	s := newDocsShell(t)
	certificate := s.issue(t, examples(t)["vaccination"])
	for i, c := range commands {
		commands[i] = strings.ReplaceAll(c, "HC1:…", certificate)
	}
	outputs, exits, err := s.run(commands)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range commands {
		want := ""
		switch name := strings.Fields(c)[1]; name {
		case "status":
			want = "estate   ready"
		case "cert":
			want = map[string]string{"issue": "HC1:", "verify": "VALID: "}[strings.Fields(c)[2]]
		case "exec":
			want = "nameserver 168.63.129.16"
		case "rest":
			want = `"kid"`
		case "query":
			want = "OperationName"
		default:
			t.Errorf("the README's %q has no check here", c)
		}
		if exits[i] != 0 || !strings.Contains(outputs[i], want) {
			t.Errorf("%s: got exit %d, %q; want %q", c, exits[i], outputs[i], want)
		}
	}
}

// TestEveryVariableIsInTheGuide holds the table of terraform.tfvars against
// the names that the parser knows.
func TestEveryVariableIsInTheGuide(t *testing.T) {
	guide, err := os.ReadFile("../docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	_, err = estate.ParseVariables("x", []byte("nonsense = 1\n"))
	if err == nil {
		t.Fatal("an unknown variable is accepted")
	}
	_, known, ok := strings.Cut(err.Error(), "known are ")
	names := strings.Split(known, ", ")
	if !ok || len(names) < 10 {
		t.Fatalf("the complaint does not list the variables: %v", err)
	}
	for _, name := range names {
		if !strings.Contains(string(guide), "`"+name+"`") {
			t.Errorf("docs/guide.md does not mention the variable %s", name)
		}
	}
}

// TestEveryRefusalIsInTheGuide holds the table of reasons against package
// hcert.
func TestEveryRefusalIsInTheGuide(t *testing.T) {
	guide, err := os.ReadFile("../docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), "../hcert/error.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "Reason" {
			return true
		}
		for _, v := range spec.Values {
			text, err := strconv.Unquote(v.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found++
			if !strings.Contains(string(guide), "`"+text+"`") {
				t.Errorf("docs/guide.md does not mention the reason %q", text)
			}
		}
		return true
	})
	if found < 15 {
		t.Errorf("only %d reasons were found in package hcert", found)
	}
}

// publicDocs are the documents that people outside read.
func publicDocs(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	add := func(path string) {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		docs[strings.TrimPrefix(path, "../")] = string(raw)
	}
	for _, name := range []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"} {
		add("../" + name)
	}
	err := filepath.WalkDir("../docs", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			add(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

var (
	linkPattern   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	testPattern   = regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9]+)`")
	headerPattern = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

// TestLinksLeadSomewhere follows every relative link of the documents, with
// its anchor.
func TestLinksLeadSomewhere(t *testing.T) {
	docs := publicDocs(t)
	for name, text := range docs {
		for _, m := range linkPattern.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(filepath.Join("..", target)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
				continue
			}
			if anchor != "" && !slices.Contains(anchors(docs[target]), anchor) {
				t.Errorf("%s links to %s, and %s has no such heading", name, m[1], target)
			}
		}
	}
}

// anchors are the ids that the headings of a document get.
func anchors(text string) []string {
	var ids []string
	for _, m := range headerPattern.FindAllStringSubmatch(text, -1) {
		id := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z':
				return r
			}
			return -1
		}, strings.ToLower(m[1]))
		ids = append(ids, id)
	}
	return ids
}

// TestTestsThatDocumentsNameExist finds every test that a document calls as
// witness.
func TestTestsThatDocumentsNameExist(t *testing.T) {
	exist := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for _, m := range declared.FindAllStringSubmatch(string(raw), -1) {
			exist[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for name, text := range publicDocs(t) {
		for _, m := range testPattern.FindAllStringSubmatch(text, -1) {
			named++
			if !exist[m[1]] {
				t.Errorf("%s names the test %s, which does not exist", name, m[1])
			}
		}
	}
	if named < 20 {
		t.Errorf("the documents name only %d tests; the threat model should name more", named)
	}
}

// TestEveryDirectDependencyIsExplained holds docs/dependencies.md against
// go.mod, and against where each module is imported.
func TestEveryDirectDependencyIsExplained(t *testing.T) {
	rows := dependencyRows(t)
	direct := directModules(t)
	if len(direct) < 10 {
		t.Fatalf("go.mod has only %d direct dependencies", len(direct))
	}
	for _, m := range direct {
		row, ok := rows[m]
		if !ok {
			t.Errorf("docs/dependencies.md has no row for %s", m)
			continue
		}
		shipped := importedOutsideTests(t, m)
		if saysTests := strings.Contains(row, "| tests |"); saysTests == shipped {
			t.Errorf("docs/dependencies.md says that %s is for tests only: %v; code that is not a test imports it: %v", m, saysTests, shipped)
		}
	}
	for m := range rows {
		if !slices.Contains(direct, m) {
			t.Errorf("docs/dependencies.md has a row for %s, which go.mod does not require directly", m)
		}
	}
}

func dependencyRows(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile("../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|.*$").FindAllStringSubmatch(string(raw), -1) {
		rows[m[1]] = m[0]
	}
	return rows
}

func directModules(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var direct []string
	for _, m := range regexp.MustCompile(`(?m)^(?:require )?\s*(\S+\.\S+/\S+) v\S+$`).FindAllStringSubmatch(string(raw), -1) {
		direct = append(direct, m[1])
	}
	return direct
}

// importedOutsideTests tells whether a file that is no test imports a package
// of the module. Test programs that are packages of their own count as tests.
func importedOutsideTests(t *testing.T, module string) bool {
	t.Helper()
	imports := regexp.MustCompile(`(?m)^\s*(?:import )?(?:[\w.]+ )?"` + regexp.QuoteMeta(module) + `(?:/[^"]*)?"`)
	found := false
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || found || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "../test/") {
			return err
		}
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		found = imports.Match(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
