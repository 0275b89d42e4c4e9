package loganalytics

import (
	"maps"
	"slices"
)

type metadataColumn struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

type metadataTable struct {
	ID             string           `json:"id"`
	Name           string           `json:"name"`
	TimespanColumn string           `json:"timespanColumn"`
	Columns        []metadataColumn `json:"columns"`
}

type metadataWorkspace struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	ResourceID string   `json:"resourceId"`
	Region     string   `json:"region"`
	Tables     []string `json:"tables"`
}

type metadataAnswer struct {
	Tables     []metadataTable     `json:"tables"`
	Workspaces []metadataWorkspace `json:"workspaces"`
}

// describe is the workspace's metadata document.
func (w *workspace) describe() metadataAnswer {
	var out metadataAnswer
	ws := metadataWorkspace{ID: w.CustomerID, Name: w.Name, ResourceID: w.ResourceID, Region: w.Location}
	for _, name := range slices.Sorted(maps.Keys(w.store.tables)) {
		t := metadataTable{ID: "t/" + name, Name: name, TimespanColumn: "TimeGenerated"}
		for _, c := range w.store.tables[name].schema.columns {
			t.Columns = append(t.Columns, metadataColumn{c.name, c.kind.String()})
		}
		ws.Tables = append(ws.Tables, t.ID)
		out.Tables = append(out.Tables, t)
	}
	out.Workspaces = []metadataWorkspace{ws}
	return out
}
