package portal

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"verdant/dcc/wire"
	"verdant/hcert"
	"verdant/hcert/valueset"
)

// field is one input of the form as the page shows it.
type field struct {
	Name    string
	Value   string
	Error   string
	Options []option
}

// vaccinationForm is the form's content. The names of its inputs are the
// paths of the DCC payload, so that what the issuance service says about a
// path finds its field.
type vaccinationForm struct {
	values  url.Values
	errors  map[string]string // by input name
	country string            // whose practice decides how a name is written
}

// Inputs of the form, in the order of the page.
const (
	inGiven, inFamily              = "nam.gn", "nam.fn"
	inGivenStandard, inFamilyStand = "nam.gnt", "nam.fnt"
	inBirth                        = "dob" // .day, .month, .year
	inDisease                      = "v.tg"
	inProduct, inType, inHolder    = "v.mp", "v.vp", "v.ma"
	inDose, inDoses                = "v.dn", "v.sd"
	inDate                         = "v.dt" // .day, .month, .year
	inCountry, inIssuer            = "v.co", "v.is"
)

// inputOrder is the order of the error summary.
func inputOrder() []string {
	return []string{inGiven, inFamily, inGivenStandard, inFamilyStand, inBirth, inProduct, inType, inHolder, inDisease, inDose, inDoses, inDate, inCountry, inIssuer}
}

func (f *vaccinationForm) get(name string) string { return strings.TrimSpace(f.values.Get(name)) }

func (f *vaccinationForm) complain(name, format string, args ...any) {
	if f.errors[name] == "" {
		f.errors[name] = fmt.Sprintf(format, args...)
	}
}

var standardPattern = regexp.MustCompile(`^[A-Z<]*$`)

// payload checks the form and makes the DCC payload of it. What is wrong is in
// f.errors afterwards.
func (f *vaccinationForm) payload(now time.Time) hcert.DCC {
	name := hcert.Name{Given: f.name(inGiven, "Given name"), Family: f.name(inFamily, "Family name")}
	if name.Given == "" && name.Family == "" {
		f.complain(inFamily, "Enter the family name, or the given name if there is only one")
	}
	name.GivenStandardised = f.standard(inGivenStandard, name.Given)
	name.FamilyStandardised = f.standard(inFamilyStand, name.Family)
	if name.FamilyStandardised == "" && f.errors[inFamily] == "" && f.errors[inFamilyStand] == "" {
		// The schema needs it, also of people with one name.
		name.FamilyStandardised = name.GivenStandardised
		if name.FamilyStandardised == "" {
			f.complain(inFamilyStand, "Enter the family name in capital letters A to Z: it cannot be derived from the name")
		}
	}
	v := hcert.Vaccination{Target: f.choice(inDisease, diseases(), "Choose the disease"), Product: f.choice(inProduct, choices(valueset.Products), "Choose the vaccine")}
	f.derive(&v)
	v.Dose, v.Doses = f.number(inDose, "Enter which dose this was"), f.number(inDoses, "Enter the doses in the series")
	v.Date = f.date(inDate, "date of vaccination", false, now)
	v.Country = f.choice(inCountry, countries(), "Choose the country")
	v.Issuer = f.name(inIssuer, "Certificate issuer")
	if v.Issuer == "" {
		f.complain(inIssuer, "Enter the certificate issuer")
	}
	return hcert.DCC{Version: "1.3.0", Name: name, DateOfBirth: f.date(inBirth, "date of birth", true, now), Vaccinations: []hcert.Vaccination{v}}
}

// derive fills in the vaccine's type and holder from the product where the
// form leaves them open.
func (f *vaccinationForm) derive(v *hcert.Vaccination) {
	for _, p := range products() {
		if p.Code == v.Product {
			v.Prophylaxis, v.Manufacturer = p.Prophylaxis, p.Holder
		}
	}
	if f.get(inType) != "" {
		v.Prophylaxis = f.choice(inType, prophylaxes(), "Choose the type of vaccine")
	}
	if f.get(inHolder) != "" {
		v.Manufacturer = f.choice(inHolder, holders(), "Choose the marketing authorisation holder")
	}
}

func (f *vaccinationForm) name(input, label string) string {
	v := f.get(input)
	switch {
	case !utf8.ValidString(v) || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }):
		f.complain(input, "%s has a character that cannot be used", label)
		return ""
	case utf8.RuneCountInString(v) > hcert.MaxName:
		f.complain(input, "%s must be %d characters or fewer", label, hcert.MaxName)
	}
	return v
}

