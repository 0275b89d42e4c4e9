package estate

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/gocty"
)

// Variables are the settings of terraform.tfvars, the same file that the
// reference architecture's Terraform reads. Every one is optional here.
type Variables struct {
	// Prefix goes before resource names and between service and zone names, so
	// that several estates can share a subscription. Default none.
	Prefix string
	// Generation is the number at the end of vault names: a purge-protected
	// vault's name cannot be used again, so a new deployment counts up.
	// Default 1.
	Generation int
	// Location is the Azure region's name. Default "westeurope".
	Location string
	// SubscriptionID and TenantID are GUIDs. The defaults are fixed.
	SubscriptionID, TenantID string
	// ParentDNSZone is the zone below which public names are made. Default
	// "verdant.localhost".
	ParentDNSZone string
	// AdministratorGroup is the object id of the administrators' group. The
	// default is fixed.
	AdministratorGroup string
	// LogAnalytics turns the workspaces on. Default true.
	LogAnalytics bool
	// LogAnalyticsCluster is the ARM id of the dedicated cluster to which the
	// workspaces are linked. Default none.
	LogAnalyticsCluster string
	// LogRetentionDays is the workspaces' retention. Default 30.
	LogRetentionDays int
	// KeyCustody says where the workload's private keys are: CustodyDirect or
	// CustodyMounted. Default CustodyDirect.
	KeyCustody string
	// VaultLimits throttles the vaults as Azure does. Default false: a demo has
	// no use for it, and a test may want to see it.
	VaultLimits bool
	// HSM is the PKCS #11 URI of the token that holds the vaults' keys, in the
	// form that CheckHSM returns. It comes from the command line and not from
	// the file. Default none: the keys are in software.
	HSM string
}

// Where the workload's private keys are.
const (
	// CustodyDirect keeps them in the vault's HSM; services sign through it.
	CustodyDirect = "direct"
	// CustodyMounted mounts exportable bundles into the pods' file systems, as
	// the reference architecture does, with the reference's roles.
	CustodyMounted = "mounted"
)

// The default identifiers. They are fixed so that scripts, bookmarks and role
// assignments stay valid from one demo estate to the next.
const (
	defaultTenant       = "d9ad8c4e-7c1b-4b0e-9a55-0b1f6e3c2a10"
	defaultSubscription = "5f0c2b9a-3d64-4c1e-8f7a-91c2d4e6b803"
	defaultAdmins       = "a4d1e5f2-6b3c-4d8e-9f01-23456789abcd"
)

// DefaultVariables returns what an estate without a terraform.tfvars has.
func DefaultVariables() Variables {
	return Variables{
		Generation: 1, Location: "westeurope", SubscriptionID: defaultSubscription, TenantID: defaultTenant,
		ParentDNSZone: "verdant.localhost", AdministratorGroup: defaultAdmins,
		LogAnalytics: true, LogRetentionDays: 30, KeyCustody: CustodyDirect,
	}
}

// ErrVariables is wrapped by every complaint about a terraform.tfvars file.
var ErrVariables = errors.New("terraform.tfvars")

// variable says how one name of the file is read. A nil set accepts the
// variable and does nothing with it: image versions and registry credentials
// of the reference have no meaning where every pod runs this binary.
type variable struct {
	typ cty.Type
	set func(*Variables, cty.Value) error
}

func knownVariables() map[string]variable {
	text := func(assign func(*Variables, string) error) variable {
		return variable{cty.String, func(v *Variables, val cty.Value) error {
			if val.IsNull() {
				return nil
			}
			return assign(v, val.AsString())
		}}
	}
	ignored := variable{cty.String, nil}
	known := map[string]variable{
		"prefix":               text(setPrefix),
		"location":             text(setLocation),
		"subscription_id":      text(func(v *Variables, s string) error { return setGUID(&v.SubscriptionID, s) }),
		"tenant_id":            text(func(v *Variables, s string) error { return setGUID(&v.TenantID, s) }),
		"parent_dns_zone_name": text(setZone),
		"administrator_group_oid": text(func(v *Variables, s string) error {
			return setGUID(&v.AdministratorGroup, s)
		}),
		"log_analytics_cluster_id": text(setCluster),
		"key_custody":              text(setCustody),
		"generation":               {cty.Number, func(v *Variables, val cty.Value) error { return setInt(&v.Generation, val, 1, 999) }},
		"log_retention_in_days":    {cty.Number, func(v *Variables, val cty.Value) error { return setInt(&v.LogRetentionDays, val, 7, 730) }},
		"enable_log_analytics_workspace": {cty.Bool, func(v *Variables, val cty.Value) error {
			v.LogAnalytics = val.IsNull() || val.True()
			return nil
		}},
		"enforce_key_vault_limits": {cty.Bool, func(v *Variables, val cty.Value) error {
			v.VaultLimits = !val.IsNull() && val.True()
			return nil
		}},
		"jumpbox_ssh_source_address_prefixes": {cty.List(cty.String), nil},
	}
	for _, name := range []string{
		"parent_dns_zone_rg_name", "ghcr_username", "ghcr_password", "gateway_version", "issuance_service_version",
		"issuance_web_version", "businessrule_service_version", "verifier_service_version", "msal_proxy_version",
		"nginx_image_tag", "utility_image_tag", "log_analytics_workspace_sku",
		"jump_box_identity_file", "jump_box_identity_user", "jump_box_identity_host",
	} {
		known[name] = ignored
	}
	return known
}

