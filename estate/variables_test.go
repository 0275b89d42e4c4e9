package estate

import (
	"errors"
	"strings"
	"testing"
)

func TestTheSeedsVariablesAreRead(t *testing.T) {
	v, err := ParseVariables("terraform.tfvars", []byte(`
# the seed's fragment and the reference's names
enable_log_analytics_workspace = true
log_analytics_cluster_id = "/subscriptions/s/resourceGroups/r/providers/Microsoft.OperationalInsights/clusters/c"
prefix       = "acme"
generation   = 3
location     = "northeurope"
ghcr_password = "ignored"
jumpbox_ssh_source_address_prefixes = ["192.0.2.0/24"]
`))
	if err != nil {
		t.Fatal(err)
	}
	if v.Prefix != "acme" || v.Generation != 3 || v.Location != "northeurope" || !v.LogAnalytics || !strings.HasSuffix(v.LogAnalyticsCluster, "/c") {
		t.Fatalf("got %+v", v)
	}
	if v.ParentDNSZone != "verdant.localhost" || v.KeyCustody != "direct" {
		t.Fatalf("defaults are lost: %+v", v)
	}
}

func TestABadVariableIsNamedWithFileAndLine(t *testing.T) {
	for src, want := range map[string][]string{
		"a = 1\nprefx = \"x\"":                      {"f.tfvars:2:", `unknown variable "prefx"`, "prefix, subscription_id"},
		"\n\ngeneration = \"two\"":                  {"f.tfvars:3:", "generation must be a number"},
		"generation = 0":                            {"f.tfvars:1:", "from 1 to 999"},
		"enable_log_analytics_workspace = [1]":      {"f.tfvars:1:", "must be a bool"},
		"location = \"we st/..x\"":                  {"f.tfvars:1:", "Azure region"},
		"prefix = \"abcdefghij\"\ngeneration = 999": {"f.tfvars", "26 characters"},
		"tenant_id = \"x\"":                         {"f.tfvars:1:", "not a GUID"},
		"prefix = ":                                 {"f.tfvars:1:"},
		"block {}":                                  {"f.tfvars:1:"},
		"prefix = var.x":                            {"f.tfvars:1:"},
		"prefix = \"Not-Lower\"":                    {"f.tfvars:1:", "lower-case"},
		"parent_dns_zone_name = \"x y\"":            {"f.tfvars:1:", "zone name"},
		"log_analytics_cluster_id = \"<id>\"":       {"f.tfvars:1:", "Microsoft.OperationalInsights/clusters"},
		"key_custody = \"paper\"":                   {"f.tfvars:1:", "direct", "mounted"},
		"log_retention_in_days = 7.5":               {"f.tfvars:1:", "whole number"},
	} {
		_, err := ParseVariables("f.tfvars", []byte(src))
		if !errors.Is(err, ErrVariables) {
			t.Errorf("%q: got %v, want ErrVariables", src, err)
			continue
		}
		for _, part := range want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q: %q lacks %q", src, err, part)
			}
		}
	}
}

func FuzzParseVariables(f *testing.F) {
	f.Add([]byte("prefix = \"a\"\n"))
	f.Add([]byte("generation = 1e9"))
	f.Add([]byte("x = <<E\nE"))
	f.Fuzz(func(t *testing.T, src []byte) {
		if _, err := ParseVariables("f", src); err != nil && !errors.Is(err, ErrVariables) {
			t.Fatalf("untyped error %v", err)
		}
	})
}