// standard reads a standardised name, or derives it from the name.
func (f *vaccinationForm) standard(input, name string) string {
	v := strings.ToUpper(f.get(input))
	if v == "" {
		derived, err := hcert.StandardiseName(name, hcert.NameOptions{Country: f.country})
		if err != nil {
			f.complain(input, "Enter the name in capital letters A to Z: it cannot be derived from the name")
		}
		return derived
	}
	v = strings.ReplaceAll(v, " ", "<")
	switch {
	case !standardPattern.MatchString(v):
		f.complain(input, "Use capital letters A to Z, and < between words")
	case len(v) > hcert.MaxName:
		f.complain(input, "Use %d characters or fewer", hcert.MaxName)
	}
	return v
}

func (f *vaccinationForm) choice(input string, options []option, missing string) string {
	v := f.get(input)
	for _, o := range options {
		if o.Code == v {
			return v
		}
	}
	f.complain(input, "%s", missing)
	return ""
}

func (f *vaccinationForm) number(input, missing string) int {
	v := f.get(input)
	n, err := strconv.Atoi(v)
	switch {
	case v == "":
		f.complain(input, "%s", missing)
	case err != nil || n < 1 || n > 9:
		f.complain(input, "Enter a number from 1 to 9")
	}
	return n
}

// date reads a date from its three inputs. Of a date of birth the day, or day
// and month, may be unknown.
func (f *vaccinationForm) date(input, label string, partial bool, now time.Time) string {
	day, month, year := f.get(input+".day"), f.get(input+".month"), f.get(input+".year")
	if day == "" && month == "" && year == "" {
		f.complain(input, "Enter the %s", label)
		return ""
	}
	y, errYear := strconv.Atoi(year)
	m, errMonth := strconv.Atoi(month)
	d, errDay := strconv.Atoi(day)
	switch {
	case year == "", errYear != nil, y < 1900, y > 2099:
		f.complain(input, "The %s must have a year of four digits", label)
		return ""
	case month == "" && day != "":
		f.complain(input, "The %s must have a month if it has a day", label)
		return ""
	case !partial && (month == "" || day == ""):
		f.complain(input, "The %s must have a day, a month and a year", label)
		return ""
	case month != "" && (errMonth != nil || m < 1 || m > 12):
		f.complain(input, "The month of the %s must be a number from 1 to 12", label)
		return ""
	case day != "" && (errDay != nil || d < 1 || d > 31):
		f.complain(input, "The day of the %s must be a number from 1 to 31", label)
		return ""
	}
	out := fmt.Sprintf("%04d", y)
	if month != "" {
		out += fmt.Sprintf("-%02d", m)
	}
	if day != "" {
		out += fmt.Sprintf("-%02d", d)
		if _, err := time.Parse(time.DateOnly, out); err != nil {
			f.complain(input, "The %s is not a day of the calendar", label)
			return ""
		}
	}
	// A day of grace covers time zones.
	if latest := now.UTC().AddDate(0, 0, 1).Format(time.DateOnly); out > latest[:len(out)] {
		f.complain(input, "The %s must not be in the future", label)
	}
	return out
}

// formPath finds the input for a path of the payload, such as v[0].dn.
func formPath(path string) string {
	path = strings.Replace(strings.TrimPrefix(path, "$."), "v[0]", "v", 1)
	for _, known := range inputOrder() {
		if path == known {
			return known
		}
	}
	return ""
}

// Field returns an input for the page.
func (f *vaccinationForm) Field(name string, options ...[]option) field {
	out := field{Name: name, Value: f.values.Get(name), Error: f.errors[name]}
	if len(options) > 0 {
		out.Options = options[0]
	}
	return out
}

// summary is one line of the list of errors above the form.
type summary struct{ Target, Text string }

func (f *vaccinationForm) summaries() []summary {
	var out []summary
	for _, name := range inputOrder() {
		if text := f.errors[name]; text != "" {
			target := name
			if name == inBirth || name == inDate {
				target += ".day"
			}
			out = append(out, summary{target, text})
		}
	}
	return out
}

// signedIn returns the session of a person who may issue, or answers.
func (s *Server) signedIn(w http.ResponseWriter, r *http.Request) *session {
	sess := s.session(r)
	if sess == nil {
		if r.Method == http.MethodGet {
			http.Redirect(w, r, "/auth/login?"+url.Values{"return": {r.URL.Path}}.Encode(), http.StatusFound)
			return nil
		}
		s.problemPage(w, r, http.StatusUnauthorized, "You have been signed out", "Nothing was issued. Sign in and enter the data again.", "")
		return nil
	}
	if !s.mayIssue(sess.roles) {
		s.problemPage(w, r, http.StatusForbidden, "You may not issue certificates",
			"Your account is not among those who may issue. Ask your administrator for the role "+s.cfg.Role+".", "")
		return nil
	}
	return sess
}

