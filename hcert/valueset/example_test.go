package valueset_test

import (
	"fmt"

	"verdant/hcert/valueset"
)

// A verifier shows a person what the codes of a certificate mean, and says so
// where a code is unknown, without refusing the certificate.
func Example() {
	sets := valueset.Builtin()
	fmt.Println(sets.Text(valueset.Products, "EU/1/20/1528"))
	fmt.Println(sets.Text(valueset.Results, "260415000", "fr"))
	fmt.Println(sets.Text(valueset.Countries, "IE", "de"))
	fmt.Println(sets.Check(valueset.Products, "EU/1/30/9999"))
	// Output:
	// Comirnaty
	// non détecté
	// Irland
	// missing
}

// A set as a gateway serves it takes the place of the built-in one.
func ExampleSets_With() {
	newer, err := valueset.Parse([]byte(`{"valueSetId": "covid-19-lab-result", "valueSetDate": "2027-01-01", "valueSetValues": {
		"260415000": {"display": "Not found", "lang": "en", "active": true, "system": "http://snomed.info/sct", "version": ""}}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	sets := valueset.Builtin().With(newer)
	fmt.Println(sets.Text(valueset.Results, "260415000"), "since", sets.Get(valueset.Results).Date())
	// Output: Not found since 2027-01-01
}
