package estate

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// permission is a line of the table: these may do that with those objects.
type permission struct {
	who     []string
	region  Region
	objects []string // patterns of kind/name, or "vault"
	what    map[string]bool
	line    string
	used    bool
}

// accessTable is a file of testdata/access-*.txt.
type accessTable struct {
	known       map[string]bool // everybody who is named
	permissions []*permission
}

func readAccessTable(t *testing.T, file string, operations []string) accessTable {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	table := accessTable{known: map[string]bool{}}
	defined := map[string]map[string]bool{}
	expand := func(words []string) map[string]bool {
		set := map[string]bool{}
		for _, w := range words {
			switch {
			case w == "*":
				for _, op := range operations {
					set[op] = true
				}
			case defined[w] != nil:
				maps.Copy(set, defined[w])
			case slices.Contains(operations, w):
				set[w] = true
			default:
				t.Fatalf("%s: there is no operation or definition %s", file, w)
			}
		}
		return set
	}
	var who []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "define":
			defined[words[1]] = expand(words[2:])
		case words[0] == "who":
			who = words[1:]
			for _, w := range who {
				table.known[w] = true
			}
		default:
			last := len(words) - 1
			table.permissions = append(table.permissions, &permission{who: who, region: Region(words[0]), objects: words[1:last], what: expand(words[last:]), line: line})
		}
	}
	return table
}

// allows decides what the table says.
func (a accessTable) allows(who string, r Region, object, operation string) bool {
	allowed := false
	for _, p := range a.permissions {
		if p.region != r || !slices.Contains(p.who, who) {
			continue
		}
		for _, pattern := range p.objects {
			ok, _ := path.Match(pattern, object)
			if ok || pattern == "*" && object != "vault" {
				p.used = true
				allowed = allowed || p.what[operation]
			}
		}
	}
	return allowed
}

// everybody lists who there is: identities by region/name, people by name.
func (w *wire) everybody() []string {
	all := []string{AdminUser, ProfessionalUser, AuditorUser, CitizenUser}
	for _, id := range w.names.Identities() {
		all = append(all, string(id.Region)+"/"+id.Name)
	}
	return all
}

// objectsOf lists what is in a region's vault, as kind/name. A certificate is
// three objects.
func objectsOf(r Region) []string {
	table := EUVaultTable()
	if r == IE {
		table = append(IEVaultTable(), VaultItem{Name: "csca-key-store", Type: CertificateItem})
	}
	var objects []string
	for _, item := range table {
		switch item.Type {
		case KeyItem:
			objects = append(objects, "keys/"+item.Name)
		case SecretItem:
			objects = append(objects, "secrets/"+item.Name)
		case CertificateItem:
			objects = append(objects, "keys/"+item.Name, "secrets/"+item.Name, "certificates/"+item.Name)
		}
	}
	return objects
}

// operation is one operation of a vault, on the current version where it has
// versions.
type operation struct{ name, method, path string }

func (w *wire) operations() []operation {
	found := map[string]operation{}
	for _, rt := range w.vaults[EU].Routes() {
		if o, ok := found[rt.Name]; !ok || strings.Contains(o.path, "{version}") {
			found[rt.Name] = operation{rt.Name, rt.Method, rt.Path}
		}
	}
	var all []operation
	for _, name := range slices.Sorted(maps.Keys(found)) {
		all = append(all, found[name])
	}
	return all
}

// of reports whether the operation is one on an object, or on the vault.
func (o operation) of(object string) bool {
	if !strings.Contains(o.path, "{name}") {
		return object == "vault"
	}
	kind, _, _ := strings.Cut(object, "/")
	return strings.HasPrefix(strings.TrimPrefix(o.path, "/deleted"), kind) || strings.HasPrefix(o.path, "/"+kind+"/")
}

// changes reports whether the operation would change what later ones meet.
func (o operation) changes() bool {
	switch o.name {
	case "KeySign", "KeyVerify", "KeyEncrypt", "KeyDecrypt", "KeyWrap", "KeyUnwrap":
		return false
	}
	return o.method != http.MethodGet
}

// at is the operation's address for an object.
func (o operation) at(object string) string {
	_, name, _ := strings.Cut(object, "/")
	return strings.NewReplacer("{name}", name, "/{version}", "", "{issuer}", "acme", "/certificate-", "/certificates/").Replace(o.path)
}

