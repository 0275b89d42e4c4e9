package estate

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"verdant/azure/client"
	"verdant/azure/entra"
	"verdant/azure/mysql"
	"verdant/cmk"
	"verdant/estate/control"
	"verdant/estate/jumpbox"
	"verdant/internal/httpserve"
	"verdant/internal/lifecycle"
	"verdant/vnet"
)

// File descriptors that the supervisor inherits, in this order.
const (
	lockFD    = 3 + iota
	ingressFD // listening sockets of the host
	jumpboxFD
	controlFD
	eventsFD // where progress goes
	rootFD   // the root key, to be read once
)

// shutdownGrace bounds an orderly end.
const shutdownGrace = 8 * time.Second

// supervisor is a running estate: the platform, the networks and the pods.
type supervisor struct {
	*platform
	fabric        *vnet.Fabric
	began         time.Time
	ingress       net.Listener
	jumpbox       net.Listener
	jumpboxServer *jumpbox.Server
	sshUserCA     crypto.Signer
	podLogs       *podLogs
	clusters      map[Region]*cluster
	guards        map[Region]map[string]*cmk.Guard // by key name
	links         []linkState
	backbones     map[Region]*vnet.Backbone // from the platform's services to the vaults
	front         *frontDoor
	events        *eventWriter
	stop          context.CancelFunc
	items         itemCache
	// dial connects from inside a region's network.
	dial func(ctx context.Context, r Region, address string) (net.Conn, error)

	mu         sync.Mutex
	ready      bool
	readyAfter time.Duration
}

type linkState struct {
	region   Region
	link     privateLink
	endpoint *vnet.Endpoint
}

// Supervise is the supervisor's process: it runs the estate whose data
// directory the starting process opened, on the listeners that it inherited.
func Supervise(ctx context.Context, dataDir, driver string) error {
	events := &eventWriter{out: os.NewFile(eventsFD, "events")}
	err := supervise(ctx, dataDir, driver, events)
	if err != nil && ctx.Err() == nil {
		events.send(event{Failed: err.Error()})
	}
	return err
}

func supervise(ctx context.Context, dataDir, driver string, events *eventWriter) error {
	defer TuneProcess()()
	variables, ok := SavedVariables(dataDir)
	if !ok {
		return fmt.Errorf("%w: %s", ErrOther, dataDir)
	}
	dir, err := Adopt(dataDir, os.NewFile(lockFD, "lock"), os.NewFile(rootFD, "root key"))
	if err != nil {
		return err
	}
	defer dir.Close()
	ingress, err := inherit(ingressFD)
	if err != nil {
		return err
	}
	jumpbox, err := inherit(jumpboxFD)
	if err != nil {
		return err
	}
	controlListener, err := inherit(controlFD)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &supervisor{began: time.Now(), ingress: ingress, jumpbox: jumpbox, events: events, stop: cancel,
		podLogs: newPodLogs(time.Now), clusters: map[Region]*cluster{}, guards: map[Region]map[string]*cmk.Guard{}, backbones: map[Region]*vnet.Backbone{}}
	if s.fabric, err = vnet.Open(vnet.Config{Driver: vnet.Driver(driver)}); err != nil {
		return err
	}
	defer s.fabric.Close()
	s.dial = func(ctx context.Context, r Region, address string) (net.Conn, error) {
		return s.fabric.DialName(ctx, s.names.VNet(r), address)
	}
	_, port, err := net.SplitHostPort(ingress.Addr().String())
	if err != nil {
		return err
	}
	if s.platform, err = openPlatform(ctx, dir, NamesFor(variables), port, time.Now); err != nil {
		return err
	}
	unix, ok := controlListener.(*net.UnixListener)
	if !ok {
		return fmt.Errorf("descriptor %d is no control socket", controlFD)
	}
	err = s.run(ctx, unix)
	return errors.Join(err, s.platform.close())
}

