package estate

import (
	"context"
	"crypto/fips140"
	"encoding/json"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"verdant/estate/control"
	"verdant/vnet"
)

// Status implements control.Backend.
func (s *supervisor) Status(ctx context.Context, rows bool) (control.Status, error) {
	s.mu.Lock()
	status := control.Status{Ready: s.ready, Since: s.began, ReadyAfter: s.readyAfter, PID: os.Getpid(), Parent: os.Getppid()}
	links := append([]linkState(nil), s.links...)
	s.mu.Unlock()
	status.Network, status.Limits = describeDriver(s.fabric.Driver()), s.fabric.Limits()
	status.Addresses = s.addresses()
	status.FIPS140 = fips140.Enabled()
	status.MemoryBytes = memoryBytes(os.Getpid()) + memoryBytes(os.Getppid())
	for _, r := range Regions() {
		for _, p := range s.clusters[r].status() {
			status.Pods = append(status.Pods, p)
			if p.PID != 0 {
				status.MemoryBytes += memoryBytes(p.PID)
			}
		}
	}
	for _, l := range links {
		state, _ := l.endpoint.State()
		status.Endpoints = append(status.Endpoints, control.Endpoint{Region: string(l.region), Target: l.link.Target, Name: l.link.Host,
			Address: l.endpoint.Addr().String(), State: string(state)})
	}
	status.Keys = s.keyStates()
	status.Ready = status.Ready && s.allRunning(status)
	if rows {
		status.Rows = s.rows(ctx, status)
	}
	return status, nil
}

// allRunning reports whether every pod runs at this moment.
func (s *supervisor) allRunning(status control.Status) bool {
	for _, p := range status.Pods {
		if p.State != podRunning {
			return false
		}
	}
	return true
}

// describeDriver says in a line how the networks are made.
func describeDriver(d vnet.Driver) string {
	switch d {
	case vnet.Root:
		return "isolated (root): each region is a network of kernel namespaces"
	case vnet.Rootless:
		return "isolated (rootless): each region is a network of kernel namespaces inside a user namespace"
	}
	return "loopback: the networks are imitated on this host's loopback addresses; isolation is not enforced"
}

func (s *supervisor) addresses() []control.Address {
	at := s.ingress.Addr().String()
	_, port, _ := net.SplitHostPort(at) // a listener's address always splits
	list := []control.Address{{Name: IngressAddress, URL: at}, {Name: JumpboxAddress, URL: "ssh://" + s.jumpboxAddress()}}
	public := func(name, host string) {
		list = append(list, control.Address{Name: name, URL: "https://" + host + ":" + port + "/"})
	}
	public("issuance portal", s.names.ServiceHost("dgca-issuance-web", IE))
	public("identity service", s.names.LoginHost())
	public("control plane", s.names.ManagementHost())
	for _, r := range Regions() {
		for _, p := range PodsOf(r) {
			if p.Public && p.Name != "dgca-issuance-web" {
				public(p.Name, s.names.ServiceHost(p.Name, r))
			}
		}
	}
	return list
}

func (s *supervisor) keyStates() []control.Key {
	s.mu.Lock()
	defer s.mu.Unlock()
	protects := map[string]string{"mysql-encryption-key": "databases", "aks-encryption-key": "pods' volumes"}
	var keys []control.Key
	for _, r := range Regions() {
		for _, row := range CMKTable() {
			key := control.Key{Region: string(r), Protects: protects[row.KeyName], Key: row.KeyName, State: control.KeyInaccessible, Reason: "not opened yet"}
			if guard := s.guards[r][row.KeyName]; guard != nil {
				state := guard.State()
				key.Reason = state.Reason
				if state.Available {
					key.State = control.KeyAvailable
				}
			}
			keys = append(keys, key)
		}
	}
	return keys
}

// rows compares the document's tables with what runs.
func (s *supervisor) rows(ctx context.Context, status control.Status) []control.Row {
	t := rowTable{}
	for _, r := range Regions() {
		for _, row := range PrivateLinkTable() {
			zone := strings.ReplaceAll(row.Zone, "<region location>", s.names.v.Location)
			t.add("private link", r, row.Name+" "+zone, s.linkRow(r, row.Name, status))
		}
	}
	items := s.vaultItems(ctx)
	for _, r := range Regions() {
		table := EUVaultTable()
		if r == IE {
			table = IEVaultTable()
		}
		for _, item := range table {
			t.add("key vault", r, item.Name+" ("+string(item.Type)+")", liveIf(items[r][string(item.Type)+"/"+item.Name], "not in the vault"))
		}
	}
	for _, key := range status.Keys {
		t.add("customer-managed keys", Region(key.Region), key.Key, liveIf(key.State == control.KeyAvailable, key.Reason))
	}
	s.authenticationRows(&t, status)
	s.logRows(ctx, &t)
	return t.rows
}

type rowTable struct{ rows []control.Row }

type rowState struct{ state, detail string }

func (t *rowTable) add(table string, r Region, row string, s rowState) {
	t.rows = append(t.rows, control.Row{Table: table, Region: string(r), Row: row, State: s.state, Detail: s.detail})
}

func liveIf(live bool, otherwise string) rowState {
	if live {
		return rowState{control.Live, ""}
	}
	return rowState{control.NotLive, otherwise}
}

func notBuilt(what string) rowState { return rowState{control.NotBuiltYet, what} }

func (s *supervisor) linkRow(r Region, name string, status control.Status) rowState {
	for _, link := range s.names.PrivateLinks(r) {
		if link.Row != name {
			continue
		}
		for _, e := range status.Endpoints {
			if e.Region == string(r) && e.Target == link.Target {
				return liveIf(e.State == string(vnet.Approved), "connection is "+e.State)
			}
		}
		return rowState{control.NotLive, "no private endpoint yet"}
	}
	return notBuilt("the service behind it")
}

