package portal

import "verdant/hcert/valueset"

// option is one choice of a form.
type option struct{ Code, Name string }

// choices returns the codes of a value set that may be issued, in the order of
// their names.
func choices(id valueset.ID) []option {
	entries := valueset.Builtin().Get(id).Entries("en", true)
	out := make([]option, len(entries))
	for i, e := range entries {
		out[i] = option{e.Code, e.Text("en")}
	}
	return out
}

func diseases() []option    { return choices(valueset.Diseases) }
func prophylaxes() []option { return choices(valueset.Prophylaxes) }
func holders() []option     { return choices(valueset.Holders) }
func countries() []option   { return choices(valueset.Countries) }

// product is a vaccine with the type and the holder that belong to it.
type product struct {
	option
	Prophylaxis, Holder string
}

func products() []product {
	known := map[string]valueset.Vaccine{}
	for _, v := range valueset.Vaccines() {
		known[v.Product] = v
	}
	var out []product
	for _, o := range choices(valueset.Products) {
		p := product{option: o}
		if v, ok := known[o.Code]; ok {
			p.Prophylaxis, p.Holder = v.Prophylaxes[0], v.Holder
		}
		out = append(out, p)
	}
	return out
}

func nameOf(id valueset.ID, code string) string { return valueset.Builtin().Text(id, code, "en") }
