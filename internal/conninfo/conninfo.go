// Package conninfo carries what the network knows about an accepted
// connection to the service that answers on it.
//
// The network attaches an Info to every connection it hands to a service; the
// service reads it from the request's context. An Info cannot be forged by the
// caller: it is made from the listening socket, not from anything the peer
// sent. A request without an Info came from nowhere that the network knows,
// and services treat it as refused.
package conninfo

import (
	"context"
	"net"
	"net/netip"
)

// Kind says by which door a connection entered.
type Kind string

const (
	// PrivateEndpoint is an approved private endpoint in a virtual network.
	PrivateEndpoint Kind = "private-endpoint"
	// VNet is an ordinary address of a virtual network: pod to pod.
	VNet Kind = "vnet"
	// Public is a public address of the platform, reachable from every network
	// that may reach the Internet at all.
	Public Kind = "public"
	// Ingress is the listener that the host may reach.
	Ingress Kind = "ingress"
	// Platform is the platform's own network, which none of the others leads
	// to: only the platform's own services are on it.
	Platform Kind = "platform"
)

// Info is the network's evidence about one connection.
type Info struct {
	Kind Kind
	// VNet is the name of the virtual network in which the connection was
	// accepted; empty for Ingress and Platform.
	VNet string
	// PrivateEndpoint is the ARM id of the endpoint; empty unless Kind is
	// PrivateEndpoint.
	PrivateEndpoint string
	// LinkID is the endpoint connection's link identifier; 0 if none.
	LinkID uint32
	// Source is the peer's address inside its network.
	Source netip.AddrPort
}

// Carrier is implemented by connections that the network hands out.
type Carrier interface {
	ConnInfo() Info
}

type key struct{}

// With returns a context that carries info.
func With(ctx context.Context, info Info) context.Context {
	return context.WithValue(ctx, key{}, info)
}

// From returns the evidence in ctx; ok is false where the network gave none.
func From(ctx context.Context) (info Info, ok bool) {
	info, ok = ctx.Value(key{}).(Info)
	return info, ok
}

// ConnContext is an http.Server.ConnContext hook. It looks through wrappers
// such as *tls.Conn for a Carrier and puts its evidence into the context.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	for {
		if carrier, ok := c.(Carrier); ok {
			return With(ctx, carrier.ConnInfo())
		}
		inner, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return ctx
		}
		c = inner.NetConn()
	}
}
