package estate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"verdant/azure/csi"
	"verdant/azure/entra"
	"verdant/estate/control"
	"verdant/internal/httpserve"
	"verdant/internal/lifecycle"
	"verdant/vnet"
)

const (
	podPort      = 8080
	podGrace     = 3 * time.Second
	restartFirst = 200 * time.Millisecond
	restartLast  = 10 * time.Second
	probeEvery   = 20 * time.Millisecond

	podRunning = "Running"
)

// cluster runs a region's pods: the part that a managed Kubernetes cluster
// plays in the reference. Each pod has its network namespace, its identity and
// a volume sealed under the cluster's customer-managed key. While that key is
// refused no pod runs.
type cluster struct {
	names    Names
	region   Region
	fabric   *vnet.Fabric
	identity *entra.Server
	dir      *DataDir
	logs     *podLogs
	now      func() time.Time
	env      func(Pod) []string // what is the same in every driver
	progress func(string)
	// volumes gives the key of the pods' volumes, or why there is none.
	volumes func() ([32]byte, error)
	// secrets mounts the pods' bundles; nil where keys stay in the vault.
	secrets *secretsDriver

	mu   sync.Mutex
	pods map[string]*workload
}

// workload is a pod and what is known of it.
type workload struct {
	spec     Pod
	pod      *vnet.Pod
	imds     net.Listener // of its metadata service
	process  *vnet.Process
	state    string
	reason   string
	restarts int
	ready    chan struct{}
	isReady  bool
}

func (c *cluster) create() error {
	c.pods = map[string]*workload{}
	for _, spec := range PodsOf(c.region) {
		dir, err := c.dir.State("volumes", string(c.region), spec.Name)
		if err != nil {
			return err
		}
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		mounts := []vnet.Mount{{Path: dir, Writable: true}, {Path: filepath.Join(c.dir.Path, rootPEM)}, {Path: filepath.Join(c.dir.Path, rootPKCS12)}, {Path: exe}}
		if onboarding := c.onboardingDir(spec); onboarding != "" {
			mounts = append(mounts, vnet.Mount{Path: onboarding})
		}
		pod, err := c.fabric.AddPod(vnet.PodConfig{
			Name: spec.Name, Network: c.names.VNet(c.region),
			Addr: netip.MustParseAddr(address(regionSubnet, spec.Address)), Mounts: mounts,
		})
		if err != nil {
			return err
		}
		imds, err := pod.Listen(netip.AddrPortFrom(vnet.MetadataAddr, 80))
		if err != nil {
			return err
		}
		c.pods[spec.Name] = &workload{spec: spec, pod: pod, imds: imds, state: "Pending", ready: make(chan struct{})}
	}
	return nil
}

func (c *cluster) onboardingDir(p Pod) string {
	if p.Service != "dgc-gateway" {
		return ""
	}
	return c.dir.Path + "/state/onboarding"
}

// tasks are the background work: each pod with its metadata service. after
// waits for the readiness of pods, of this region or another.
func (c *cluster) tasks(after func(context.Context, string) error) []lifecycle.Task {
	var tasks []lifecycle.Task
	for _, spec := range PodsOf(c.region) {
		w := c.pods[spec.Name]
		tasks = append(tasks,
			lifecycle.Task{Name: "metadata service of " + spec.Name, Run: func(ctx context.Context) error {
				return httpserve.Run(ctx, w.imds, nil, c.metadata(spec))
			}},
			lifecycle.Task{Name: "pod " + spec.Name, Run: func(ctx context.Context) error {
				for _, name := range spec.After {
					if err := after(ctx, name); err != nil {
						return nil // only the end of ctx ends the wait
					}
				}
				c.keepRunning(ctx, w)
				return nil
			}})
	}
	return tasks
}

// metadata answers a pod's questions for tokens of its own identity.
func (c *cluster) metadata(spec Pod) http.Handler {
	principal := c.names.Identity(c.region, spec.Identity).PrincipalID
	if c.fabric.Driver() == vnet.Loopback {
		return c.identity.AppService(c.identityHeader(spec), principal)
	}
	return c.identity.IMDS(principal)
}

