package loganalytics

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// kind is the type of a column.
type kind uint8

const (
	kindBool kind = iota + 1
	kindInt
	kindLong
	kindReal
	kindDateTime
	kindTimespan
	kindString
	kindDynamic
	kindGUID
	kindDecimal
)

var kindNames = [...]string{kindBool: "bool", kindInt: "int", kindLong: "long", kindReal: "real", kindDateTime: "datetime",
	kindTimespan: "timespan", kindString: "string", kindDynamic: "dynamic", kindGUID: "guid", kindDecimal: "decimal"}

// String is the type's name in the query language.
func (k kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

func parseKind(name string) (kind, bool) {
	i := slices.Index(kindNames[:], name)
	return kind(i), i > 0
}

// declaration is a table as this package's source declares it: the columns of
// its own, as "type: names" groups. The standard columns come with the flags.
type declaration struct {
	name     string
	columns  string
	resource bool // rows belong to a resource: _ResourceId and _SubscriptionId
	free     bool // ingestion is not billed
	// aliases are further names of columns, as "alias=column": spellings that
	// queries in circulation use. They are hidden.
	aliases string
}

// columnDef is one column of a table.
type columnDef struct {
	name string
	kind kind
	// hidden columns are there for whoever names them and not in a result that
	// asks for every column.
	hidden bool
}

// table is the schema of one table.
type table struct {
	name    string
	columns []columnDef
	index   map[string]int
	aliases map[string]string
	free    bool
	// positions of the standard columns; resource and subscription are -1
	// where the table has none.
	timeGenerated, received, workspace, source, typ, resource, subscription, billable, billed, item int
}

var columnName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

// schemas makes the tables of a workspace, by name.
func schemas() (map[string]*table, error) {
	out := map[string]*table{}
	var errs []error
	for _, group := range [][]declaration{entraTables(), resourceTables(), clusterTables(), workspaceTables()} {
		for _, d := range group {
			t, err := d.table()
			if err == nil && out[t.name] != nil {
				err = fmt.Errorf("table %s is declared twice", t.name)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			out[t.name] = t
		}
	}
	return out, errors.Join(errs...)
}

func (d declaration) table() (*table, error) {
	t := &table{name: d.name, index: map[string]int{}, aliases: map[string]string{}, free: d.free, resource: -1, subscription: -1}
	var errs []error
	add := func(name string, k kind, hidden bool) int {
		if _, twice := t.index[name]; twice || !columnName.MatchString(name) {
			errs = append(errs, fmt.Errorf("table %s: column %q is declared twice or not a name", d.name, name))
		}
		t.index[name] = len(t.columns)
		t.columns = append(t.columns, columnDef{name, k, hidden})
		return t.index[name]
	}
	t.timeGenerated = add("TimeGenerated", kindDateTime, false)
	t.workspace = add("TenantId", kindGUID, false)
	k := kindString
	for word := range strings.FieldsSeq(d.columns) {
		if name, isType := strings.CutSuffix(word, ":"); isType {
			var ok bool
			if k, ok = parseKind(name); !ok {
				errs = append(errs, fmt.Errorf("table %s: unknown type %q", d.name, name))
			}
			continue
		}
		add(word, k, false)
	}
	t.source = add("SourceSystem", kindString, false)
	t.typ = add("Type", kindString, false)
	if d.resource {
		t.resource = add("_ResourceId", kindString, false)
		t.subscription = add("_SubscriptionId", kindString, true)
	}
	t.billable = add("_IsBillable", kindString, true)
	t.billed = add("_BilledSize", kindReal, true)
	t.received = add("_TimeReceived", kindDateTime, true)
	t.item = add("_ItemId", kindString, true)
	for alias := range strings.FieldsSeq(d.aliases) {
		name, column, _ := strings.Cut(alias, "=")
		_, taken := t.index[name]
		if _, ok := t.index[column]; !ok || taken || !columnName.MatchString(name) {
			errs = append(errs, fmt.Errorf("table %s: alias %q does not fit", d.name, alias))
		}
		t.aliases[name] = column
	}
	return t, errors.Join(errs...)
}
