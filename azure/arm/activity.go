package arm

import (
	"encoding/json"
	"net/http"
	"strings"

	"verdant/azure/rest"
	"verdant/internal/telemetry"
)

// activityNames are the display names of the operations that leave a row.
func activityName(action string) string {
	switch action {
	case actionAssignmentWrite:
		return "Create role assignment"
	case actionAssignmentDelete:
		return "Delete role assignment"
	case actionDefinitionWrite:
		return "Create or update custom role definition"
	case actionDefinitionDelete:
		return "Delete custom role definition"
	case actionDenialWrite:
		return "Create deny assignment"
	case actionDenialDelete:
		return "Delete deny assignment"
	}
	return action
}

// announce writes the "Start" row of a change. A change that cannot be
// announced is not made.
func (s *Server) announce(r *http.Request, c *call, id string) error {
	return s.sink.Emit(r.Context(), "AzureActivity", s.activityRow(r, c, id, "Start", nil))
}

// activity writes the row of a change's end or of a refusal. The end has come
// either way, so a row that is lost is reported and not an error.
func (s *Server) activity(r *http.Request, c *call, id, status string, failure *rest.Error) {
	if err := s.sink.Emit(r.Context(), "AzureActivity", s.activityRow(r, c, id, status, failure)); err != nil {
		s.log.Error("activity row lost", "operation", c.action, "status", status, "correlation", c.correlation, "error", err.Error())
	}
}

func (s *Server) activityRow(r *http.Request, c *call, id, status string, failure *rest.Error) telemetry.Row {
	caller := c.caller.Name
	if caller == "" {
		caller = c.caller.ObjectID
	}
	level := "Informational"
	properties := map[string]string{"eventCategory": "Administrative", "entity": id, "message": c.action, "hierarchy": s.cfg.TenantID}
	if failure != nil {
		level = "Error"
		properties["statusCode"], properties["statusMessage"] = failure.Code, failure.Message
	}
	operation := strings.ToUpper(c.action)
	provider, _, _ := strings.Cut(operation, "/")
	row := telemetry.Row{
		"TimeGenerated": c.at, "EventSubmissionTimestamp": c.at, "Level": level, "Category": "Administrative", "CategoryValue": "Administrative",
		"OperationName": activityName(c.action), "OperationNameValue": operation,
		"ActivityStatus": status, "ActivityStatusValue": status, "Caller": caller, "CallerIpAddress": c.source,
		"CorrelationId": c.correlation, "OperationId": c.correlation, "EventDataId": newGUID(),
		"ResourceProvider": provider, "ResourceProviderValue": provider, "ResourceId": id, "Hierarchy": s.cfg.TenantID,
		"ResourceGroup": rest.ResourceGroup(id),
		"HTTPRequest":   text(map[string]string{"clientRequestId": c.correlation, "clientIpAddress": c.source, "method": r.Method, "url": r.URL.Path}),
		"Authorization": text(map[string]string{"scope": c.scope, "action": c.action}),
		"Claims": text(map[string]string{"oid": c.caller.ObjectID, "tid": c.caller.TenantID, "appid": c.caller.AppID,
			"name": c.caller.Name, "uti": c.caller.TokenID}),
		"Properties": text(properties),
	}
	if subscription := strings.ToLower(rest.Subscription(id)); guidPattern.MatchString(subscription) {
		row["SubscriptionId"] = subscription
	}
	if len(c.agent) > 0 {
		row["Properties_d"] = map[string]any{"userAgent": c.agent[:min(len(c.agent), 256)]}
	}
	return row
}

// text writes a column that holds JSON as a string.
func text(v map[string]string) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "{}"
	}
	return string(b)
}
