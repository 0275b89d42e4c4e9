package entra

import (
	"context"
	"fmt"
	"strconv"

	"verdant/internal/telemetry"
)

// The tables that sign-ins are recorded in.
const (
	tableUser     = "SigninLogs"
	tableRefresh  = "AADNonInteractiveUserSignInLogs"
	tableApp      = "AADServicePrincipalSignInLogs"
	tableIdentity = "AADManagedIdentitySignInLogs"
)

// signIn is one decision about a token, for the records.
type signIn struct {
	table string
	principal
	resource *resource // may be nil
	session  string
	protocol string
	thumb    string // of the certificate that an application signed with
	err      error  // nil for success
}

// record writes the row of a success. A success that cannot be recorded is no
// success: the error refuses the token.
func (s *Server) record(ctx context.Context, e exchange, in signIn) error {
	if err := s.sink.Emit(ctx, in.table, s.row(e, in)); err != nil {
		return fmt.Errorf("record the sign-in: %w", err)
	}
	return nil
}

// refused writes the row of a refusal and returns it. The refusal stands also
// where its row is lost.
func (s *Server) refused(ctx context.Context, e exchange, in signIn, err error) error {
	in.err = err
	if lost := s.record(ctx, e, in); lost != nil {
		s.report(e, "sign-in row lost", lost)
	}
	return err
}

func (s *Server) row(e exchange, in signIn) telemetry.Row {
	code, reason := 0, ""
	if in.err != nil {
		f := asFailure(in.err)
		code, reason = f.code, f.text
	}
	signature := "SUCCESS"
	if code != 0 {
		signature = "FAILURE"
	}
	row := telemetry.Row{
		"TimeGenerated": e.at, "CreatedDateTime": e.at, "OperationName": "Sign-in activity", "OperationVersion": "1.0",
		"Id": e.trace, "CorrelationId": e.correlation, "AADTenantId": s.cfg.TenantID, "ResourceOwnerTenantId": s.cfg.TenantID,
		"ResultType": strconv.Itoa(code), "ResultSignature": signature, "ResultDescription": reason, "DurationMs": int64(0),
		"IPAddress": e.ip, "UserAgent": e.agent, "UniqueTokenIdentifier": in.tokenID, "Level": "4",
		"ConditionalAccessStatus": "notApplied",
	}
	if in.resource != nil {
		row["ResourceDisplayName"], row["ResourceIdentity"] = in.resource.name, in.resource.appID
		if in.resource.app != nil {
			row["ResourceServicePrincipalId"] = in.resource.app.ObjectID
		}
	}
	switch in.table {
	case tableUser, tableRefresh:
		s.userColumns(row, in, code, reason)
	case tableApp:
		row["Category"] = "ServicePrincipalSignInLogs"
		row["AppId"], row["ServicePrincipalId"], row["ServicePrincipalName"] = in.app.ClientID, in.app.ObjectID, in.app.Name
		row["ClientCredentialType"] = map[string]string{"1": "clientSecret", "2": "clientAssertion"}[in.credential]
		row["ServicePrincipalCredentialThumbprint"] = in.thumb
	case tableIdentity:
		row["Category"] = "ManagedIdentitySignInLogs"
		row["AppId"], row["ServicePrincipalId"], row["ServicePrincipalName"] = in.identity.ClientID, in.identity.PrincipalID, in.identity.Name
		kind := "UserAssigned"
		if in.identity.System {
			kind = "SystemAssigned"
		}
		row["ManagedServiceIdentity"] = fmt.Sprintf(`{"msiType":%q,"associatedResourceId":%q,"federatedTokenId":"","federatedTokenIssuer":""}`, kind, in.identity.ResourceID)
	}
	return row
}

func (s *Server) userColumns(row telemetry.Row, in signIn, code int, reason string) {
	row["Category"] = "SignInLogs"
	row["IsInteractive"] = in.table == tableUser
	row["SessionId"], row["AuthenticationProtocol"] = in.session, in.protocol
	row["AuthenticationRequirement"], row["TokenIssuerType"], row["UserType"] = "singleFactorAuthentication", "AzureAD", "Member"
	row["HomeTenantId"], row["ResourceTenantId"] = s.cfg.TenantID, s.cfg.TenantID
	status := map[string]any{"errorCode": code, "failureReason": reason}
	if in.table == tableUser {
		row["Status"] = status
	} else {
		row["Category"] = "NonInteractiveUserSignInLogs"
		row["Status"] = fmt.Sprintf(`{"errorCode":%d,"failureReason":%q}`, code, reason)
	}
	if in.app != nil {
		row["AppId"], row["AppDisplayName"] = in.app.ClientID, in.app.Name
		row["ClientAppUsed"] = "Browser"
		if in.app.Public {
			row["ClientAppUsed"] = "Mobile Apps and Desktop clients"
		}
	}
	// A name that is nobody's is not kept: people type passwords there.
	if in.user != nil {
		row["UserId"], row["UserPrincipalName"], row["UserDisplayName"] = in.user.ObjectID, in.user.UPN, in.user.DisplayName
		row["Identity"] = in.user.DisplayName
	}
}
