package vnet_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"verdant/vnet"
	"verdant/vnet/vnettest"
)

const secretsDir = "/mnt/secrets-store"

func TestSecretFilesAreOneProcessesAlone(t *testing.T) {
	eachKernel(t, func(t *testing.T, d vnet.Driver) {
		w := vnettest.Build(t, d)
		add := func(name string) *vnet.Pod {
			pod, err := w.Fabric.AddPod(vnet.PodConfig{Name: name, Network: "ie"})
			if err != nil {
				t.Fatal(err)
			}
			return pod
		}
		pod, other := add("keeper"), add("neighbour")
		key, nested, loose := secretsDir+"/key.p12", secretsDir+"/old/1", secretsDir+"/loose"
		look := func(start func(vnet.Command) (*vnet.Process, error), secrets ...vnet.SecretFile) view {
			t.Helper()
			cmd := vnettest.Command("inspect", key, nested, loose)
			cmd.SecretsDir, cmd.Secrets = secretsDir, secrets
			var got view
			if err := json.Unmarshal(w.Output(t, start, cmd), &got); err != nil {
				t.Fatal(err)
			}
			return got
		}
		files := func() []vnet.SecretFile {
			return []vnet.SecretFile{{Path: "key.p12", Mode: 0o400, Contents: []byte("private")}, {Path: "old/1", Mode: 0o440, Contents: []byte("older")}, {Path: "loose", Mode: 0o666}}
		}
		got := look(pod.Start, files()...)
		if got.Read[key] != "private" || got.Read[nested] != "older" {
			t.Errorf("the process reads %q", got.Read)
		}
		for path, want := range map[string]string{key: "permission denied", nested: "permission denied", loose: "read-only file system"} {
			if said := got.Write[path]; !strings.Contains(said, want) {
				t.Errorf("writing %s: %s", path, said)
			}
		}
		for name, start := range map[string]func(vnet.Command) (*vnet.Process, error){"the pod's next process": pod.Start, "another pod": other.Start, "an operator in the pod": pod.Exec} {
			if got := look(start); !strings.Contains(got.Read[key], "no such file") {
				t.Errorf("%s reads %q", name, got.Read[key])
			}
		}
		if _, err := os.Stat(secretsDir); err == nil {
			t.Error("the directory is on the host")
		}
	})
}

// readAll reads files and does nothing else.
func readAll(paths []string) map[string]string {
	out := map[string]string{}
	for _, p := range paths {
		content, err := os.ReadFile(p)
		if out[p] = string(content); err != nil {
			out[p] = err.Error()
		}
	}
	return out
}

func TestSecretFilesOfLoopbackGoWithTheProcess(t *testing.T) {
	w := vnettest.Build(t, vnet.Loopback)
	pod, err := w.Fabric.AddPod(vnet.PodConfig{Name: "keeper", Network: "ie"})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "secrets")
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Symlink(outside, dir); err != nil { // somebody was there first
		t.Fatal(err)
	}
	key := filepath.Join(dir, "key.p12")
	// Not inspect: that tries to mount, and here nothing would stop it.
	cmd := vnettest.Command("read", key)
	cmd.SecretsDir, cmd.Secrets = dir, []vnet.SecretFile{{Path: "key.p12", Mode: 0o400, Contents: []byte("private")}}
	var got map[string]string
	if err := json.Unmarshal(w.Output(t, pod.Start, cmd), &got); err != nil {
		t.Fatal(err)
	}
	if got[key] != "private" {
		t.Errorf("the process reads %q", got[key])
	}
	for _, path := range []string{dir, outside} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
	for _, bad := range []vnet.SecretFile{{Path: "../x"}, {Path: "/x"}, {Path: ""}, {Path: "a//b"}, {Path: "a", Mode: os.ModeSetuid | 0o755}} {
		cmd.Secrets = []vnet.SecretFile{bad}
		if p, err := pod.Start(cmd); err == nil {
			_ = p.Kill()
			t.Errorf("%+v: it started", bad)
		}
	}
}
