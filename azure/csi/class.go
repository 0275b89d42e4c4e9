package csi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Bounds of a mount.
const (
	maxAttributes = 1 << 20
	maxObjects    = 100
	maxHistory    = 100
)

// class is a SecretProviderClass for one pod: its parameters, checked.
type class struct {
	vault    string // URL
	tenant   string
	clientID string // of the pod's identity
	token    string // of the pod's service account
	// node asks for the node's identity, or one of its user-assigned ones.
	node     bool
	nodeID   string
	pod      string // namespace/name, for the log
	objects  []object
	fileMode int32 // of files without one of their own
}

// object is one element of the class's objects.
type object struct {
	Name       string `yaml:"objectName"`
	Alias      string `yaml:"objectAlias"`
	Type       string `yaml:"objectType"`
	Version    string `yaml:"objectVersion"`
	History    int    `yaml:"objectVersionHistory"`
	Format     string `yaml:"objectFormat"`
	Encoding   string `yaml:"objectEncoding"`
	Permission string `yaml:"filePermission"`

	mode int32
}

// The types of objects, and their formats and encodings.
const (
	typeSecret, typeKey, typeCert  = "secret", "key", "cert"
	formatPEM, formatPFX           = "pem", "pfx"
	encodeUTF8, encode64, encode16 = "utf-8", "base64", "hex"
)

// known lists the parameters, in the spelling of the Azure provider.
func known() []string {
	return []string{"keyvaultName", "tenantId", "tenantID", "clientID", "userAssignedIdentityID", "useVMManagedIdentity", "usePodIdentity", "cloudName", "cloudEnvFileName", "objects", "secretProviderClass"}
}

// tokenAudience is the audience of service account tokens that are exchanged
// for those of an identity.
const tokenAudience = "api://AzureADTokenExchange"

// parseClass reads a Mount request's attributes, secrets and permission.
func parseClass(r *MountRequest) (class, error) {
	var c class
	if len(r.Attributes) > maxAttributes {
		return c, errors.New("attributes: too large")
	}
	var attributes map[string]string
	if err := decodeJSON(r.Attributes, &attributes); err != nil {
		return c, errors.New("attributes: not a JSON object of strings")
	}
	get := func(name string) string { return strings.TrimSpace(attributes[name]) }
	for name := range attributes {
		if !strings.HasPrefix(name, "csi.storage.k8s.io/") && !slices.Contains(known(), name) {
			return c, fmt.Errorf("parameter %.100q is not known; known are %s", name, strings.Join(known(), ", "))
		}
	}
	c.pod = get("csi.storage.k8s.io/pod.namespace") + "/" + get("csi.storage.k8s.io/pod.name")
	var err error
	if c.fileMode, err = defaultMode(r.Permission); err != nil {
		return c, err
	}
	if c.vault, err = vaultURL(get("keyvaultName"), get("cloudName"), get("cloudEnvFileName")); err != nil {
		return c, err
	}
	if err := c.authentication(get, r.Secrets); err != nil {
		return c, err
	}
	c.objects, err = parseObjects(attributes["objects"], c.fileMode)
	return c, err
}

// decodeJSON reads exactly one value.
func decodeJSON(text string, into any) error {
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the value")
	}
	return nil
}

