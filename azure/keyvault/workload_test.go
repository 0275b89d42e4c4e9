package keyvault_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
)

// thing is an object of the mixed workload and what the vault must show of it.
type thing struct {
	Kind, Name string
	State      string // "" while there is none, "live", "deleted"
	Mark       string // its tag
	Versions   int
	Backup     *backedUp
}

// backedUp is a backup of a secret and what comes back with it.
type backedUp struct {
	Blob, Mark string
	Versions   int
}

func (o thing) path() string        { return "/" + o.Kind + "/" + o.Name }
func (o thing) deletedPath() string { return "/deleted" + o.Kind + "/" + o.Name }

// step is a write: the request, and what the object is after it.
type step struct {
	Op           string
	method, path string
	body         string
	want         int // status
	After        thing
}

const (
	certPolicy  = `"policy":{"key_props":{"kty":"EC","exportable":false},"x509_props":{"subject":"CN=x"},"issuer":{"name":"Self"}}`
	maxVersions = 8
)

// next picks the next write of an object at random.
func (o thing) next(rng *rand.Rand) step {
	mark := fmt.Sprintf("%016x", rng.Uint64())
	tags := fmt.Sprintf(`"tags":{"mark":%q}`, mark)
	switch {
	case o.State == "deleted":
		if rng.IntN(2) == 0 {
			o.State = "live"
			return step{"recover", "POST", o.deletedPath() + "/recover", "", 200, o}
		}
		o.State, o.Versions = "", 0
		return step{"purge", "DELETE", o.deletedPath(), "", 204, o}
	case o.State == "live" && (o.Versions >= maxVersions || rng.IntN(5) == 0):
		o.State = "deleted"
		return step{"delete", "DELETE", o.path(), "", 200, o}
	case o.State == "live" && rng.IntN(3) == 0:
		o.Mark = mark
		return step{"update", "PATCH", o.path() + "/", "{" + tags + "}", 200, o}
	case o.State == "live" && o.Kind == "secrets" && rng.IntN(4) == 0:
		return step{"backup", "POST", o.path() + "/backup", "", 200, o}
	case o.State == "" && o.Backup != nil && rng.IntN(2) == 0:
		o.State, o.Versions, o.Mark = "live", o.Backup.Versions, o.Backup.Mark
		return step{"restore", "POST", "/secrets/restore", fmt.Sprintf(`{"value":%q}`, o.Backup.Blob), 200, o}
	case o.State == "live" && o.Kind == "keys" && rng.IntN(2) == 0:
		o.Versions++
		return step{"rotate", "POST", o.path() + "/rotate", "", 200, o}
	}
	o.State, o.Mark, o.Versions = "live", mark, o.Versions+1
	switch o.Kind {
	case "secrets":
		return step{"set", "PUT", o.path(), fmt.Sprintf(`{"value":%q,%s}`, mark, tags), 200, o}
	case "certificates":
		return step{"create", "POST", o.path() + "/create", "{" + certPolicy + "," + tags + "}", 202, o}
	}
	return step{"create", "POST", o.path() + "/create", `{"kty":"EC",` + tags + "}", 200, o}
}

// done is the object after the step's answer.
func (s step) done(r reply) thing {
	o := s.After
	if s.Op == "backup" {
		blob, _ := r.body["value"].(string)
		o.Backup = &backedUp{blob, o.Mark, o.Versions}
	}
	return o
}

// asker sends a request as the administrator.
type asker func(ctx context.Context, method, path, body string) (reply, error)

// ask is an asker for the world's own vault.
func (w *world) ask(ctx context.Context, method, path, body string) (reply, error) {
	return askAt(ctx, w.http, w.mint(map[string]any{"oid": admin}), method, path, body)
}

func askAt(ctx context.Context, c *http.Client, token, method, path, body string) (reply, error) {
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	req, err := http.NewRequestWithContext(ctx, method, vaultURL+path+sep+"api-version=7.4", bytes.NewReader([]byte(body)))
	if err != nil {
		return reply{}, err
	}
	req.GetBody = nil // whether to send it again is the caller's decision
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := c.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return reply{}, err
	}
	out := reply{status: res.StatusCode, header: res.Header, text: string(data)}
	_ = json.Unmarshal(data, &out.body)
	return out, nil
}