// keepRunning starts the pod and starts it again whenever it ends, more
// slowly each time it does not become ready.
func (c *cluster) keepRunning(ctx context.Context, w *workload) {
	wait := restartFirst
	for ctx.Err() == nil {
		began := c.now()
		err := c.runOnce(ctx, w)
		if ctx.Err() != nil {
			return
		}
		if c.now().Sub(began) > restartLast {
			wait = restartFirst
		}
		if err.Error() != w.reason { // only this goroutine changes it
			c.progress(w.spec.Name + " does not run: " + err.Error())
		}
		c.set(w, func() {
			w.state, w.reason, w.process = "Waiting", err.Error(), nil
			w.restarts++
		})
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, restartLast)
	}
}

// runOnce runs the pod's process until it ends, ctx ends, or the volumes' key
// is refused.
func (c *cluster) runOnce(ctx context.Context, w *workload) error {
	key, err := c.volumes()
	if err != nil {
		return fmt.Errorf("its volume is sealed: %w", err)
	}
	var secrets mounted
	if c.secrets != nil {
		if secrets, _, err = c.secrets.fetch(ctx, w.spec, nil); err != nil {
			return fmt.Errorf("its secrets are not mounted: %w", err)
		}
		defer secrets.wipe()
	}
	listen, err := w.pod.ListenAddr(podPort)
	if err != nil {
		return err
	}
	keyReader, err := pipeOf(key[:])
	if err != nil {
		return err
	}
	defer keyReader.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		_ = outR.Close()
		_ = outW.Close()
		return err
	}
	var streams sync.WaitGroup
	streams.Go(func() { c.logs.collect(w.spec, c.region, "stdout", outR); _ = outR.Close() })
	streams.Go(func() { c.logs.collect(w.spec, c.region, "stderr", errR); _ = errR.Close() })

	env := append(c.env(w.spec), "LISTEN_ADDR="+listen, "VERDANT_VOLUME_KEY_FD=3")
	env = append(env, w.pod.Env()...)
	env = append(env, c.metadataEnv(w)...)
	command := vnet.Command{Args: []string{w.spec.Service}, Env: env, Stdout: outW, Stderr: errW, Files: []*os.File{keyReader}}
	if len(secrets.files) > 0 {
		command.SecretsDir, command.Secrets = c.secrets.dir(w.spec), secrets.files
		command.Env = append(command.Env, "SECRETS_STORE_DIR="+command.SecretsDir)
	}
	process, err := w.pod.Start(command)
	secrets.wipe()
	_ = outW.Close()
	_ = errW.Close()
	if err != nil {
		streams.Wait()
		return err
	}
	c.set(w, func() { w.state, w.process = "Starting", process })
	err = c.watch(ctx, w, process, secrets.versions)
	streams.Wait()
	return err
}

// identityHeader is what a pod of the loopback driver proves itself with.
func (c *cluster) identityHeader(p Pod) string { return c.dir.Secret("identity-header/"+p.Name, 32) }

// ingressSecret is what the ingress proves itself with to a pod of the
// loopback driver, where every process of the host can have the ingress's
// address. In the kernel drivers the address is proof and there is no secret.
func (c *cluster) ingressSecret(p Pod) string {
	if c.fabric.Driver() != vnet.Loopback {
		return ""
	}
	return c.dir.Secret("ingress-secret/"+p.Name, 32)
}

// metadataEnv tells a pod of the loopback driver where its identity is; in the
// kernel drivers it is at the well-known address.
func (c *cluster) metadataEnv(w *workload) []string {
	if c.fabric.Driver() != vnet.Loopback {
		return nil
	}
	return []string{"IDENTITY_ENDPOINT=http://" + w.imds.Addr().String() + "/msi/token", "IDENTITY_HEADER=" + c.identityHeader(w.spec),
		"INGRESS_SECRET=" + c.ingressSecret(w.spec)}
}

