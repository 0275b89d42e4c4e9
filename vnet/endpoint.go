package vnet

import (
	"fmt"
	"net"
	"net/netip"

	"verdant/internal/conninfo"
)

// EndpointState is the state of a private endpoint connection, spelled as on
// Azure's wire.
type EndpointState string

const (
	// Pending waits for the owner of the resource.
	Pending EndpointState = "Pending"
	// Approved is the only state in which anything listens.
	Approved EndpointState = "Approved"
	// Rejected was refused by the owner, who may still change their mind.
	Rejected EndpointState = "Rejected"
	// Disconnected is final: the owner removed the connection.
	Disconnected EndpointState = "Disconnected"
)

// next lists the states that may follow each state.
var next = map[EndpointState][]EndpointState{
	Pending:      {Approved, Rejected, Disconnected},
	Approved:     {Rejected, Disconnected},
	Rejected:     {Approved, Disconnected},
	Disconnected: nil,
}

// EndpointConfig describes a private endpoint.
type EndpointConfig struct {
	// ID is the endpoint's ARM id, unique in the Fabric.
	ID string
	// Network is where the endpoint lives; networks peered with it reach it
	// too.
	Network string
	// Subnet gives the address; default the network's first.
	Subnet string
	// Addr is the private address; default the subnet's next free one.
	Addr netip.Addr
	// Ports on which the resource answers; at least one.
	Ports []uint16
	// LinkID identifies the connection towards the resource.
	LinkID uint32
	// State at the beginning; default Pending.
	State EndpointState
	// Description is the owner's remark.
	Description string
}

// Endpoint is a private endpoint: an address in a network behind which exactly
// one resource answers, as long as its owner approves. In every other state
// packets to the address are dropped, as Azure does, not refused.
type Endpoint struct {
	fabric  *Fabric
	config  EndpointConfig
	network *network
	hubs    map[uint16]*hub

	// Guarded by Fabric.mu.
	state       EndpointState
	description string
	deleted     bool
}

