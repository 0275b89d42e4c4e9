package entra_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"testing"
	"time"

	"verdant/azure/entra"
)

// TestSignInRowsFitTheStandardTables writes a row of each kind and holds its
// columns and their types against the published schemas.
func TestSignInRowsFitTheStandardTables(t *testing.T) {
	raw, err := os.ReadFile("../../../shared/data/log-schemas/la-tables.json")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the published log schemas are not here: ../shared/data/log-schemas, beside the repository")
	}
	if err != nil {
		t.Fatal(err)
	}
	var tables map[string]struct{ Columns [][2]string }
	if err := json.Unmarshal(raw, &tables); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	p := newPortal(t, w)
	signedIn(t, w, p, "v")
	token := url.Values{"grant_type": {"client_credentials"}, "client_id": {robotID}, "client_secret": {"wrong"}, "scope": {"https://vault.azure.net/.default"}}
	w.post(t, "/oauth2/v2.0/token", token)
	if _, _, err := w.MintIdentity(t.Context(), identityID, "https://vault.azure.net"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.MintUser(t.Context(), nurse, "https://vault.azure.net", entra.AzureCLI); err != nil {
		t.Fatal(err)
	}
	refreshOnce(t, w, p)
	seen := map[string]bool{}
	for _, row := range w.rows.kept {
		seen[row.table] = true
		types := map[string]string{}
		for _, c := range tables[row.table].Columns {
			types[c[0]] = c[1]
		}
		for name, value := range row.Row {
			fits := false
			switch types[name] {
			case "string", "guid":
				_, fits = value.(string)
			case "datetime":
				_, fits = value.(time.Time)
			case "boolean":
				_, fits = value.(bool)
			case "long":
				_, fits = value.(int64)
			case "dynamic":
				fits = true
			}
			if !fits {
				t.Errorf("%s.%s is %q in the schema, the row has a %T", row.table, name, types[name], value)
			}
		}
	}
	for _, table := range []string{"SigninLogs", "AADNonInteractiveUserSignInLogs", "AADServicePrincipalSignInLogs", "AADManagedIdentitySignInLogs"} {
		if !seen[table] {
			t.Errorf("no row of %s was written", table)
		}
	}
}
