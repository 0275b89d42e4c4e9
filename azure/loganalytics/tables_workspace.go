package loganalytics

// workspaceTables are the tables about the workspace itself.
func workspaceTables() []declaration {
	return []declaration{
		{name: "Usage", free: true, columns: `
			string: Computer DataType LinkedMeterId LinkedResourceUri MeterId QuantityUnit ResourceUri Solution
			datetime: EndTime StartTime
			bool: IsBillable
			long: BatchesCapped BatchesOutsideSla BatchesWithinSla TotalBatches
			real: AvgLatencyInSeconds Quantity
		`},
		{name: "Operation", resource: true, free: true, columns: `
			string: Computer CorrelationId Detail ErrorId HelpLink ManagementGroupName OperationCategory OperationKey
				OperationStatus Solution
			guid: MG SourceComputerId
		`},
		{name: "LAQueryLogs", resource: true, columns: `
			string: AADClientId AADEmail AADObjectId AADTenantId ConditionalDataAccess CorrelationId QueryText RequestClientApp
				RequestTarget WorkspaceRegion
			datetime: QueryTimeRangeEnd QueryTimeRangeStart StatsDataProcessedEnd StatsDataProcessedStart
			bool: IsBillableQuery IsWorkspaceInFailover
			int: ResponseCode ResponseRowCount StatsRegionCount StatsWorkspaceCount
			real: ResponseDurationMs ScannedGB StatsCPUTimeMs StatsDataProcessedKB
			dynamic: RequestContext RequestContextFilters
		`},
	}
}
