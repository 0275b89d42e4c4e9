package rest

import (
	"net/http"
	"strings"

	"verdant/internal/route"
)

// CheckVersion refuses a request whose api-version is missing or not one of
// known, with the error that Azure Resource Manager and Key Vault send.
// Parameter names match without regard to case and after percent-decoding,
// because stock clients send them both ways.
func CheckVersion(r *http.Request, known route.Versions) error {
	got := ""
	for name, values := range r.URL.Query() {
		if strings.EqualFold(name, "api-version") && len(values) > 0 {
			got = values[0]
		}
	}
	switch {
	case got == "" && !known.Accepts("*"):
		return Errorf(http.StatusBadRequest, "BadParameter", "The api-version query parameter is required for this operation.")
	case !known.Accepts(got):
		return Errorf(http.StatusBadRequest, "BadParameter", "The specified version (%.40q) is not recognized. Consider using the latest supported version (%s).", got, known[len(known)-1])
	}
	return nil
}
