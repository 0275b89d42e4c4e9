package keyvault

import (
	"io"
	"net/http"
	"slices"
	"strings"

	"verdant/azure/rest"
	"verdant/internal/route"
)

// settings are the settings of a managed HSM, with what they are at first.
// AllowKeyManagementOperationsThroughARM is kept for clients; there is no
// control plane that would manage keys.
var settings = []setting{{Name: "AllowKeyManagementOperationsThroughARM", Value: "false", Type: "boolean"}}

type setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Type  string `json:"type"`
}

func (s *Server) settingRoutes(add adder) {
	add("SettingsList", http.MethodGet, "/settings", actionsHSM+"settings/read/action", route.NoBody, quick, s.listSettings)
	add("SettingGet", http.MethodGet, "/settings/{setting}", actionsHSM+"settings/read/action", route.NoBody, quick, s.getSetting)
	add("SettingUpdate", http.MethodPatch, "/settings/{setting}", actionsHSM+"settings/write/action", smallBody, quick, s.updateSetting)
}

func (st hsmState) settings() []setting {
	out := slices.Clone(settings)
	for i := range out {
		if value, ok := st.Settings[out[i].Name]; ok {
			out[i].Value = value
		}
	}
	return out
}

func (st hsmState) setting(name string) (setting, error) {
	for _, one := range st.settings() {
		if strings.EqualFold(one.Name, name) {
			return one, nil
		}
	}
	return setting{}, rest.Errorf(http.StatusBadRequest, "InvalidSetting", "Invalid setting name. Please check the spelling of the setting name to update.")
}

func (s *Server) listSettings(_ *call, r *http.Request) (int, any, error) {
	v, err := s.view(r.Context())
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string][]setting{"settings": v.state.settings()}, nil
}

func (s *Server) getSetting(_ *call, r *http.Request) (int, any, error) {
	v, err := s.view(r.Context())
	if err != nil {
		return 0, nil, err
	}
	one, err := v.state.setting(r.PathValue("setting"))
	return http.StatusOK, one, err
}

func (s *Server) updateSetting(_ *call, r *http.Request) (int, any, error) {
	var in struct {
		Value *string `json:"value"`
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, nil, badParameter("The request body could not be read.")
	}
	if len(body) == 0 {
		return 0, nil, rest.Errorf(http.StatusBadRequest, "Nocontentprovided", "No content provided")
	}
	if err := decodeBytes(body, &in); err != nil {
		return 0, nil, err
	}
	var out setting
	err = s.changeState(r.Context(), func(_ Tx, st *hsmState) error {
		one, err := st.setting(r.PathValue("setting"))
		if err != nil {
			return err
		}
		if in.Value == nil || *in.Value != "true" && *in.Value != "false" {
			return badParameter("Property value must be \"true\" or \"false\".")
		}
		if st.Settings == nil {
			st.Settings = map[string]string{}
		}
		one.Value = *in.Value
		st.Settings[one.Name], out = one.Value, one
		return nil
	})
	return http.StatusOK, out, err
}