func inherit(fd uintptr) (net.Listener, error) {
	f := os.NewFile(fd, "listener")
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("inherited listener %d: %w", fd, err)
	}
	if unix, ok := ln.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(true)
	}
	return ln, nil
}

// run wires everything and works until ctx ends or a part fails.
func (s *supervisor) run(ctx context.Context, controlListener *net.UnixListener) error {
	if err := buildNetworks(s.fabric, s.names); err != nil {
		return err
	}
	s.progress(fmt.Sprintf("networks are up (%s driver)", s.fabric.Driver()))
	if err := s.openJumpbox(ctx); err != nil {
		return fmt.Errorf("jump-box: %w", err)
	}
	tasks := slices.Clone(s.tasks)
	tasks = append(tasks, lifecycle.Task{Name: "jump-box", Run: func(ctx context.Context) error {
		return s.jumpboxServer.Serve(ctx, s.jumpbox)
	}})
	tasks = append(tasks, lifecycle.Task{Name: "control socket", Run: func(ctx context.Context) error {
		return control.Serve(ctx, controlListener, s)
	}})
	for _, r := range Regions() {
		if err := s.openClusters(r); err != nil {
			return err
		}
	}
	front, err := s.openFrontDoor()
	if err != nil {
		return err
	}
	tasks = append(tasks, front...)
	vaults, err := s.serveVaults()
	if err != nil {
		return err
	}
	tasks = append(tasks, vaults...)
	if s.names.mounted() {
		for _, r := range Regions() {
			driver, task, err := s.openSecretsDriver(r)
			if err != nil {
				return err
			}
			s.clusters[r].secrets, tasks = driver, append(tasks, task)
		}
	}
	tasks = append(tasks, lifecycle.Task{Name: "workload", Run: s.runWorkload})
	return lifecycle.Run(ctx, shutdownGrace, tasks...)
}

// openClusters makes the pods' places and their routes through the ingress.
func (s *supervisor) openClusters(r Region) error {
	c := &cluster{names: s.names, region: r, fabric: s.fabric, identity: s.identity, dir: s.dir, logs: s.podLogs, now: s.now,
		progress: s.progress}
	c.volumes = func() ([32]byte, error) { return s.guards[r]["aks-encryption-key"].Key() }
	c.env = func(p Pod) []string { return s.podEnv(r, p) }
	s.clusters[r] = c
	return c.create()
}

// openFrontDoor routes names to services and listens on the host's ingress
// socket and on the public address of every network.
func (s *supervisor) openFrontDoor() ([]lifecycle.Task, error) {
	s.front = newFrontDoor(s.authority)
	s.front.add(s.names.LoginHost(), s.identity.Handler())
	s.front.add(s.names.ManagementHost(), s.control.Handler())
	s.front.add(azureManagementHost, s.control.Handler())
	s.front.add(LogQueryHost, s.logs.Handler())
	s.front.add(LogQueryHostIO, s.logs.Handler())
	for _, r := range Regions() {
		// A vault answers everywhere; its network rules say whom.
		s.front.add(s.names.VaultHost(r), s.vaults[r].Handler())
		c := s.clusters[r]
		for _, spec := range PodsOf(r) {
			if spec.Public {
				w := c.pods[spec.Name]
				s.front.addPod(s.names.ServiceHost(spec.Name, r), podRoute{clientCertificates: spec.ClientCertificates,
					secret: c.ingressSecret(spec), dial: func(ctx context.Context) (net.Conn, error) { return c.dial(ctx, w) }})
			}
		}
	}
	config := s.front.tlsConfig()
	serve := func(name string, ln net.Listener) lifecycle.Task {
		return lifecycle.Task{Name: name, Run: func(ctx context.Context) error {
			return httpserve.Run(ctx, newBoundedListener(ln, maxFrontConnections()), config, s.front)
		}}
	}
	tasks := []lifecycle.Task{serve("ingress", vnet.Ingress(s.ingress))}
	public, err := s.fabric.ListenPublic(netip.AddrPortFrom(netip.MustParseAddr(publicAddress), 443))
	if err != nil {
		return nil, err
	}
	tasks = append(tasks, serve("public address", public))
	if s.fabric.Driver() == vnet.Loopback {
		return tasks, nil
	}
	// Some programs, curl among them, take every name under .localhost for
	// their own loopback and never ask a resolver (RFC 6761, section 6.3). A
	// pod's loopback is its own, so the front door can stand there too.
	for _, r := range Regions() {
		for _, spec := range PodsOf(r) {
			ln, err := s.clusters[r].pods[spec.Name].pod.Listen(netip.MustParseAddrPort("127.0.0.1:443"))
			if err != nil {
				return nil, err
			}
			tasks = append(tasks, serve("public names on the loopback of "+spec.Name, ln))
		}
	}
	return tasks, nil
}

