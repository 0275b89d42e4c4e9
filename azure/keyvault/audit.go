package keyvault

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"verdant/azure/rest"
	"verdant/internal/telemetry"
)

// Table is the log table of the audit records.
const Table = "AZKVAuditLogs"

// auditEvent is one record of the journal: an AuditEvent of Azure's resource
// log, without secrets and without what the caller sent.
type auditEvent struct {
	Time              time.Time       `json:"time"`
	Category          string          `json:"category"`
	ResourceID        string          `json:"resourceId"`
	OperationName     string          `json:"operationName"`
	OperationVersion  string          `json:"operationVersion"`
	ResultType        string          `json:"resultType"`
	ResultSignature   string          `json:"resultSignature"`
	ResultDescription string          `json:"resultDescription,omitempty"`
	DurationMs        int64           `json:"durationMs"`
	CallerIPAddress   string          `json:"callerIpAddress"`
	CorrelationID     string          `json:"correlationId"`
	Identity          auditIdentity   `json:"identity"`
	Properties        auditProperties `json:"properties"`
}

type auditIdentity struct {
	Claim *auditClaim `json:"claim,omitempty"`
}

// auditClaim is what the token says of the caller.
type auditClaim struct {
	ObjectID string `json:"oid,omitempty"`
	AppID    string `json:"appid,omitempty"`
	TenantID string `json:"tid,omitempty"`
	Issuer   string `json:"iss,omitempty"`
	UPN      string `json:"upn,omitempty"`
	Identity string `json:"xms_mirid,omitempty"`
}

type auditProperties struct {
	ClientInfo        string         `json:"clientInfo"`
	RequestURI        string         `json:"requestUri"`
	ID                string         `json:"id,omitempty"`
	HTTPStatusCode    int            `json:"httpStatusCode"`
	Algorithm         string         `json:"algorithm,omitempty"`
	TLSVersion        string         `json:"tlsVersion,omitempty"`
	AddressAuthorized bool           `json:"isAddressAuthorized"`
	AddressKind       string         `json:"addressAuthorizationType,omitempty"`
	RbacChecked       bool           `json:"rbacChecked"`
	RbacAuthorized    bool           `json:"isRbacAuthorized"`
	AssignmentID      string         `json:"appliedAssignmentId,omitempty"`
	PrivateEndpoint   string         `json:"privateEndpoint,omitempty"`
	VNet              string         `json:"vnet,omitempty"`
	Key               *keyProperties `json:"keyProperties,omitempty"`
}

// keyProperties describe the key of an operation.
type keyProperties struct {
	Type  string `json:"type"`
	Size  int    `json:"size,omitempty"`
	Curve string `json:"curve,omitempty"`
}

// record writes the request's audit record and returns when it is durable.
func (s *Server) record(ctx context.Context, c *call, r *http.Request) error {
	status := c.status
	if status == 0 {
		status = http.StatusOK
	}
	e := &c.event
	*e = auditEvent{Time: c.start.UTC(), Category: "AuditEvent", ResourceID: s.upper, OperationName: c.op,
		OperationVersion: c.api, ResultType: "Success", ResultSignature: http.StatusText(status),
		DurationMs: s.now().Sub(c.start).Milliseconds(), CallerIPAddress: c.source(r.RemoteAddr), CorrelationID: c.id,
		Properties: auditProperties{ClientInfo: shorten(r.UserAgent()), RequestURI: s.requestURI(r, c.api), ID: c.objectID, HTTPStatusCode: status,
			Algorithm: c.algorithm, TLSVersion: tlsVersion(r.TLS), AddressAuthorized: c.network, AddressKind: c.addressKind,
			RbacChecked: c.checked, RbacAuthorized: c.decision.Allowed, AssignmentID: c.decision.AssignmentID,
			PrivateEndpoint: c.info.PrivateEndpoint, VNet: c.info.VNet, Key: c.key}}
	if c.failure != nil {
		e.ResultType, e.ResultDescription = "Failed", c.describe()
	}
	if e.Properties.ID == "" && c.name != "" {
		e.Properties.ID = s.idOf(r.URL.Path)
	}
	if c.token {
		c.claim = auditClaim{c.caller.ObjectID, c.caller.AppID, c.caller.TenantID, c.caller.Issuer, c.caller.Name, c.caller.MIResource}
		e.Identity.Claim = &c.claim
	}
	c.encoded = e.encode(c.encoded[:0])
	seq, err := s.audit.Append(ctx, c.encoded)
	if err == nil && s.forwards() {
		s.recent.put(seq, e.clone())
	}
	return err
}