// watch waits for the pod to become ready and then to end. versions are what
// is mounted into it: when the vault has others the pod is ended, to be started
// with those.
func (c *cluster) watch(ctx context.Context, w *workload, process *vnet.Process, versions []csi.ObjectVersion) error {
	rotation := make(<-chan time.Time)
	if len(versions) > 0 {
		poll := time.NewTicker(rotationPoll)
		defer poll.Stop()
		rotation = poll.C
	}
	probe := time.NewTicker(probeEvery)
	defer probe.Stop()
	check := time.NewTicker(time.Second)
	defer check.Stop()
	for {
		select {
		case <-process.Done():
			return fmt.Errorf("its process ended: %w; see `verdant logs %s`", ended(process), w.spec.Name)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), process.Stop(podGrace))
		case <-check.C:
			if _, err := c.volumes(); err != nil {
				_ = process.Stop(podGrace)
				return fmt.Errorf("stopped, as its volume was sealed: %w", err)
			}
		case <-rotation:
			if c.rotated(ctx, w, versions) {
				_ = process.Stop(podGrace)
				return errors.New("stopped, to be started with new versions of its mounted secrets")
			}
		case <-probe.C:
			if c.healthy(ctx, w) {
				probe.Stop()
				c.set(w, func() {
					w.state, w.reason = podRunning, ""
					if !w.isReady {
						w.isReady = true
						close(w.ready)
					}
				})
				c.progress(w.spec.Name + " is ready")
			}
		}
	}
}

// rotated reports whether the vault has other versions of what is mounted. If it
// cannot be asked, or refuses, what is mounted stays.
func (c *cluster) rotated(ctx context.Context, w *workload, versions []csi.ObjectVersion) bool {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	fresh, changed, err := c.secrets.fetch(ctx, w.spec, versions)
	fresh.wipe()
	return err == nil && changed
}

func ended(p *vnet.Process) error {
	if err := p.Wait(); err != nil {
		return err
	}
	return errors.New("exit status 0")
}

func (c *cluster) healthy(ctx context.Context, w *workload) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return c.dial(ctx, w)
	}, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://pod/healthz", nil)
	if err != nil {
		return false
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// dial connects to the pod from the region's ingress controller.
func (c *cluster) dial(ctx context.Context, w *workload) (net.Conn, error) {
	return c.fabric.Dial(ctx, c.names.VNet(c.region), netip.AddrPortFrom(w.pod.Addr(), podPort))
}

func (c *cluster) set(w *workload, change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

// awaitReady waits until the pod has been ready once.
func (c *cluster) awaitReady(ctx context.Context, name string) error {
	w, ok := c.pods[name]
	if !ok {
		return fmt.Errorf("%w: %s", control.ErrUnknownPod, name)
	}
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *cluster) status() []control.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []control.Pod
	for _, spec := range PodsOf(c.region) {
		w := c.pods[spec.Name]
		p := control.Pod{Name: spec.Name, Region: string(c.region), Address: w.pod.Addr().String(), State: w.state, Reason: w.reason, Restarts: w.restarts}
		if w.process != nil {
			p.PID = w.process.Pid()
		}
		list = append(list, p)
	}
	return list
}

// pipeOf returns the reading end of a pipe that holds content.
func pipeOf(content []byte) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	_, err = w.Write(content) // far below a pipe's capacity
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

// memoryBytes is what a process takes of the machine's memory: its proportional
// set size, in which a page that several processes share, such as the binary's
// own, is counted once over all of them. Where the kernel does not tell it, it
// is the resident set size, which counts such a page for each.
func memoryBytes(pid int) int64 {
	dir := "/proc/" + strconv.Itoa(pid)
	if raw, err := os.ReadFile(dir + "/smaps_rollup"); err == nil {
		for line := range strings.Lines(string(raw)) {
			if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "Pss:" {
				if kilobytes, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
					return kilobytes << 10
				}
			}
		}
	}
	raw, err := os.ReadFile(dir + "/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
