package hcert

// DDCCHolder is whom a DDCC is about.
type DDCCHolder struct {
	Name       string
	BirthDate  string // YYYY, YYYY-MM, YYYY-MM-DD or ""
	Sex        Coding
	Identifier Identifier
}

// DDCCCertificate says who issued a DDCC, and for how long.
type DDCCCertificate struct {
	Issuer  Identifier // an organization
	KID     string
	HCID    Identifier
	DDCCID  Identifier
	Version string
	Start   string // of the period of validity
	End     string
}

// DDCCVaccination is the WHO's core data set for a vaccination status
// (DDCCCoreDataSetVS, sub-claim 3), as CBOR holds it.
type DDCCVaccination struct {
	DDCCHolder
	Vaccination struct {
		Vaccine      Coding
		Brand        Coding
		Manufacturer Coding
		Holder       Coding // of the market authorisation
		Lot          string
		Date         string
		ValidFrom    string
		Dose         int
		TotalDoses   int
		Country      Coding
		Centre       string
		Practitioner Identifier
		Disease      Coding
		NextDose     string
	}
	Certificate DDCCCertificate
}

// DDCCTest is the WHO's core data set for a test result (DDCCCoreDataSetTR,
// sub-claim 4).
type DDCCTest struct {
	DDCCHolder
	Test struct {
		Pathogen     Coding
		Type         Coding
		Brand        Coding
		Manufacturer Coding
		Origin       Coding // of the specimen
		Date         string
		Result       Coding
		Centre       string
		Country      Coding
	}
	Certificate DDCCCertificate
}

// Profile returns ProfileVaccination.
func (d *DDCCVaccination) Profile() Profile { return ProfileVaccination }

// Profile returns ProfileTest.
func (d *DDCCTest) Profile() Profile { return ProfileTest }

// String names the profile only.
func (d *DDCCVaccination) String() string { return string(ProfileVaccination) }

// String names the profile only.
func (d *DDCCTest) String() string { return string(ProfileTest) }

func readHolder(m map[string]any) DDCCHolder {
	return DDCCHolder{Name: text(m, "name"), BirthDate: text(m, "birthDate"), Sex: coding(m["sex"]), Identifier: identifier(m["identifier"])}
}

func (h DDCCHolder) put(m map[string]any) {
	putText(m, "name", h.Name)
	putText(m, "birthDate", h.BirthDate)
	putCoding(m, "sex", h.Sex)
	putIdentifier(m, "identifier", h.Identifier)
}

// reference reads FHIR's Reference: text, an identifier, or an object that
// says where the organization's record is.
func reference(v any) Identifier {
	m := object(v)
	if m == nil {
		return identifier(v)
	}
	if inner, ok := m["identifier"]; ok {
		return identifier(inner)
	}
	if s := text(m, "reference"); s != "" {
		return Identifier{Value: s}
	}
	return identifier(v)
}

func readCertificate(v any) DDCCCertificate {
	m := object(v)
	period := object(m["period"])
	return DDCCCertificate{Issuer: reference(m["issuer"]), KID: text(m, "kid"), HCID: identifier(m["hcid"]), DDCCID: identifier(m["ddccid"]),
		Version: words(m["version"]), Start: text(period, "start"), End: text(period, "end")}
}

func (c DDCCCertificate) put(m map[string]any) {
	out := map[string]any{}
	putIdentifier(out, "issuer", c.Issuer)
	putText(out, "kid", c.KID)
	putIdentifier(out, "hcid", c.HCID)
	putIdentifier(out, "ddccid", c.DDCCID)
	putText(out, "version", c.Version)
	period := map[string]any{}
	putText(period, "start", c.Start)
	putText(period, "end", c.End)
	if len(period) > 0 {
		out["period"] = period
	}
	if len(out) > 0 {
		m["certificate"] = out
	}
}

func readDDCCVaccination(m map[string]any) *DDCCVaccination {
	d := &DDCCVaccination{DDCCHolder: readHolder(m), Certificate: readCertificate(m["certificate"])}
	in, v := object(m["vaccination"]), &d.Vaccination
	v.Vaccine, v.Brand, v.Manufacturer, v.Holder = coding(in["vaccine"]), coding(in["brand"]), coding(in["manufacturer"]), coding(in["maholder"])
	v.Lot, v.Date, v.ValidFrom, v.NextDose = words(in["lot"]), text(in, "date"), text(in, "validFrom"), text(in, "nextDose")
	v.Dose, v.TotalDoses = count(in["dose"]), count(in["totalDoses"])
	if v.TotalDoses == 0 {
		v.TotalDoses = count(in["total_doses"]) // as some issuers spell it
	}
	v.Country, v.Centre, v.Disease, v.Practitioner = coding(in["country"]), text(in, "centre"), coding(in["disease"]), identifier(in["practitioner"])
	return d
}