// serveVaults opens each vault's private endpoint, and its door to the
// platform's own services, which the vault's bypass rule is about. The front
// door leads to the vaults too, as far as their network rules let in who comes
// that way.
func (s *supervisor) serveVaults() ([]lifecycle.Task, error) {
	var tasks []lifecycle.Task
	for i, r := range Regions() {
		link := s.names.PrivateLinks(r)[0]
		e, err := addEndpoint(s.fabric, s.names, r, link, 443, uint32(i+1)<<8|1)
		if err != nil {
			return nil, err
		}
		s.links = append(s.links, linkState{r, link, e})
		handler, config := s.vaults[r].Handler(), s.authority.config(link.Host)
		tasks = append(tasks, lifecycle.Task{Name: "private endpoint of " + link.Name, Run: func(ctx context.Context) error {
			return httpserve.Run(ctx, e.Listener(443), config, handler)
		}})
		backbone := vnet.NewBackbone()
		s.backbones[r] = backbone
		tasks = append(tasks, lifecycle.Task{Name: "platform's door to " + link.Name, Run: func(ctx context.Context) error {
			return httpserve.Run(ctx, backbone, config, handler)
		}})
	}
	return tasks, nil
}

// runWorkload brings up what needs the vaults: the PKI at first start, the
// customer-managed keys, the databases, and then the pods.
func (s *supervisor) runWorkload(ctx context.Context) error {
	if err := s.bootstrap(ctx); err != nil {
		return fmt.Errorf("first start: %w", err)
	}
	var tasks []lifecycle.Task
	for _, r := range Regions() {
		started, err := s.openRegion(ctx, r)
		if err != nil {
			return err
		}
		tasks = append(tasks, started...)
	}
	sinks := s.sinks()
	tasks = append(tasks,
		lifecycle.Task{Name: "container logs", Run: func(ctx context.Context) error { return s.podLogs.ship(ctx, sinks) }},
		lifecycle.Task{Name: "readiness", Run: s.announce})
	return lifecycle.Run(ctx, shutdownGrace, tasks...)
}

// openRegion opens a region's keys and database and returns what runs.
func (s *supervisor) openRegion(ctx context.Context, r Region) ([]lifecycle.Task, error) {
	var tasks []lifecycle.Task
	s.mu.Lock()
	s.guards[r] = map[string]*cmk.Guard{}
	s.mu.Unlock()
	for key, identity := range map[string]string{"mysql-encryption-key": DatabaseIdentity, "aks-encryption-key": DiskIdentity} {
		guard, err := s.openGuard(ctx, r, key, identity)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		s.guards[r][key] = guard
		s.mu.Unlock()
		tasks = append(tasks, lifecycle.Task{Name: "customer-managed key " + key + " of " + string(r), Run: guard.Run})
	}
	database, err := s.openDatabase(r, s.guards[r]["mysql-encryption-key"])
	if err != nil {
		return nil, err
	}
	return append(append(tasks, database...), s.clusters[r].tasks(s.awaitPod)...), nil
}