// hold asks everything that ask selects and holds the answers against the
// table. It returns how much was asked and how much allowed.
func (w *wire) hold(t *testing.T, table accessTable, selects func(operation) bool, check func(who string, r Region, object string, o operation, a vaultAnswer) error, bodies func(r Region, object string, o operation) any) (asked, allowed int64) {
	t.Helper()
	var n, yes atomic.Int64
	var mu sync.Mutex // over the table, whose rows note that they were used
	var wg sync.WaitGroup
	room := make(chan struct{}, 8)
	for _, who := range w.everybody() {
		token := w.token(who)
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			for _, r := range Regions() {
				for _, object := range append(objectsOf(r), "vault") {
					for _, o := range w.operations() {
						if !o.of(object) || !selects(o) {
							continue
						}
						var body any
						if o.method != http.MethodGet && o.method != http.MethodDelete {
							body = bodies(r, object, o)
						}
						a, err := w.ask(r, token, o.method, o.at(object), body)
						if err != nil {
							t.Errorf("%s: %s of %s in %s: %v", who, o.name, object, r, err)
							continue
						}
						n.Add(1)
						got := a.status != http.StatusForbidden || a.inner != "ForbiddenByRbac"
						mu.Lock()
						want := table.allows(who, r, object, o.name)
						mu.Unlock()
						if got != want || a.status == http.StatusUnauthorized || a.code == "NotFound" || a.status >= 500 && a.status != http.StatusNotImplemented {
							t.Errorf("%s: %s of %s in %s: got %d %s %s, want allowed=%v", who, o.name, object, r, a.status, a.code, a.inner, want)
							continue
						}
						if got {
							yes.Add(1)
							if err := check(who, r, object, o, a); err != nil {
								t.Errorf("%s: %s of %s in %s: %v", who, o.name, object, r, err)
							}
						}
					}
				}
			}
		})
	}
	wg.Wait()
	return n.Load(), yes.Load()
}

// TestWhoMayDoWhat asks both vaults, over the wire, for every identity of the
// tenant, every object and every operation, in both variants of key custody.
func TestWhoMayDoWhat(t *testing.T) {
	for _, custody := range []string{CustodyDirect, CustodyMounted} {
		t.Run(custody, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, custody)
			var names []string
			for _, o := range w.operations() {
				names = append(names, o.name)
			}
			table := readAccessTable(t, "testdata/access-"+custody+".txt", names)
			for _, who := range w.everybody() {
				if !table.known[who] {
					t.Errorf("the table does not say what %s may do", who)
				}
			}

			// The vaults are empty: who is allowed to destroy finds nothing.
			asked, allowed := w.hold(t, table, operation.changes, func(string, Region, string, operation, vaultAnswer) error { return nil },
				func(Region, string, operation) any { return struct{}{} })

			if err := w.bootstrap(t.Context()); err != nil {
				t.Fatal(err)
			}
			wrapped := w.wrappedKeys()
			digest := sha256.Sum256([]byte("x"))
			more, granted := w.hold(t, table, func(o operation) bool { return !o.changes() }, mustWork,
				func(r Region, object string, o operation) any {
					value := base64.RawURLEncoding.EncodeToString(digest[:])
					switch {
					case o.name == "KeySign":
						return map[string]string{"alg": "ES256", "value": value}
					case o.name == "KeyUnwrap" && wrapped[string(r)+object] != "":
						return map[string]string{"alg": "RSA-OAEP-256", "value": wrapped[string(r)+object]}
					case o.name == "KeyVerify":
						return map[string]string{"alg": "ES256", "digest": value, "value": base64.RawURLEncoding.EncodeToString(make([]byte, 64))}
					}
					return map[string]string{"alg": "RSA-OAEP-256", "value": value}
				})
			t.Logf("%d requests, %d allowed", asked+more, allowed+granted)
			for _, p := range table.permissions {
				if !p.used {
					t.Errorf("a line of the table is about nothing: %s", p.line)
				}
			}
		})
	}
}

// mustWork: what is allowed also does what it is for, and a key does nothing
// for which it was not made, whoever asks.
func mustWork(_ string, _ Region, object string, o operation, a vaultAnswer) error {
	fits := true // the operation is one for which the key is made
	switch o.name {
	case "KeyGet", "KeyListVersions", "KeyList", "SecretGet", "SecretListVersions", "SecretList", "CertificateGet", "CertificateListVersions", "CertificateList", "CertificatePolicyGet":
	case "KeySign", "KeyVerify":
		fits = !strings.HasSuffix(object, "-encryption-key")
	case "KeyWrap", "KeyUnwrap":
		fits = strings.HasSuffix(object, "-encryption-key")
	case "KeyEncrypt", "KeyDecrypt":
		fits = false
	default:
		return nil
	}
	if fits && a.status != http.StatusOK || !fits && (a.status != http.StatusForbidden || a.inner != "KeyOperationForbidden") {
		return fmt.Errorf("got %d %s %s", a.status, a.code, a.inner)
	}
	return nil
}

// wrappedKeys wraps something under each key that wraps.
func (w *wire) wrappedKeys() map[string]string {
	w.t.Helper()
	out := map[string]string{}
	for _, r := range Regions() {
		for _, row := range CMKTable() {
			a, err := w.ask(r, w.token(string(r)+"/"+DeploymentIdentity), http.MethodPost, "/keys/"+row.KeyName+"/wrapkey",
				map[string]string{"alg": "RSA-OAEP-256", "value": base64.RawURLEncoding.EncodeToString(make([]byte, 32))})
			var answer struct{ Value string }
			if err != nil || a.status != http.StatusOK || json.Unmarshal(a.body, &answer) != nil {
				w.t.Fatalf("wrap with %s: %d %s, %v", row.KeyName, a.status, a.code, err)
			}
			out[string(r)+"keys/"+row.KeyName] = answer.Value
		}
	}
	return out
}
