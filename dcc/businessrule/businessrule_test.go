package businessrule

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	_ "github.com/ncruces/go-sqlite3/driver" // stands in for MySQL

	"verdant/dcc/connector"
	"verdant/dcc/wire"
)

// source is a connector as the test wants it.
type source struct {
	refresh   error
	countries []string
	rules     map[string][]connector.Rule
	failing   string // the country whose rules cannot be downloaded
	sets      map[string]json.RawMessage
}

func (s *source) Refresh(context.Context) error { return s.refresh }

func (s *source) Countries(context.Context) ([]string, error) { return s.countries, nil }

func (s *source) Rules(_ context.Context, c string) ([]connector.Rule, error) {
	if c == s.failing {
		return nil, errors.New("broke off")
	}
	return s.rules[c], nil
}

func (s *source) ValueSets(context.Context) (map[string]json.RawMessage, error) {
	if s.sets == nil {
		return nil, errors.New("broke off")
	}
	return s.sets, nil
}

func rule(country, id, version string) connector.Rule {
	return connector.Rule{Identifier: id, Version: version, Country: country, JSON: []byte(`{"Identifier": "` + id + `", "Version":"` + version + `"}`)}
}

func newServer(t *testing.T, src *source, path string) (*Server, func(string, ...string) (int, string, http.Header)) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+path+"?_pragma=busy_timeout(10000)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s, err := New(t.Context(), Config{}, Deps{DB: db, Source: src})
	if err != nil {
		t.Fatal(err)
	}
	h, err := s.Handler()
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(h)
	t.Cleanup(ts.Close)
	return s, func(path string, header ...string) (int, string, http.Header) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", ts.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), resp.Header
	}
}

func newSource() *source {
	return &source{countries: []string{"DE", "IE"},
		rules: map[string][]connector.Rule{"IE": {rule("IE", "VR-IE-0002", "1.0.0"), rule("IE", "VR-IE-0001", "1.0.0")}, "DE": {rule("DE", "VR-DE-0001", "1.0.0")}},
		sets:  map[string]json.RawMessage{"b": json.RawMessage(`{"b": 1}`), "a": json.RawMessage(`{"a": 1}`)}}
}

func TestRulesAreNamedByTheHashOfWhatTheirCountrySigned(t *testing.T) {
	s, get := newServer(t, newSource(), filepath.Join(t.TempDir(), "br.db"))
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	var list []wire.RuleItem
	_, body, _ := get("/rules")
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list) != 3 || list[0].Identifier != "VR-DE-0001" || list[2].Identifier != "VR-IE-0002" {
		t.Fatalf("rules: got %s", body)
	}
	_, body, _ = get("/rules/ie")
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list) != 2 || list[0].Country != "IE" {
		t.Fatalf("rules of IE: got %s", body)
	}
	_, raw, header := get("/rules/IE/" + list[0].Hash)
	if raw != string(rule("IE", "VR-IE-0001", "1.0.0").JSON) || hashOf([]byte(raw)) != list[0].Hash {
		t.Errorf("rule: got %s", raw)
	}
	if status, _, _ := get("/rules/IE/"+list[0].Hash, "If-None-Match", header.Get("ETag")); status != 304 {
		t.Errorf("unchanged rule: got %d", status)
	}
	var sets []wire.ValueSetItem
	_, body, _ = get("/valuesets")
	if err := json.Unmarshal([]byte(body), &sets); err != nil || len(sets) != 2 || sets[0].ID != "a" {
		t.Fatalf("value sets: got %s", body)
	}
	if _, body, _ := get("/valuesets/" + sets[0].Hash); body != `{"a": 1}` {
		t.Errorf("value set: got %s", body)
	}
	if _, body, _ := get("/countrylist"); body != `["DE","IE"]` {
		t.Errorf("countries: got %s", body)
	}
	for path, want := range map[string]struct {
		status int
		code   string
	}{"/rules/IRL": {400, "0x004"}, "/rules/IE/00": {404, "0x006"}, "/rules/DE/" + list[0].Hash: {404, "0x006"}, "/rules/IE/%20": {400, "0x005"}, "/valuesets/00": {404, "0x001"}, "/rules/FR": {200, ""}, "/publickey": {404, ""}} {
		status, body, _ := get(path)
		var p wire.ProblemReport
		_ = json.Unmarshal([]byte(body), &p)
		if status != want.status || p.Code != want.code {
			t.Errorf("%s: got %d %s", path, status, body)
		}
	}
}

func TestWhatCannotBeDownloadedStaysAsItWas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "br.db")
	src := newSource()
	s, get := newServer(t, src, path)
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, rules, _ := get("/rules")
	_, sets, _ := get("/valuesets")
	same := func(name string) {
		t.Helper()
		if err := s.Sync(t.Context()); err == nil {
			t.Errorf("%s: got no error", name)
		}
		if _, r, _ := get("/rules"); r != rules {
			t.Errorf("%s: rules are now %s", name, r)
		}
		if _, v, _ := get("/valuesets"); v != sets {
			t.Errorf("%s: value sets are now %s", name, v)
		}
	}
	src.refresh = errors.New("gateway is away")
	src.rules = nil
	same("no trust list")
	src.refresh, src.rules, src.failing = nil, newSource().rules, "DE"
	same("one country fails")
	src.failing, src.countries = "", nil
	same("no countries")
	src.countries, src.sets = newSource().countries, map[string]json.RawMessage{}
	same("no value sets")
	src.sets = nil
	same("value sets fail")

	src.sets, src.failing = newSource().sets, "DE"
	src.rules["IE"] = nil // Ireland withdrew its rules, and Germany cannot be asked
	if err := s.Sync(t.Context()); err == nil {
		t.Error("got no error for Germany")
	}
	if _, r, _ := get("/rules/IE"); r != "[]" {
		t.Errorf("IE: got %s", r)
	}
	if _, r, _ := get("/rules/DE"); r == "[]" {
		t.Error("DE: its rules are gone")
	}
	_, before, _ := get("/rules")
	_, get = newServer(t, src, path) // a restart without a gateway
	if _, after, _ := get("/rules"); after != before {
		t.Errorf("after a restart: got %s", after)
	}
}
