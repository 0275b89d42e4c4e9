package portal

// A small selection of the eHealth Network's value sets: what a practice in
// the EU records. The identifiers are theirs.

type option struct{ Code, Name string }

func diseases() []option { return []option{{"840539006", "COVID-19"}} }

func prophylaxes() []option {
	return []option{
		{"1119349007", "SARS-CoV-2 mRNA vaccine"},
		{"29061000087103", "COVID-19 non-replicating viral vector vaccine"},
		{"1162643001", "SARS-CoV-2 recombinant spike protein antigen vaccine"},
		{"1157024006", "Inactivated whole SARS-CoV-2 antigen vaccine"},
		{"1119305005", "SARS-CoV-2 antigen vaccine"},
		{"28531000087107", "COVID-19 vaccine"},
	}
}

func holders() []option {
	return []option{
		{"ORG-100030215", "Biontech Manufacturing GmbH"},
		{"ORG-100031184", "Moderna Biotech Spain S.L."},
		{"ORG-100001699", "AstraZeneca AB"},
		{"ORG-100001417", "Janssen-Cilag International"},
		{"ORG-100032020", "Novavax CZ a.s."},
		{"ORG-100036422", "Valneva France"},
		{"ORG-100000788", "Sanofi Pasteur"},
		{"ORG-100036914", "Hipra Human Health S.L."},
	}
}

// product is a vaccine with the type and the holder that belong to it.
type product struct {
	option
	Prophylaxis, Holder string
}

func products() []product {
	return []product{
		{option{"EU/1/20/1528", "Comirnaty"}, "1119349007", "ORG-100030215"},
		{option{"EU/1/20/1507", "Spikevax (previously COVID-19 Vaccine Moderna)"}, "1119349007", "ORG-100031184"},
		{option{"EU/1/21/1529", "Vaxzevria"}, "29061000087103", "ORG-100001699"},
		{option{"EU/1/20/1525", "Jcovden (previously COVID-19 Vaccine Janssen)"}, "29061000087103", "ORG-100001417"},
		{option{"EU/1/21/1618", "Nuvaxovid"}, "1162643001", "ORG-100032020"},
		{option{"EU/1/21/1624", "COVID-19 Vaccine Valneva"}, "28531000087107", "ORG-100036422"},
		{option{"EU/1/21/1580", "VidPrevtyn Beta"}, "28531000087107", "ORG-100000788"},
		{option{"EU/1/22/1709", "Bimervax"}, "28531000087107", "ORG-100036914"},
	}
}

func countries() []option {
	return []option{
		{"AT", "Austria"}, {"BE", "Belgium"}, {"BG", "Bulgaria"}, {"HR", "Croatia"}, {"CY", "Cyprus"}, {"CZ", "Czechia"}, {"DK", "Denmark"},
		{"EE", "Estonia"}, {"FI", "Finland"}, {"FR", "France"}, {"DE", "Germany"}, {"GR", "Greece"}, {"HU", "Hungary"}, {"IS", "Iceland"},
		{"IE", "Ireland"}, {"IT", "Italy"}, {"LV", "Latvia"}, {"LI", "Liechtenstein"}, {"LT", "Lithuania"}, {"LU", "Luxembourg"}, {"MT", "Malta"},
		{"NL", "Netherlands"}, {"NO", "Norway"}, {"PL", "Poland"}, {"PT", "Portugal"}, {"RO", "Romania"}, {"SK", "Slovakia"}, {"SI", "Slovenia"},
		{"ES", "Spain"}, {"SE", "Sweden"}, {"CH", "Switzerland"}, {"GB", "United Kingdom"}, {"US", "United States"},
	}
}

func productOptions() []option {
	var out []option
	for _, p := range products() {
		out = append(out, p.option)
	}
	return out
}

func nameOf(options []option, code string) string {
	for _, o := range options {
		if o.Code == code {
			return o.Name
		}
	}
	return code
}