var vaultName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]{1,22}[a-zA-Z0-9]$`)

// vaultURL makes the vault's address from a name that cannot lead elsewhere.
func vaultURL(name, cloud, cloudFile string) (string, error) {
	if !vaultName.MatchString(name) {
		return "", fmt.Errorf("keyvaultName %.100q is not the name of a vault: 3 to 24 letters, digits and dashes", name)
	}
	if cloudFile != "" {
		return "", errors.New("cloudEnvFileName is not supported; clouds are known by cloudName")
	}
	suffix, ok := map[string]string{"": "vault.azure.net", "azurepubliccloud": "vault.azure.net",
		"azurechinacloud": "vault.azure.cn", "azureusgovernmentcloud": "vault.usgovcloudapi.net"}[strings.ToLower(cloud)]
	if !ok {
		return "", fmt.Errorf("cloudName %.100q is not known; known are AzurePublicCloud, AzureChinaCloud, AzureUSGovernmentCloud", cloud)
	}
	return "https://" + strings.ToLower(name) + "." + suffix, nil
}

var guid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// authentication reads as whom to ask the vault.
func (c *class) authentication(get func(string) string, secrets string) error {
	flag := func(name string) (bool, error) {
		text := get(name)
		if text == "" {
			return false, nil
		}
		set, err := strconv.ParseBool(text)
		if err != nil {
			return false, fmt.Errorf("%s %.100q is neither true nor false", name, text)
		}
		return set, nil
	}
	podIdentity, err := flag("usePodIdentity")
	if err != nil {
		return err
	}
	if podIdentity {
		return errors.New("usePodIdentity is withdrawn; give clientID, the pod's identity, and let the driver request service account tokens for " + tokenAudience)
	}
	if c.node, err = flag("useVMManagedIdentity"); err != nil {
		return err
	}
	var stored map[string]string
	if text := strings.TrimSpace(secrets); text != "" && text != "null" && (decodeJSON(text, &stored) != nil || len(stored) > 0) {
		return errors.New("nodePublishSecretRef holds a service principal's password, which this provider does not use; give clientID instead")
	}
	if c.node {
		c.nodeID = get("userAssignedIdentityID")
		return nil
	}
	if c.tenant = get("tenantId"); c.tenant == "" {
		c.tenant = get("tenantID")
	}
	c.clientID = get("clientID")
	switch {
	case !guid.MatchString(c.tenant):
		return errors.New("tenantId is not a GUID")
	case !guid.MatchString(c.clientID):
		return errors.New("clientID is not a GUID; it names the pod's identity")
	}
	var tokens map[string]struct {
		Token string `json:"token"`
	}
	if err := decodeJSON(get("csi.storage.k8s.io/serviceAccount.tokens"), &tokens); err != nil || tokens[tokenAudience].Token == "" {
		return errors.New("the driver passed on no service account token for " + tokenAudience + "; list that audience in the CSIDriver object's tokenRequests")
	}
	c.token = tokens[tokenAudience].Token
	return nil
}

// defaultMode reads the driver's permission: a JSON number.
func defaultMode(permission string) (int32, error) {
	if permission == "" {
		return 0o644, nil
	}
	n, err := strconv.ParseUint(permission, 10, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("permission %.20q is not a number from 0 to 511", permission)
	}
	return int32(n), nil
}

// parseObjects reads the class's objects: a YAML document whose array holds a
// YAML document for each object.
func parseObjects(document string, mode int32) ([]object, error) {
	var list struct {
		Array []string `yaml:"array"`
	}
	if err := strictYAML(document, &list); err != nil {
		return nil, errors.New("objects: not YAML with an array of texts under the key array")
	}
	if len(list.Array) == 0 {
		return nil, errors.New("objects: the array is empty")
	}
	if len(list.Array) > maxObjects {
		return nil, fmt.Errorf("objects: %d are too many; at most %d", len(list.Array), maxObjects)
	}
	var objects []object
	for i, text := range list.Array {
		o := object{mode: mode}
		if err := strictYAML(text, &o); err != nil {
			return nil, fmt.Errorf("objects[%d]: not YAML, or with a key that is not known: known are objectName, objectAlias, objectType, objectVersion, objectVersionHistory, objectFormat, objectEncoding, filePermission", i)
		}
		if err := o.check(); err != nil {
			return nil, fmt.Errorf("objects[%d]: %w", i, err)
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// strictYAML reads one document without keys that are not known.
func strictYAML(text string, into any) (err error) {
	defer func() {
		if p := recover(); p != nil { // a defect of the library must not end the provider
			err = fmt.Errorf("%v", p)
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader([]byte(text)))
	d.KnownFields(true)
	if err := d.Decode(into); err != nil {
		return err
	}
	var more any
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return errors.New("more than one document")
	}
	return nil
}

var (
	objectName    = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
	objectVersion = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// check trims the object's fields, fills in defaults and refuses what is wrong.
func (o *object) check() error {
	for _, field := range []*string{&o.Name, &o.Alias, &o.Type, &o.Version, &o.Format, &o.Encoding, &o.Permission} {
		*field = strings.TrimSpace(*field)
	}
	o.Type, o.Format, o.Encoding = strings.ToLower(o.Type), strings.ToLower(o.Format), strings.ToLower(o.Encoding)
	if o.Format == "" {
		o.Format = formatPEM
	}
	if o.Encoding == "" {
		o.Encoding = encodeUTF8
	}
	if strings.EqualFold(o.Version, "latest") {
		o.Version = ""
	}
	switch {
	case !objectName.MatchString(o.Name):
		return fmt.Errorf("objectName %.130q is not the name of an object", o.Name)
	case o.Version != "" && !objectVersion.MatchString(o.Version):
		return fmt.Errorf("%s: objectVersion %.40q is not a version: 32 hexadecimal digits, or latest", o.Name, o.Version)
	case o.Type != typeSecret && o.Type != typeKey && o.Type != typeCert:
		return fmt.Errorf("%s: objectType %.20q must be secret, key or cert", o.Name, o.Type)
	case o.Format != formatPEM && o.Format != formatPFX:
		return fmt.Errorf("%s: objectFormat %.20q must be pem or pfx", o.Name, o.Format)
	case o.Format == formatPFX && o.Type != typeSecret:
		return fmt.Errorf("%s: objectFormat pfx holds a private key, which only objectType secret gives", o.Name)
	case o.Encoding != encodeUTF8 && o.Encoding != encode64 && o.Encoding != encode16:
		return fmt.Errorf("%s: objectEncoding %.20q must be utf-8, base64 or hex", o.Name, o.Encoding)
	case o.Encoding != encodeUTF8 && o.Type != typeSecret:
		return fmt.Errorf("%s: objectEncoding is for objectType secret only", o.Name)
	case o.History < 0 || o.History > maxHistory:
		return fmt.Errorf("%s: objectVersionHistory must be a number from 0 to %d", o.Name, maxHistory)
	}
	if err := checkPath(o.file()); err != nil {
		return fmt.Errorf("%s: objectAlias: %w", o.Name, err)
	}
	if o.Permission != "" {
		mode, err := strconv.ParseUint(o.Permission, 8, 32)
		if err != nil || mode > 0o777 {
			return fmt.Errorf("%s: filePermission %.20q is not an octal mode up to 0777", o.Name, o.Permission)
		}
		o.mode = int32(mode)
	}
	return nil
}

// file is the name of the object's file, or of the directory of its versions.
func (o *object) file() string {
	if o.Alias != "" {
		return o.Alias
	}
	return o.Name
}

// id is how the driver knows the object.
func (o *object) id() string { return o.Type + "/" + o.Name }

// checkPath refuses the path of a file that would not be below the mount, on
// any system, or that the driver's way of replacing files would confuse: it
// keeps its own entries under names that begin with two dots.
func checkPath(p string) error {
	switch {
	case p == "" || p == "." || len(p) > 1024:
		return errors.New("not the name of a file")
	case !filepath.IsLocal(p) || path.Clean(p) != p || strings.ContainsAny(p, "\\:\x00\n"):
		return fmt.Errorf("%.100q is not a plain path below the mount", p)
	}
	for element := range strings.SplitSeq(p, "/") {
		if strings.HasPrefix(element, "..") || len(element) > 255 {
			return fmt.Errorf("%.100q is not a plain path below the mount", p)
		}
	}
	return nil
}

// checkFiles refuses files that stand in each other's way.
func checkFiles(files []File) error {
	seen := map[string]bool{}
	for _, f := range files {
		if seen[f.Path] {
			return fmt.Errorf("two objects have the file name %s; give one an objectAlias", f.Path)
		}
		seen[f.Path] = true
	}
	for _, f := range files {
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			if seen[dir] {
				return fmt.Errorf("%s is the file of one object and a directory of another", dir)
			}
		}
	}
	return nil
}