// vaccinationForm shows an empty form.
func (s *Server) vaccinationForm(w http.ResponseWriter, r *http.Request) {
	sess := s.signedIn(w, r)
	if sess == nil {
		return
	}
	f := &vaccinationForm{values: url.Values{inDisease: {diseases()[0].Code}, inCountry: {s.cfg.Country}, inIssuer: {s.cfg.Issuer}}}
	s.showVaccination(w, sess, http.StatusOK, f, nil)
}

func (s *Server) showVaccination(w http.ResponseWriter, sess *session, status int, f *vaccinationForm, trouble *problem) {
	id := random()
	s.sessions.offerForm(sess, id)
	data := map[string]any{"Person": sess.name, "FormID": id, "Form": f, "Errors": f.summaries(), "Products": products(),
		"Trouble": trouble,
		"Given":   f.Field(inGiven), "Family": f.Field(inFamily), "GivenStandard": f.Field(inGivenStandard), "FamilyStandard": f.Field(inFamilyStand),
		"Disease": f.Field(inDisease, diseases()), "Product": f.Field(inProduct, choices(valueset.Products)), "Type": f.Field(inType, prophylaxes()),
		"Holder": f.Field(inHolder, holders()), "Dose": f.Field(inDose), "Doses": f.Field(inDoses),
		"Country": f.Field(inCountry, countries()), "Issuer": f.Field(inIssuer),
		"Birth": f.dateView(inBirth), "Date": f.dateView(inDate)}
	s.pages.show(w, status, "vaccination.html", data)
}

// dateView is a date's three inputs for the page.
type dateView struct{ Name, Day, Month, Year, Error string }

func (f *vaccinationForm) dateView(name string) dateView {
	return dateView{name, f.values.Get(name + ".day"), f.values.Get(name + ".month"), f.values.Get(name + ".year"), f.errors[name]}
}

// vaccinationSubmit issues the certificate and shows it, once.
func (s *Server) vaccinationSubmit(w http.ResponseWriter, r *http.Request) {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		s.problemPage(w, r, http.StatusForbidden, "Nothing was issued", "The form came from another site.", "")
		return
	}
	sess := s.signedIn(w, r)
	if sess == nil {
		return
	}
	if err := r.ParseForm(); err != nil {
		p := s.asProblem(err)
		s.problemPage(w, r, p.status, "Nothing was issued", "The form is not well formed.", p.Code)
		return
	}
	if !s.sessions.takeForm(sess, r.PostForm.Get("form")) {
		s.problemPage(w, r, http.StatusConflict, "This form was sent already", "A form issues one certificate. Begin a new one for the next certificate.", "")
		return
	}
	f := &vaccinationForm{values: r.PostForm, errors: map[string]string{}, country: s.cfg.Country}
	dcc := f.payload(s.now())
	if len(f.errors) > 0 {
		s.showVaccination(w, sess, http.StatusUnprocessableEntity, f, nil)
		return
	}
	payload, err := json.Marshal(dcc)
	if err != nil {
		s.showVaccination(w, sess, http.StatusInternalServerError, f, s.asProblem(err))
		return
	}
	cert, err := s.issue(r.Context(), payload, sess.objectID)
	if err != nil {
		p := s.asProblem(err)
		s.showVaccination(w, sess, p.status, f, f.take(p))
		return
	}
	s.showCertificate(w, sess, dcc, cert)
}

// take moves what the issuance service says about fields to their inputs and
// returns what is left to say above the form, if anything.
func (f *vaccinationForm) take(p *problem) *problem {
	var left []wire.FieldError
	for _, e := range p.Fields {
		if input := formPath(e.Field); input != "" {
			f.complain(input, "The issuance service refused this: %s", e.Why)
		} else {
			left = append(left, e)
		}
	}
	if len(p.Fields) > 0 && len(left) == 0 {
		return nil
	}
	out := *p
	out.Fields = left
	return &out
}

func (s *Server) showCertificate(w http.ResponseWriter, sess *session, dcc hcert.DCC, cert issued) {
	code, err := qrSVG(cert.HC1)
	if err != nil && !errors.Is(err, errNoQR) {
		s.log.Error("draw QR code", "why", err.Error())
	}
	v := dcc.Vaccinations[0]
	s.pages.show(w, http.StatusOK, "certificate.html", map[string]any{
		"Person": sess.name, "DCC": dcc, "V": v, "Certificate": cert, "QR": template.HTML(code),
		"Disease": nameOf(valueset.Diseases, v.Target), "Product": nameOf(valueset.Products, v.Product), "Type": nameOf(valueset.Prophylaxes, v.Prophylaxis),
		"Holder": nameOf(valueset.Holders, v.Manufacturer), "Country": nameOf(valueset.Countries, v.Country),
		"Expires": cert.Expires.Format("2 January 2006")})
}