// check compares what the vault shows with what the object must be.
func (o thing) check(ctx context.Context, ask asker) error {
	get := func(path string, want int) (reply, error) {
		r, err := ask(ctx, "GET", path, "")
		if err == nil && r.status != want {
			err = fmt.Errorf("GET %s: got %d, want %d: the object must be %+v", path, r.status, want, o)
		}
		return r, err
	}
	kinds := []string{o.Kind}
	if o.Kind == "certificates" {
		kinds = []string{"certificates", "keys", "secrets"}
	}
	for _, kind := range kinds {
		twin := thing{Kind: kind, Name: o.Name}
		live, gone := 404, 404
		switch o.State {
		case "live":
			live = 200
		case "deleted":
			gone = 200
		}
		r, err := get(twin.path(), live)
		if err != nil {
			return err
		}
		if _, err := get(twin.deletedPath(), gone); err != nil {
			return err
		}
		if live != 200 {
			continue
		}
		if kind == o.Kind {
			if err := o.checkMark(r); err != nil {
				return err
			}
		}
		if kind == "keys" {
			err = checkKey(ctx, ask, twin)
		}
		if err == nil {
			err = o.checkVersions(ctx, ask, twin)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o thing) checkMark(r reply) error {
	tags, _ := r.body["tags"].(map[string]any)
	if got := tags["mark"]; got != o.Mark {
		return fmt.Errorf("%s: got mark %v, want %s", o.path(), got, o.Mark)
	}
	return nil
}

func (o thing) checkVersions(ctx context.Context, ask asker, twin thing) error {
	r, err := ask(ctx, "GET", twin.path()+"/versions", "")
	if err != nil {
		return err
	}
	list, _ := r.body["value"].([]any)
	if len(list) != o.Versions {
		return fmt.Errorf("%s: got %d versions, want %d", twin.path(), len(list), o.Versions)
	}
	for _, v := range list { // each of them is whole
		item, _ := v.(map[string]any)
		id, _ := item["id"].(string)
		if id == "" {
			id, _ = item["kid"].(string)
		}
		version := id[strings.LastIndexByte(id, '/')+1:]
		if r, err = ask(ctx, "GET", twin.path()+"/"+version, ""); err != nil || r.status != 200 {
			return fmt.Errorf("%s version %s: got %d, %v", twin.path(), version, r.status, err)
		}
		if value, isSecret := r.body["value"].(string); isSecret && o.Kind == "secrets" && len(value) != 16 {
			return fmt.Errorf("%s version %s: got the value %q", twin.path(), version, value)
		}
	}
	return nil
}

// checkKey has the vault sign and verify.
func checkKey(ctx context.Context, ask asker, o thing) error {
	const digest = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	r, err := ask(ctx, "POST", o.path()+"/sign", `{"alg":"ES256","value":"`+digest+`"}`)
	if err != nil || r.status != 200 {
		return fmt.Errorf("%s: sign: got %d %s, %v", o.path(), r.status, r.text, err)
	}
	kid, _ := r.body["kid"].(string)
	version := kid[strings.LastIndexByte(kid, '/')+1:]
	r, err = ask(ctx, "POST", o.path()+"/"+version+"/verify", fmt.Sprintf(`{"alg":"ES256","digest":%q,"value":%q}`, digest, r.body["value"]))
	if err != nil || r.body["value"] != true {
		return fmt.Errorf("%s: verify: got %d %s, %v", o.path(), r.status, r.text, err)
	}
	return nil
}

// things are the objects of one worker.
func things(prefix string) []thing {
	var all []thing
	for i := range 4 {
		all = append(all, thing{Kind: "secrets", Name: fmt.Sprintf("%s-s%d", prefix, i)})
	}
	for i := range 3 {
		all = append(all, thing{Kind: "keys", Name: fmt.Sprintf("%s-k%d", prefix, i)})
	}
	return append(all, thing{Kind: "certificates", Name: prefix + "-c"})
}

// pick chooses an object at random, certificates seldom.
func pick(rng *rand.Rand, all []thing) int {
	if rng.IntN(20) == 0 {
		return len(all) - 1
	}
	return rng.IntN(len(all) - 1)
}
