package hcert

// ICVPLayout names a generation of the minimal payload.
type ICVPLayout string

// The layouts of the WHO's drafts. Both are read; an ICVP is written in the
// layout that it names, by default the newest.
const (
	ICVPDraft2024 ICVPLayout = "2024" // ntl, nid, ndt, v.dt
	ICVPDraft2026 ICVPLayout = "2026" // nt, id, dt, v, d, vx.dv
)

// ICVP is the minimal payload of an International Certificate of Vaccination
// or Prophylaxis (DVCMin and ICVPMin of the WHO's guides, sub-claim -6).
type ICVP struct {
	Layout         ICVPLayout
	Name           string
	DateOfBirth    string
	Sex            string
	Nationality    string
	DocumentNumber string
	DocumentType   string
	Guardian       string
	// Version and Issued are of the layout of 2026.
	Version     string
	Issued      string
	Vaccination ICVPVaccination
}

// ICVPVaccination is the one vaccination of an ICVP.
type ICVPVaccination struct {
	Product        string // of the WHO's catalogue, or a vaccine's code
	Date           string
	Batch          string
	Clinician      string
	Issuer         string
	ValidFrom      string
	ValidUntil     string
	Dose           string
	Disease        string
	TradeItem      string
	Manufacturer   string
	ManufacturerID string
}

// Profile returns ProfileICVP.
func (i *ICVP) Profile() Profile { return ProfileICVP }

// String names the profile only.
func (i *ICVP) String() string { return string(ProfileICVP) }

func readICVP(m map[string]any) *ICVP {
	i := &ICVP{Layout: ICVPDraft2024, Name: words(m["n"]), DateOfBirth: words(m["dob"]), Sex: coding(m["s"]).Code, Guardian: words(m["gn"])}
	var v map[string]any
	if _, ok := m["vx"]; ok {
		i.Layout = ICVPDraft2026
		i.Nationality, i.DocumentNumber, i.DocumentType = coding(m["nt"]).Code, words(m["id"]), coding(m["dt"]).Code
		i.Version, i.Issued = words(m["v"]), words(m["d"])
		v = only1(m["vx"])
		i.Vaccination.Date = words(v["dv"])
	} else {
		i.Nationality, i.DocumentNumber, i.DocumentType = coding(m["ntl"]).Code, words(m["nid"]), coding(m["ndt"]).Code
		v = only1(m["v"])
		i.Vaccination.Date = words(v["dt"])
	}
	o := &i.Vaccination
	o.Product, o.Batch, o.Clinician, o.Issuer = coding(v["vp"]).Code, words(v["bo"]), words(v["cn"]), words(v["is"])
	o.ValidFrom, o.ValidUntil, o.Dose, o.Disease = words(v["vls"]), words(v["vle"]), words(v["dn"]), coding(v["tg"]).Code
	o.TradeItem, o.Manufacturer, o.ManufacturerID = words(v["mp"]), words(v["ma"]), words(v["mid"])
	return i
}

// only1 reads an object, or a list of one object, as some issuers write it.
func only1(v any) map[string]any {
	if list, ok := v.([]any); ok && len(list) == 1 {
		v = list[0]
	}
	return object(v)
}

// Tree is the document as JSON would hold it.
func (i *ICVP) Tree() any {
	out, in, v := map[string]any{}, map[string]any{}, &i.Vaccination
	putText(out, "n", i.Name)
	putText(out, "dob", i.DateOfBirth)
	putText(out, "s", i.Sex)
	putText(out, "gn", i.Guardian)
	if i.Layout == ICVPDraft2024 {
		putText(out, "ntl", i.Nationality)
		putText(out, "nid", i.DocumentNumber)
		putText(out, "ndt", i.DocumentType)
		putText(in, "dt", v.Date)
		out["v"] = in
	} else {
		putText(out, "nt", i.Nationality)
		putText(out, "id", i.DocumentNumber)
		putText(out, "dt", i.DocumentType)
		putText(out, "v", i.Version)
		putText(out, "d", i.Issued)
		putText(in, "dv", v.Date)
		out["vx"] = in
	}
	for _, f := range []struct{ key, s string }{{"vp", v.Product}, {"bo", v.Batch}, {"cn", v.Clinician}, {"is", v.Issuer}, {"vls", v.ValidFrom}, {"vle", v.ValidUntil},
		{"dn", v.Dose}, {"tg", v.Disease}, {"mp", v.TradeItem}, {"ma", v.Manufacturer}, {"mid", v.ManufacturerID}} {
		putText(in, f.key, f.s)
	}
	return out
}

// Check demands what the guides do: name, date of birth, product, date and
// batch, and an issuer or a clinician.
func (i *ICVP) Check() error {
	c, v := demand{profile: ProfileICVP}, &i.Vaccination
	group, date := "vx", "vx.dv"
	if i.Layout == ICVPDraft2024 {
		group, date = "v", "v.dt"
	}
	c.filled("n", i.Name)
	c.filled("dob", i.DateOfBirth)
	c.date("dob", i.DateOfBirth)
	c.filled(group+".vp", v.Product)
	c.filled(date, v.Date)
	c.date(date, v.Date)
	c.filled(group+".bo", v.Batch)
	c.date(group+".vls", v.ValidFrom)
	c.date(group+".vle", v.ValidUntil)
	c.that(v.Issuer != "" || v.Clinician != "", group+".is", "or cn must be present")
	return c.err()
}