// AddEndpoint makes a private endpoint. Serve its Listeners; they deliver
// connections whenever the endpoint is approved.
func (f *Fabric) AddEndpoint(cfg EndpointConfig) (*Endpoint, error) {
	if cfg.State == "" {
		cfg.State = Pending
	}
	if _, known := next[cfg.State]; !known {
		return nil, fmt.Errorf("add endpoint %s: unknown state %q", cfg.ID, cfg.State)
	}
	if cfg.ID == "" || len(cfg.Ports) == 0 {
		return nil, fmt.Errorf("add endpoint %q: an id and at least one port are needed", cfg.ID)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, exists := f.endpoints[cfg.ID]; exists {
		return nil, fmt.Errorf("add endpoint %s: it exists already", cfg.ID)
	}
	n, err := f.network(cfg.Network)
	if err != nil {
		return nil, fmt.Errorf("add endpoint %s: %w", cfg.ID, err)
	}
	cfg.Addr, _, err = n.take(cfg.Subnet, cfg.Addr, "endpoint "+cfg.ID)
	if err != nil {
		return nil, fmt.Errorf("add endpoint %s: %w", cfg.ID, err)
	}
	e := &Endpoint{
		fabric: f, config: cfg, network: n, hubs: map[uint16]*hub{},
		state: Pending, description: cfg.Description,
	}
	// Shut first, then claim: there is no moment in which the address answers
	// without approval.
	err = f.backend.guard(n, cfg.Addr, true)
	if err == nil {
		err = f.backend.claim(n, cfg.Addr)
	}
	for _, port := range cfg.Ports {
		e.hubs[port] = f.newHub(netip.AddrPortFrom(cfg.Addr, port))
		f.listeners[e.hubs[port]] = struct{}{}
	}
	if err == nil && cfg.State != Pending {
		err = e.setState(cfg.State, cfg.Description)
	}
	if err != nil {
		e.remove()
		return nil, fmt.Errorf("add endpoint %s: %w", cfg.ID, err)
	}
	f.endpoints[cfg.ID] = e
	return e, nil
}

// ID is the endpoint's ARM id.
func (e *Endpoint) ID() string { return e.config.ID }

// Network is the name of the network in which it lives.
func (e *Endpoint) Network() string { return e.config.Network }

// Addr is the private address.
func (e *Endpoint) Addr() netip.Addr { return e.config.Addr }

// LinkID identifies the connection towards the resource.
func (e *Endpoint) LinkID() uint32 { return e.config.LinkID }

// State returns the state and the owner's remark.
func (e *Endpoint) State() (state EndpointState, description string) {
	e.fabric.mu.Lock()
	defer e.fabric.mu.Unlock()
	return e.state, e.description
}

// Listener accepts the connections to one of the endpoint's ports; nil if the
// endpoint has no such port. It lives through every change of state and its
// connections carry conninfo.PrivateEndpoint.
func (e *Endpoint) Listener(port uint16) net.Listener {
	h, ok := e.hubs[port]
	if !ok {
		return nil
	}
	return h
}

// SetState changes the state. When it returns from approving, the endpoint
// listens; when it returns from anything else, no connection lives. A change
// that the state machine does not know is refused; the same state again only
// changes the description.
func (e *Endpoint) SetState(state EndpointState, description string) error {
	e.fabric.mu.Lock()
	defer e.fabric.mu.Unlock()
	if e.deleted || e.fabric.closed {
		return fmt.Errorf("endpoint %s: set state %s: the endpoint is gone", e.config.ID, state)
	}
	if err := e.setState(state, description); err != nil {
		return fmt.Errorf("endpoint %s: %w", e.config.ID, err)
	}
	return nil
}

func (e *Endpoint) setState(state EndpointState, description string) error {
	if state == e.state {
		e.description = description
		return nil
	}
	allowed := false
	for _, s := range next[e.state] {
		allowed = allowed || s == state
	}
	if !allowed {
		return fmt.Errorf("set state %s: a connection that is %s cannot become it", state, e.state)
	}
	b := e.fabric.backend
	if state != Approved {
		// Even if the packet filter fails, nothing listens and nothing lives.
		err := b.guard(e.network, e.config.Addr, true)
		for _, h := range e.hubs {
			h.cut()
		}
		e.state, e.description = state, description
		if err != nil {
			return fmt.Errorf("set state %s: drop packets to %s: %w", state, e.config.Addr, err)
		}
		return nil
	}
	info := conninfo.Info{
		Kind: conninfo.PrivateEndpoint, VNet: e.config.Network,
		PrivateEndpoint: e.config.ID, LinkID: e.config.LinkID,
	}
	for _, h := range e.hubs {
		if h.isClosed() {
			continue
		}
		open := func(deliver deliverFunc) (func(), error) { return b.open(e.network, h.at, deliver) }
		if err := h.open(open, info); err != nil {
			e.cutAll()
			return fmt.Errorf("set state %s: listen on %s: %w", state, h.at, err)
		}
	}
	if err := b.guard(e.network, e.config.Addr, false); err != nil {
		e.cutAll()
		return fmt.Errorf("set state %s: admit packets to %s: %w", state, e.config.Addr, err)
	}
	e.state, e.description = state, description
	return nil
}

func (e *Endpoint) cutAll() {
	for _, h := range e.hubs {
		h.cut()
	}
}

// Delete removes the endpoint from its network, as its consumer does: the
// listeners end and packets to the address are dropped. The address is not
// given out again.
func (e *Endpoint) Delete() error {
	e.fabric.mu.Lock()
	defer e.fabric.mu.Unlock()
	if e.deleted || e.fabric.closed {
		return nil
	}
	err := e.fabric.backend.guard(e.network, e.config.Addr, true)
	e.remove()
	if err != nil {
		return fmt.Errorf("delete endpoint %s: drop packets to %s: %w", e.config.ID, e.config.Addr, err)
	}
	return nil
}

// remove takes e out of the books; the lock must be held.
func (e *Endpoint) remove() {
	e.deleted, e.state = true, Disconnected
	delete(e.fabric.endpoints, e.config.ID)
	for _, h := range e.hubs {
		delete(e.fabric.listeners, h)
		h.shut()
	}
}
