// Package control is the conversation between the command line and a running
// estate: a Unix socket in the data directory, reachable by the estate's owner
// only.
//
// It promises that whoever is not the owner gets no answer, that a command
// started through it dies with its client, and that it carries no credential
// other than access tokens the owner asked for. It refuses peers with another
// user id.
package control

import (
	"context"
	"io"
	"net"
	"os"
	"time"
)

// Status is what an estate says of itself.
type Status struct {
	// Ready is true while every pod runs and has answered.
	Ready bool `json:"ready"`
	// Since is when the supervisor started; ReadyAfter how long it took.
	Since      time.Time     `json:"since"`
	ReadyAfter time.Duration `json:"readyAfterNs"`
	PID        int           `json:"pid"`
	// Parent is the process that started the supervisor: `verdant up`.
	Parent int `json:"parent"`
	// Network names the driver, Limits what it cannot enforce.
	Network string   `json:"network"`
	Limits  []string `json:"limits"`
	// Addresses are what the host may reach.
	Addresses []Address  `json:"addresses"`
	Pods      []Pod      `json:"pods"`
	Endpoints []Endpoint `json:"privateEndpoints"`
	Keys      []Key      `json:"customerManagedKeys"`
	Rows      []Row      `json:"rows"`
	// MemoryBytes is the memory of supervisor and pods together, with what they
	// share counted once.
	MemoryBytes int64 `json:"memoryBytes"`
	// FIPS140 is whether Go's FIPS 140-3 module is on.
	FIPS140 bool `json:"fips140"`
}

// Address is a name that the host may reach.
type Address struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// Pod is one workload.
type Pod struct {
	Name     string `json:"name"`
	Region   string `json:"region"`
	Address  string `json:"address"`
	PID      int    `json:"pid,omitempty"`
	State    string `json:"state"` // Pending, Starting, Running, Waiting
	Reason   string `json:"reason,omitempty"`
	Restarts int    `json:"restarts"`
}

// Endpoint is one private endpoint.
type Endpoint struct {
	Region  string `json:"region"`
	Target  string `json:"target"`
	Name    string `json:"name"` // the host name that leads to it
	Address string `json:"address"`
	State   string `json:"state"`
}

// Key is the state of one customer-managed key.
type Key struct {
	Region   string `json:"region"`
	Protects string `json:"protects"`
	Key      string `json:"key"`
	State    string `json:"state"`
	Reason   string `json:"reason,omitempty"`
}

// The states of a customer-managed key.
const (
	KeyAvailable    = "Available"
	KeyInaccessible = "Inaccessible"
)

// Row is one row of the seed document's tables.
type Row struct {
	Table  string `json:"table"`
	Region string `json:"region"`
	Row    string `json:"row"`
	// State is "live", "not live" or "not built yet".
	State  string `json:"state"`
	Detail string `json:"detail,omitempty"`
}

// The states of a row.
const (
	Live        = "live"
	NotLive     = "not live"
	NotBuiltYet = "not built yet"
)

// Token is an access token for the signed-in user.
type Token struct {
	AccessToken string    `json:"accessToken"`
	ExpiresOn   time.Time `json:"expiresOn"`
	User        string    `json:"user"`
}

// SSHCertificate is a sign-in to the jump-box.
type SSHCertificate struct {
	// Certificate is a line of authorized_keys; it names the user, who is the
	// SSH user name, and ends within the hour.
	Certificate string `json:"certificate"`
	// KnownHosts are lines of known_hosts that verify the jump-box.
	KnownHosts string `json:"knownHosts"`
	// Address is where the jump-box listens on the host.
	Address string `json:"address"`
}

// Event is a line of start-up progress.
type Event struct {
	Time time.Time `json:"time"`
	Text string    `json:"text"`
}