// Tree is the document as JSON would hold it.
func (d *DDCCVaccination) Tree() any {
	out, in, v := map[string]any{}, map[string]any{}, &d.Vaccination
	d.put(out)
	putCoding(in, "vaccine", v.Vaccine)
	putCoding(in, "brand", v.Brand)
	putCoding(in, "manufacturer", v.Manufacturer)
	putCoding(in, "maholder", v.Holder)
	putText(in, "lot", v.Lot)
	putText(in, "date", v.Date)
	putText(in, "validFrom", v.ValidFrom)
	putCount(in, "dose", v.Dose)
	putCount(in, "totalDoses", v.TotalDoses)
	putCoding(in, "country", v.Country)
	putText(in, "centre", v.Centre)
	putIdentifier(in, "practitioner", v.Practitioner)
	putCoding(in, "disease", v.Disease)
	putText(in, "nextDose", v.NextDose)
	out["vaccination"] = in
	d.Certificate.put(out)
	return out
}

// Check demands what the core data set does.
func (d *DDCCVaccination) Check() error {
	c, v := demand{profile: ProfileVaccination}, &d.Vaccination
	c.holder(d.DDCCHolder)
	c.filled("vaccination.vaccine", v.Vaccine.Code+v.Vaccine.Display)
	c.filled("vaccination.brand", v.Brand.Code+v.Brand.Display)
	c.filled("vaccination.lot", v.Lot)
	c.filled("vaccination.date", v.Date)
	c.date("vaccination.date", v.Date)
	c.date("vaccination.validFrom", v.ValidFrom)
	c.date("vaccination.nextDose", v.NextDose)
	c.that(v.Dose > 0, "vaccination.dose", "must be a number of at least 1")
	c.filled("vaccination.country", v.Country.Code+v.Country.Display)
	return c.err()
}

func readDDCCTest(m map[string]any) *DDCCTest {
	d := &DDCCTest{DDCCHolder: readHolder(m), Certificate: readCertificate(m["certificate"])}
	in, t := object(m["test"]), &d.Test
	t.Pathogen, t.Type, t.Brand, t.Manufacturer = coding(in["pathogen"]), coding(in["type"]), coding(in["brand"]), coding(in["manufacturer"])
	t.Origin, t.Date, t.Result = coding(in["origin"]), text(in, "date"), coding(in["result"])
	t.Centre, t.Country = text(in, "centre"), coding(in["country"])
	return d
}

// Tree is the document as JSON would hold it.
func (d *DDCCTest) Tree() any {
	out, in, t := map[string]any{}, map[string]any{}, &d.Test
	d.put(out)
	putCoding(in, "pathogen", t.Pathogen)
	putCoding(in, "type", t.Type)
	putCoding(in, "brand", t.Brand)
	putCoding(in, "manufacturer", t.Manufacturer)
	putCoding(in, "origin", t.Origin)
	putText(in, "date", t.Date)
	putCoding(in, "result", t.Result)
	putText(in, "centre", t.Centre)
	putCoding(in, "country", t.Country)
	out["test"] = in
	d.Certificate.put(out)
	return out
}

// Check demands what the core data set does.
func (d *DDCCTest) Check() error {
	c, t := demand{profile: ProfileTest}, &d.Test
	c.holder(d.DDCCHolder)
	c.filled("test.pathogen", t.Pathogen.Code+t.Pathogen.Display)
	c.filled("test.type", t.Type.Code+t.Type.Display)
	c.filled("test.date", t.Date)
	c.date("test.date", t.Date)
	c.filled("test.result", t.Result.Code+t.Result.Display)
	c.filled("test.country", t.Country.Code+t.Country.Display)
	return c.err()
}

func (d *demand) holder(h DDCCHolder) {
	d.filled("name", h.Name)
	d.that(birthPartialOrEmpty(h.BirthDate), "birthDate", "must be a date of birth, complete or in part")
}
