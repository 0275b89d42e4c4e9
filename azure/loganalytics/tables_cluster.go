package loganalytics

// clusterTables are the tables about pods and nodes.
func clusterTables() []declaration {
	return []declaration{
		{name: "ContainerLogV2", resource: true, columns: `
			string: Computer ContainerId ContainerName LogLevel LogSource PodName PodNamespace
			dynamic: KubernetesMetadata LogMessage
		`},
		{name: "KubeEvents", resource: true, columns: `
			string: ClusterId ClusterName Computer KubeEventType Message Name Namespace ObjectKind Reason SourceComponent
			datetime: FirstSeen LastSeen
			real: Count
		`},
		{name: "KubePodInventory", resource: true, columns: `
			string: ClusterId ClusterName Computer ContainerID ContainerLastStatus ContainerName ContainerStatus
				ContainerStatusReason ControllerKind ControllerName InstanceName Name Namespace PodIp PodLabel PodStatus
				ServiceName
			guid: PodUid
			datetime: ContainerCreationTimeStamp ContainerStartTime PodCreationTimeStamp PodStartTime
			int: ContainerRestartCount PodRestartCount
		`},
		{name: "KubeNodeInventory", resource: true, columns: `
			string: ClusterId ClusterName Computer DockerVersion KubeProxyVersion KubeletVersion KubernetesProviderID Labels
				OperatingSystem Status
			datetime: CreationTimeStamp LastTransitionTimeReady
		`},
		{name: "Heartbeat", resource: true, free: true, columns: `
			string: Category Computer ComputerEnvironment ComputerIP ManagementGroupName OSMajorVersion OSMinorVersion OSName
				OSType RemoteIPCountry Resource ResourceGroup ResourceId ResourceProvider ResourceType SCAgentChannel
				Solutions Version
			guid: MG SourceComputerId SubscriptionId VMUUID
			bool: IsGatewayInstalled
			real: RemoteIPLatitude RemoteIPLongitude
			dynamic: ComputerPrivateIPs
		`},
		{name: "InsightsMetrics", resource: true, columns: `
			string: Computer Name Namespace Origin Tags Value
			guid: AgentId
			real: Val
		`},
		{name: "Perf", resource: true, columns: `
			string: Computer CounterName CounterPath InstanceName ObjectName
			guid: MG
			datetime: BucketEndTime BucketStartTime
			int: SampleCount
			real: Average CounterValue Max Min StandardDeviation
		`},
	}
}
