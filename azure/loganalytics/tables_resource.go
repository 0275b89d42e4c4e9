package loganalytics

// resourceTables are the tables about resources of the estate.
func resourceTables() []declaration {
	return []declaration{
		{name: "AZKVAuditLogs", resource: true, aliases: "CallerIPAddress=CallerIpAddress", columns: `
			string: AddressAuthorizationType Algorithm AppliedAssignmentId CallerIpAddress ClientInfo CorrelationId
				HsmPoolResourceId Id OperationName OperationVersion RequestUri ResultDescription ResultSignature ResultType
				SubnetId Tlsversion TrustedService
			bool: EnablePurgeProtection EnableRbacAuthorization EnableSoftDelete EnabledForDeployment EnabledForDiskEncryption
				EnabledForTemplateDeployment IsAccessPolicyMatch IsAddressAuthorized IsRbacAuthorized
			int: DurationMs HttpStatusCode SoftDeleteRetentionInDays
			dynamic: CertificateIssuerProperties CertificatePolicyProperties CertificateProperties CertificateRequestProperties
				Identity KeyProperties NetworkAcls Nsp Properties SecretProperties Sku StorageAccountProperties
				StorageSasDefinitionProperties VaultProperties
		`},
		{name: "MySqlAuditLogs", resource: true, columns: `
			string: Category ConnectionId Db EventClass EventSubclass Host Ip IsAadAuth ReplicationSetRole SqlText Table User
			datetime: EventTime
			int: ErrorCode Status ThreadId
		`},
		{name: "MySqlSlowLogs", resource: true, columns: `
			string: Category Db EventClass Host ReplicationSetRole SqlText
			datetime: StartTime
			int: InsertId LastInsertId RowsExamined RowsSent ServerId ThreadId
			long: LockDurationMs QueryDurationMs
		`},
		{name: "ContainerRegistryLoginEvents", resource: true, columns: `
			string: CallerIpAddress Category DurationMs Identity JwtId LoginServer OperationName Region ResultDescription
				ResultType UserAgent
			guid: CorrelationId
		`},
		{name: "ContainerRegistryRepositoryEvents", resource: true, columns: `
			string: ArtifactType CallerIpAddress Category Digest DurationMs Identity LoginServer MediaType OperationName Region
				Repository ResultDescription ResultType Tag UserAgent UserTenantId
			guid: CorrelationId
			int: Size
		`},
		{name: "AzureActivity", resource: true, free: true, columns: `
			string: ActivityStatus ActivityStatusValue ActivitySubstatus ActivitySubstatusValue Authorization Caller
				CallerIpAddress Category CategoryValue Claims CorrelationId EventDataId HTTPRequest Hierarchy Level
				OperationId OperationName OperationNameValue Properties Resource ResourceGroup ResourceId ResourceProvider
				ResourceProviderValue
			guid: SubscriptionId
			datetime: EventSubmissionTimestamp
			dynamic: Authorization_d Claims_d Properties_d
		`},
		{name: "AzureMetrics", resource: true, columns: `
			string: AdditionalInformation CallerIpAddress Category Confidence CorrelationId Description FirstReportedDateTime
				IndicatorThreatType IsActive LastReportedDateTime MaliciousIP MetricName OperationName OperationVersion
				RemoteIPCountry ReportReferenceLink Resource ResourceGroup ResourceId ResourceProvider ResultDescription
				ResultSignature ResultType TLPLevel TimeGrain UnitName
			guid: SubscriptionId
			int: Severity
			long: DurationMs
			real: Average AverageValue Count Maximum Minimum RemoteIPLatitude RemoteIPLongitude Total
		`},
	}
}
