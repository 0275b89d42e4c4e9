package loganalytics

// entraTables are the tables about sign-ins and directory changes.
func entraTables() []declaration {
	return []declaration{
		{name: "SigninLogs", columns: `
			string: AADTenantId AlternateSignInName AppDisplayName AppId AppOwnerTenantId AppliedConditionalAccessPolicies
				AuthenticationAppDeviceDetails AuthenticationAppPolicyEvaluationDetails AuthenticationContextClassReferences
				AuthenticationDetails AuthenticationMethodsUsed AuthenticationProcessingDetails AuthenticationProtocol
				AuthenticationRequirement AuthenticationRequirementPolicies AutonomousSystemNumber Category ClientAppUsed
				ClientCredentialType ConditionalAccessStatus CorrelationId CrossTenantAccessType FederatedCredentialId
				GlobalSecureAccessIpAddress HomeTenantId HomeTenantName IPAddress IPAddressFromResourceProvider Id Identity
				IncomingTokenType Level Location NetworkLocationDetails OperationName OperationVersion OriginalTransferMethod
				ProcessingTimeInMilliseconds Resource ResourceDisplayName ResourceGroup ResourceId ResourceIdentity
				ResourceOwnerTenantId ResourceProvider ResourceServicePrincipalId ResourceTenantId ResultDescription
				ResultSignature ResultType RiskDetail RiskEventTypes RiskEventTypes_V2 RiskLevel RiskLevelAggregated
				RiskLevelDuringSignIn RiskState ServicePrincipalId ServicePrincipalName SessionId SessionLifetimePolicies
				SignInIdentifier SignInIdentifierType SourceAppClientId TokenIssuerName TokenIssuerType UniqueTokenIdentifier
				UserAgent UserDisplayName UserId UserPrincipalName UserType
			guid: OriginalRequestId
			datetime: CreatedDateTime
			bool: FlaggedForReview IsInteractive IsRisky IsTenantRestricted IsThroughGlobalSecureAccess
			long: DurationMs
			dynamic: Agent AppliedEventListeners ConditionalAccessPolicies DeviceDetail LocationDetails MfaDetail Status
				TokenProtectionStatusDetails
		`},
		{name: "AADNonInteractiveUserSignInLogs", columns: `
			string: AADTenantId Agent AlternateSignInName AppDisplayName AppId AppOwnerTenantId
				AuthenticationContextClassReferences AuthenticationDetails AuthenticationMethodsUsed
				AuthenticationProcessingDetails AuthenticationProtocol AuthenticationRequirement
				AuthenticationRequirementPolicies AutonomousSystemNumber Category ClientAppUsed ClientCredentialType
				ConditionalAccessPolicies ConditionalAccessStatus CorrelationId CrossTenantAccessType DeviceDetail
				FederatedCredentialId GlobalSecureAccessIpAddress HomeTenantId HomeTenantName IPAddress Id Identity
				IncomingTokenType Level Location LocationDetails MfaDetail NetworkLocationDetails OperationName
				OperationVersion OriginalRequestId OriginalTransferMethod ProcessingTimeInMs ResourceDisplayName ResourceGroup
				ResourceIdentity ResourceOwnerTenantId ResourceServicePrincipalId ResourceTenantId ResultDescription
				ResultSignature ResultType RiskDetail RiskEventTypes RiskEventTypes_V2 RiskLevelAggregated
				RiskLevelDuringSignIn RiskState ServicePrincipalId SessionId SessionLifetimePolicies SignInEventTypes
				SignInIdentifierType Status TokenIssuerName TokenIssuerType TokenProtectionStatusDetails UniqueTokenIdentifier
				UserAgent UserDisplayName UserId UserPrincipalName UserType
			datetime: CreatedDateTime
			bool: IsInteractive IsRisky IsTenantRestricted IsThroughGlobalSecureAccess
			long: DurationMs
			dynamic: AppliedEventListeners ConditionalAccessPoliciesV2
		`},
		{name: "AADServicePrincipalSignInLogs", columns: `
			string: AADTenantId Agent AppId AppOwnerTenantId AuthenticationContextClassReferences AuthenticationProcessingDetails
				AutonomousSystemNumber Category ClientCredentialType ConditionalAccessPolicies ConditionalAccessStatus
				CorrelationId FederatedCredentialId IPAddress Id Identity Level Location LocationDetails
				NetworkLocationDetails OperationName OperationVersion ResourceDisplayName ResourceGroup ResourceIdentity
				ResourceOwnerTenantId ResourceServicePrincipalId ResultDescription ResultSignature ResultType
				ServicePrincipalCredentialKeyId ServicePrincipalCredentialThumbprint ServicePrincipalId ServicePrincipalName
				SessionId UniqueTokenIdentifier UserAgent
			datetime: CreatedDateTime
			long: DurationMs
			dynamic: ConditionalAccessPoliciesV2
		`},
		{name: "AADManagedIdentitySignInLogs", columns: `
			string: AADTenantId Agent AppId AppOwnerTenantId AuthenticationContextClassReferences AuthenticationProcessingDetails
				Category ClientCredentialType ConditionalAccessPolicies ConditionalAccessStatus CorrelationId
				FederatedCredentialId IPAddress Id Identity Level Location LocationDetails ManagedServiceIdentity
				NetworkLocationDetails OperationName OperationVersion ResourceDisplayName ResourceGroup ResourceIdentity
				ResourceOwnerTenantId ResourceServicePrincipalId ResultDescription ResultSignature ResultType
				ServicePrincipalCredentialKeyId ServicePrincipalCredentialThumbprint ServicePrincipalId ServicePrincipalName
				SessionId SourceAppClientId UniqueTokenIdentifier UserAgent
			datetime: CreatedDateTime
			long: DurationMs
			dynamic: ConditionalAccessPoliciesV2
		`},
		{name: "AuditLogs", columns: `
			string: AADOperationType AADTenantId ActivityDisplayName Category CorrelationId Id Identity Level Location
				LoggedByService OperationName OperationVersion Resource ResourceGroup ResourceId ResourceProvider Result
				ResultDescription ResultReason ResultSignature ResultType
			datetime: ActivityDateTime
			long: DurationMs
			dynamic: AdditionalDetails InitiatedBy TargetResources
		`},
	}
}