// LoadVariables reads a terraform.tfvars file over the defaults. Complaints
// name the file, the line and, for an unknown name, the names that are known.
func LoadVariables(file string) (Variables, error) {
	src, err := os.ReadFile(file)
	if err != nil {
		return Variables{}, fmt.Errorf("%w: %w", ErrVariables, err)
	}
	return ParseVariables(file, src)
}

// ParseVariables is LoadVariables on the file's content.
func ParseVariables(file string, src []byte) (Variables, error) {
	v := DefaultVariables()
	parsed, diags := hclparse.NewParser().ParseHCL(src, file)
	if diags.HasErrors() {
		return v, complaint(diags)
	}
	attributes, diags := parsed.Body.JustAttributes()
	if diags.HasErrors() {
		return v, complaint(diags)
	}
	known := knownVariables()
	var errs []error
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range attributes {
			if !yield(n) {
				return
			}
		}
	}) {
		if err := apply(&v, known, attributes[name]); err != nil {
			errs = append(errs, err)
		}
	}
	if vault := NamesFor(v).Vault(EU); len(vault) > maxVaultName {
		errs = append(errs, fmt.Errorf("%s: prefix and generation make the vault name %s, which has %d characters; Azure allows %d", file, vault, len(vault), maxVaultName))
	}
	if len(errs) > 0 {
		return v, fmt.Errorf("%w: %w", ErrVariables, errors.Join(errs...))
	}
	return v, nil
}

// maxVaultName is Azure's limit on the name of a vault.
const maxVaultName = 24

func apply(v *Variables, known map[string]variable, attr *hcl.Attribute) error {
	at := fmt.Sprintf("%s:%d: ", attr.Range.Filename, attr.Range.Start.Line)
	variable, ok := known[attr.Name]
	if !ok {
		names := make([]string, 0, len(known))
		for name := range known {
			names = append(names, name)
		}
		slices.Sort(names)
		return fmt.Errorf("%sunknown variable %q; known are %s", at, attr.Name, strings.Join(names, ", "))
	}
	value, diags := attr.Expr.Value(nil)
	if diags.HasErrors() {
		return complaint(diags)
	}
	value, err := convert.Convert(value, variable.typ)
	if err != nil {
		return fmt.Errorf("%s%s must be a %s", at, attr.Name, variable.typ.FriendlyName())
	}
	if variable.set == nil || value.IsNull() && variable.typ != cty.Bool {
		return nil
	}
	if err := variable.set(v, value); err != nil {
		return fmt.Errorf("%s%s: %w", at, attr.Name, err)
	}
	return nil
}

func complaint(diags hcl.Diagnostics) error {
	d := diags[0]
	if d.Subject == nil {
		return fmt.Errorf("%w: %s", ErrVariables, d.Summary)
	}
	return fmt.Errorf("%w: %s:%d: %s: %s", ErrVariables, d.Subject.Filename, d.Subject.Start.Line, d.Summary, d.Detail)
}

var (
	prefixPattern   = regexp.MustCompile(`^[a-z][a-z0-9]{0,9}$`)
	locationPattern = regexp.MustCompile(`^[a-z]+[a-z0-9]*$`)
	zonePattern     = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,}$`)
	clusterPattern  = regexp.MustCompile(`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.OperationalInsights/clusters/[^/]+$`)
)

func setPrefix(v *Variables, s string) error {
	if s != "" && !prefixPattern.MatchString(s) {
		return fmt.Errorf("%q must be 1 to 10 lower-case letters and digits and begin with a letter, because registry and vault names are made from it", s)
	}
	v.Prefix = s
	return nil
}

func setLocation(v *Variables, s string) error {
	if !locationPattern.MatchString(s) {
		return fmt.Errorf("%q is not the name of an Azure region such as westeurope", s)
	}
	v.Location = s
	return nil
}

func setZone(v *Variables, s string) error {
	if !zonePattern.MatchString(s) {
		return fmt.Errorf("%q is not a DNS zone name such as verdant.localhost", s)
	}
	v.ParentDNSZone = s
	return nil
}

func setCluster(v *Variables, s string) error {
	if s != "" && !clusterPattern.MatchString(s) {
		return fmt.Errorf("%q is not the id of a Microsoft.OperationalInsights/clusters resource", s)
	}
	v.LogAnalyticsCluster = s
	return nil
}

func setCustody(v *Variables, s string) error {
	if s != CustodyDirect && s != CustodyMounted {
		return fmt.Errorf("%q must be %q, where private keys never leave the vault, or %q, where bundles are mounted into the pods", s, CustodyDirect, CustodyMounted)
	}
	v.KeyCustody = s
	return nil
}

func setGUID(field *string, s string) error {
	id, err := uuid.Parse(s)
	if err != nil {
		return fmt.Errorf("%q is not a GUID", s)
	}
	*field = id.String()
	return nil
}

func setInt(field *int, value cty.Value, low, high int) error {
	var n int
	if err := gocty.FromCtyValue(value, &n); err != nil || n < low || n > high {
		return fmt.Errorf("must be a whole number from %d to %d", low, high)
	}
	*field = n
	return nil
}