// AuditReport is the state of one vault's chain of audit records.
type AuditReport struct {
	Vault  string `json:"vault"`
	Intact bool   `json:"intact"`
	// First and Last are the records' numbers, Chain the newest one's chain
	// value in hexadecimal: kept elsewhere, it proves later that nothing was
	// cut off. They are there if the chain is intact.
	First uint64 `json:"first,omitempty"`
	Last  uint64 `json:"last,omitempty"`
	Chain string `json:"chain,omitempty"`
	// TornBytes is what an unfinished write left behind; it was never
	// acknowledged.
	TornBytes int64 `json:"tornBytes,omitempty"`
	// Segment, Sequence and Reason name the first break.
	Segment  string `json:"segment,omitempty"`
	Sequence uint64 `json:"sequence,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// AccessQuestion asks who may perform an action on an object of a vault.
type AccessQuestion struct {
	// Action is a full name, or what follows Microsoft.KeyVault/vaults/.
	Action string `json:"action"`
	// Object is an address in a vault or an ARM id.
	Object string `json:"object"`
	// Principal is an object id, a user's sign-in name or the name of a
	// managed identity; "" asks about everybody.
	Principal string `json:"principal,omitempty"`
}

// Access is the answer. A role alone opens no vault: the request must also
// come from where the vault's network rules let it in.
type Access struct {
	Action    string     `json:"action"`
	Scope     string     `json:"scope"`
	Principal *Principal `json:"principal,omitempty"`
	// Allowed says whether anybody asked about may.
	Allowed bool `json:"allowed"`
	// Allows are the assignments that let them, Others those of the principal
	// that do not; Others is empty where everybody was asked about.
	Allows []Grant `json:"allows"`
	Others []Grant `json:"others,omitempty"`
	// Denials are the deny assignments that forbid it to anybody asked about.
	Denials []Denial `json:"denials,omitempty"`
	// From is where requests to the object's vault are let in from, if the
	// action is one of its data plane.
	From []string `json:"from,omitempty"`
}

// Denial is a deny assignment.
type Denial struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Scope     string `json:"scope"`
	Condition string `json:"condition,omitempty"`
	// Principals are who it is about, Excluded whom it spares.
	Principals []Principal `json:"principals"`
	Excluded   []Principal `json:"excluded,omitempty"`
}

// Grant is a role assignment and what it says to the question.
type Grant struct {
	AssignmentID string    `json:"assignmentId"`
	Role         string    `json:"role"`
	RoleID       string    `json:"roleDefinitionId"`
	Scope        string    `json:"scope"`
	Principal    Principal `json:"principal"`
	// Members are who belongs to the principal if it is a group.
	Members []Principal `json:"members,omitempty"`
	// Action is the action it was held against, where another than the one
	// asked about suffices.
	Action string `json:"action,omitempty"`
	// Why says why it does not allow the action.
	Why string `json:"why,omitempty"`
	// If is the condition on which it allows it, where that hangs on what the
	// request contains.
	If string `json:"if,omitempty"`
}

// Principal is a user, a group or a service principal.
type Principal struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	Type string `json:"type,omitempty"`
	// DeniedBy is the deny assignment that keeps a member of a group from what
	// the group may.
	DeniedBy string `json:"deniedBy,omitempty"`
}

// Backend is the estate behind the socket.
type Backend interface {
	// Status describes the estate; without rows it leaves the document's
	// tables out, for which the vaults are asked.
	Status(ctx context.Context, rows bool) (Status, error)
	// Logs writes a pod's log lines, or every pod's if pod is "".
	Logs(ctx context.Context, pod string, follow bool, w io.Writer) error
	// Token signs user in to resource; "" is the demo administrator.
	Token(ctx context.Context, user, resource string) (Token, error)
	// SSHCertificate certifies publicKey, a line of authorized_keys, as user's
	// for the jump-box; "" is the demo administrator.
	SSHCertificate(ctx context.Context, user, publicKey string) (SSHCertificate, error)
	// VerifyAudit proves the audit chain of a vault, or of every vault if the
	// name is "". A break is in the report, not an error.
	VerifyAudit(ctx context.Context, vault string) ([]AuditReport, error)
	// Access says who may do what, and why.
	Access(ctx context.Context, q AccessQuestion) (Access, error)
	// Dial connects to a host name and port from inside a network: a pod's
	// name, or a region's name for that region's jump-box.
	Dial(ctx context.Context, from, address string) (net.Conn, error)
	// Exec runs a command inside a pod with the given standard streams and
	// returns its exit code.
	Exec(ctx context.Context, pod string, argv, env []string, streams [3]*os.File) (int, error)
	// Stop ends the estate.
	Stop()
}