func (s *supervisor) authenticationRows(t *rowTable, status control.Status) {
	for _, r := range Regions() {
		running := 0
		for _, p := range status.Pods {
			if p.Region == string(r) && p.State == "Running" {
				running++
			}
		}
		for _, row := range AuthenticationTable() {
			switch {
			case row.Place == "AKS":
				t.add("aad authentication", r, row.Place+": "+row.How, liveIf(running == len(PodsOf(r)), "not every pod runs"))
			case row.Place == "MySQL Server":
				t.add("aad authentication", r, row.Place+": "+row.How, s.linkRow(r, row.Place, status))
			case row.Place == "Key Vault":
				t.add("aad authentication", r, row.Place+": "+row.How, s.linkRow(r, row.Place, status))
			case r == IE: // the portal is the member state's
				t.add("aad authentication", r, row.Place+": "+row.How, liveIf(podRuns(status, "dgca-issuance-web"), "the portal does not run"))
			}
		}
	}
}

func podRuns(status control.Status, name string) bool {
	return slices.ContainsFunc(status.Pods, func(p control.Pod) bool { return p.Name == name && p.State == podRunning })
}

// logRows lists the log tables: which of a resource's log categories arrive in
// the workspace, and which solutions there are.
func (s *supervisor) logRows(ctx context.Context, t *rowTable) {
	if !s.names.v.LogAnalytics {
		for _, r := range Regions() {
			t.add("log analytics", r, "workspace", rowState{control.NotLive, "turned off by enable_log_analytics_workspace"})
		}
		return
	}
	arrived := map[Region]map[string]bool{}
	for _, r := range Regions() {
		tables, err := s.arrivedTables(ctx, r)
		arrived[r] = tables
		t.add("log analytics", r, "workspace "+s.names.Workspace(r), liveIf(err == nil, "it does not answer queries"))
		if s.names.v.LogAnalyticsCluster != "" {
			t.add("log analytics", r, "link to "+s.names.v.LogAnalyticsCluster, notBuilt("dedicated clusters"))
		}
	}
	for _, r := range Regions() {
		for _, row := range SolutionTable() {
			t.add("log analytics solutions", r, row.Name, notBuilt("its views; the tables it reads can be queried"))
		}
	}
	tables := map[string]string{"AuditEvent": "AZKVAuditLogs", "MySqlAuditLogs": "MySqlAuditLogs", "oms_agent": "ContainerLogV2"}
	for _, r := range Regions() {
		for _, row := range DiagnosticTable() {
			for _, category := range row.Logs {
				state := notBuilt("")
				if table := tables[category]; table != "" {
					state = liveIf(arrived[r][table], "no row has arrived in "+table)
				}
				t.add("diagnostic settings", r, row.Resource+" log "+category, state)
			}
			for _, category := range row.Metrics {
				t.add("diagnostic settings", r, row.Resource+" metric "+category, notBuilt("metrics"))
			}
		}
	}
}

// arrivedTables lists the tables of a region's workspace that have rows.
func (s *supervisor) arrivedTables(ctx context.Context, r Region) (map[string]bool, error) {
	found := map[string]bool{}
	for _, table := range []string{"AZKVAuditLogs", "MySqlAuditLogs", "ContainerLogV2"} {
		result, err := s.logs.Query(ctx, s.names.Workspace(r), table+" | take 1 | project TimeGenerated", "")
		if err != nil {
			return found, err
		}
		raw, err := json.Marshal(result)
		if err != nil {
			return found, err
		}
		var answer struct {
			Tables []struct {
				Rows [][]any `json:"rows"`
			} `json:"tables"`
		}
		if err := json.Unmarshal(raw, &answer); err != nil {
			return found, err
		}
		found[table] = len(answer.Tables) > 0 && len(answer.Tables[0].Rows) > 0
	}
	return found, nil
}

// itemsFresh is how long the list of vault items is believed: asking for it
// is in the audit log like every other request.
const itemsFresh = 15 * time.Second

type itemCache struct {
	mu    sync.Mutex
	at    time.Time
	items map[Region]map[string]bool
}

// vaultItems lists what is in each vault, as "Type/name".
func (s *supervisor) vaultItems(ctx context.Context) map[Region]map[string]bool {
	s.items.mu.Lock()
	defer s.items.mu.Unlock()
	if s.items.items != nil && s.now().Sub(s.items.at) < itemsFresh {
		return s.items.items
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	found := map[Region]map[string]bool{}
	for _, r := range Regions() {
		found[r] = map[string]bool{}
		d, err := s.deployer(r)
		if err != nil {
			continue
		}
		_ = d.list(ctx, found[r]) // what was found counts; the rest shows as not live
	}
	s.items.items, s.items.at = found, s.now()
	return found
}

// list collects the vault's items. A certificate's twin key and secret are
// part of the certificate and not listed by the vault.
func (d *vaultDeployer) list(ctx context.Context, into map[string]bool) error {
	keys := d.keys.NewListKeyPropertiesPager(nil)
	for keys.More() {
		page, err := keys.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, item := range page.Value {
			into[string(KeyItem)+"/"+item.KID.Name()] = true
		}
	}
	secrets := d.secrets.NewListSecretPropertiesPager(nil)
	for secrets.More() {
		page, err := secrets.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, item := range page.Value {
			into[string(SecretItem)+"/"+item.ID.Name()] = true
		}
	}
	certificates := d.certificates.NewListCertificatesPager(nil)
	for certificates.More() {
		page, err := certificates.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, item := range page.Value {
			into[string(CertificateItem)+"/"+item.ID.Name()] = true
		}
	}
	return nil
}