func (s *supervisor) openGuard(ctx context.Context, r Region, key, identity string) (*cmk.Guard, error) {
	dir, err := s.dir.State("cmk", string(r))
	if err != nil {
		return nil, err
	}
	kek, err := client.NewKEK(client.KEKConfig{
		KeyID:      "https://" + s.names.VaultHost(r) + "/keys/" + key,
		Credential: s.identity.Credential(s.names.Identity(r, identity).PrincipalID),
		HTTP:       s.httpOnBackbone(r), Now: s.now,
	})
	if err != nil {
		return nil, err
	}
	return cmk.Open(ctx, cmk.GuardConfig{Name: key + " of " + string(r), KEK: kek, Path: filepath.Join(dir, key+".dek.json"), Now: s.now})
}

// openDatabase serves the region's MySQL server on its private endpoint.
func (s *supervisor) openDatabase(r Region, guard *cmk.Guard) ([]lifecycle.Task, error) {
	dir, err := s.dir.State("mysql", s.names.Database(r))
	if err != nil {
		return nil, err
	}
	link := s.names.PrivateLinks(r)[1]
	cfg := mysql.Config{Name: s.names.Database(r), ResourceID: s.names.DatabaseID(r), Databases: Schemas(r), TLS: s.authority.config(link.Host)}
	admin := s.names.Identity(r, DatabaseAdmin)
	cfg.Accounts = []mysql.Account{{Name: DatabaseAdmin, ObjectID: admin.PrincipalID, Databases: Schemas(r), Admin: true}}
	for _, p := range PodsOf(r) {
		if p.Database != "" {
			id := s.names.Identity(r, p.Identity)
			cfg.Accounts = append(cfg.Accounts, mysql.Account{Name: id.Name, ObjectID: id.PrincipalID, Databases: []string{p.Database}})
		}
	}
	server, err := mysql.New(cfg, mysql.Deps{Verifier: s.verifier(databaseAudience), Guard: guard, Dir: dir, Sink: s.sink(r), Now: s.now})
	if err != nil {
		return nil, err
	}
	i := slices.Index(Regions(), r)
	e, err := addEndpoint(s.fabric, s.names, r, link, 3306, uint32(i+1)<<8|2)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.links = append(s.links, linkState{r, link, e})
	s.mu.Unlock()
	return []lifecycle.Task{
		{Name: "database " + cfg.Name, Run: server.Run},
		{Name: "private endpoint of " + cfg.Name, Run: func(ctx context.Context) error { return server.Serve(ctx, e.Listener(3306)) }},
	}, nil
}

func (s *supervisor) awaitPod(ctx context.Context, name string) error {
	for _, c := range s.clusters {
		if _, ok := c.pods[name]; ok {
			return c.awaitReady(ctx, name)
		}
	}
	return fmt.Errorf("%w: %s", control.ErrUnknownPod, name)
}

// announce says so when every pod has answered.
func (s *supervisor) announce(ctx context.Context) error {
	for _, r := range Regions() {
		for _, p := range PodsOf(r) {
			if err := s.awaitPod(ctx, p.Name); err != nil {
				return nil
			}
		}
	}
	s.mu.Lock()
	s.ready, s.readyAfter = true, s.now().Sub(s.began)
	s.mu.Unlock()
	s.events.send(event{Ready: true})
	return nil
}

func (s *supervisor) progress(text string) {
	s.events.send(event{Event: control.Event{Time: s.now(), Text: text}})
}

// event is a line of the supervisor's conversation with the process that
// started it.
type event struct {
	control.Event
	Ready  bool   `json:"ready,omitempty"`
	Failed string `json:"failed,omitempty"`
}

type eventWriter struct {
	mu  sync.Mutex
	out *os.File
}

func (w *eventWriter) send(e event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = json.NewEncoder(w.out).Encode(e) // whoever listened may be gone
}

var _ control.Backend = (*supervisor)(nil)

// commandLineClient is the client id under which the command line signs in.
const commandLineClient = entra.AzureCLI