// clone is a copy that outlives its call.
func (e *auditEvent) clone() *auditEvent {
	kept := struct {
		auditEvent
		claim auditClaim
	}{auditEvent: *e}
	if e.Identity.Claim != nil {
		kept.claim = *e.Identity.Claim
		kept.Identity.Claim = &kept.claim
	}
	return &kept.auditEvent
}

// forwards reports whether there is somebody to forward records to.
func (s *Server) forwards() bool {
	_, discard := s.sink.(telemetry.Discard)
	return !discard
}

// describe says what went wrong. A wire error's text holds names at most; the
// cause of an internal error comes from our own packages, which keep key
// material and values out of errors.
func (c *call) describe() string {
	text := c.failure.Code
	if c.failure.Inner != "" {
		text += " (" + c.failure.Inner + ")"
	}
	text += ": " + c.failure.Message
	if c.cause != nil {
		text += " Cause: " + c.cause.Error()
	}
	return text
}

// requestURI is the address asked for, with no parameter but the api-version.
func (s *Server) requestURI(r *http.Request, version string) string {
	path, _ := normalise(r.URL.Path)
	if !plainPath(path) {
		path = (&url.URL{Path: path}).EscapedPath()
	}
	const scheme = "https://"
	if room := max(512-len(scheme)-len(s.host), 0); len(path) > room {
		path = path[:room]
	}
	if version == "" {
		return scheme + s.host + path
	}
	return scheme + s.host + path + "?api-version=" + version
}

// plainPath reports whether a path is its own escaped form.
func plainPath(path string) bool {
	for i := range len(path) {
		if c := path[i]; c != '/' && c != '-' && !(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') {
			return false
		}
	}
	return true
}

// idOf is the identifier of the object that a path is about.
func (s *Server) idOf(path string) string {
	path, _ = normalise(path)
	parts := strings.SplitN(strings.TrimPrefix(path, "/"), "/", 4)
	if len(parts) < 2 || !validName(parts[1]) {
		return ""
	}
	parts[0] = strings.TrimPrefix(parts[0], "deleted")
	if len(parts) > 2 && validVersion(parts[2]) {
		return s.url(parts[:3]...)
	}
	return s.url(parts[:2]...)
}

// apiVersion finds the api-version among a query's parameters; one that could
// not be a version is left out.
func apiVersion(rawQuery string) string {
	if value, ok := strings.CutPrefix(rawQuery, "api-version="); ok { // as nearly every client sends it
		for _, known := range Versions {
			if value == known {
				return known
			}
		}
	}
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		return ""
	}
	for name, values := range query {
		if !strings.EqualFold(name, "api-version") || len(values) == 0 {
			continue
		}
		for _, known := range Versions {
			if values[0] == known {
				return known
			}
		}
	}
	return ""
}

// row turns a record into a row of AZKVAuditLogs.
func (e *auditEvent) row() telemetry.Row {
	p := &e.Properties
	row := telemetry.Row{
		"TimeGenerated": e.Time, "OperationName": e.OperationName, "OperationVersion": e.OperationVersion,
		"ResultType": e.ResultType, "ResultSignature": e.ResultSignature, "ResultDescription": e.ResultDescription,
		"HttpStatusCode": int64(p.HTTPStatusCode), "DurationMs": e.DurationMs, "CallerIpAddress": e.CallerIPAddress, "CorrelationId": e.CorrelationID,
		"RequestUri": p.RequestURI, "Id": p.ID, "ClientInfo": p.ClientInfo,
		"Algorithm": p.Algorithm, "Tlsversion": p.TLSVersion, "IsAddressAuthorized": p.AddressAuthorized, "AddressAuthorizationType": p.AddressKind,
		"AppliedAssignmentId": p.AssignmentID, "IsAccessPolicyMatch": false,
		"Properties":   map[string]any{"privateEndpoint": p.PrivateEndpoint, "vnet": p.VNet},
		"SourceSystem": "Azure", "_ResourceId": strings.ToLower(e.ResourceID), "_SubscriptionId": strings.ToLower(rest.Subscription(e.ResourceID)),
	}
	if p.RbacChecked {
		row["IsRbacAuthorized"] = p.RbacAuthorized
	}
	if e.Identity.Claim != nil {
		row["Identity"] = e.Identity
	}
	if p.Key != nil {
		properties := map[string]any{"type": p.Key.Type}
		if p.Key.Curve != "" {
			properties["curve"] = p.Key.Curve
		} else {
			properties["size"] = p.Key.Size
		}
		row["KeyProperties"] = properties
	}
	return row
}
