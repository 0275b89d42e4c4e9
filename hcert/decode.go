package hcert

import (
	"strings"
	"sync"
)

// Prefix begins every text of version 1 of the container.
const Prefix = "HC1:"

// Unverified is a certificate taken apart, with nothing proven about it. Each
// field is the result of one stage; fields beyond the stage that refused the
// certificate are nil.
type Unverified struct {
	Text       string  // as given, with the prefix
	Encoded    string  // without the prefix
	Compressed []byte  // after base45
	COSE       string  // after zlib, raw bytes
	Sign1      *Sign1  // the signed message
	Claims     *Claims // its claims
	// Profile says what the health certificate claim holds; "" if nothing that
	// is known.
	Profile  Profile
	Payload  *Payload  // of a DCC
	Document *Document // of any other profile
}

// Kind returns what a document signer must be allowed to sign: the type of a
// DCC by the group that is present, or that of the document; "" if there is
// none.
func (u *Unverified) Kind() Kind {
	switch {
	case u.Payload != nil:
		return u.Payload.Kind()
	case u.Document != nil:
		return u.Document.Kind()
	}
	return ""
}

// Decoder takes certificates apart. Its zero value works; it is safe for
// concurrent use and cheaper when reused.
type Decoder struct {
	Limits Limits

	inflaters sync.Pool
}

// Unprefix removes "HC1:" and refuses a text without it. Blanks around the
// text, as a scanner or a shell may add, are not part of it; a trailing space
// that belongs to base45 cannot be told from one, so only line ends and tabs
// are removed.
func Unprefix(text string) (string, error) {
	text = strings.Trim(text, "\r\n\t")
	rest, ok := strings.CutPrefix(text, Prefix)
	if !ok {
		return "", refuse(StagePrefix, WrongPrefix, "")
	}
	return rest, nil
}

// Decode takes an "HC1:…" text apart. On an error the *Unverified still holds
// what the stages before it produced.
func (d *Decoder) Decode(text string) (*Unverified, error) {
	all := new(struct {
		u Unverified
		s Sign1
		c Claims
		p Payload
	})
	u := &all.u
	u.Text = text
	if len(text) > d.Limits.text() {
		return u, refuse(StagePrefix, TooLarge, "text")
	}
	var err error
	if u.Encoded, err = Unprefix(text); err != nil {
		return u, err
	}
	if u.Compressed, err = DecodeBase45(u.Encoded); err != nil {
		return u, err
	}
	f, ok := d.inflaters.Get().(*inflater)
	if !ok {
		f = new(inflater)
	}
	u.COSE, err = f.inflate(u.Compressed, d.Limits.inflated())
	d.inflaters.Put(f)
	if err != nil {
		return u, err
	}
	return u, u.decodeCOSE(&all.s, &all.c, &all.p, d.Limits)
}

// DecodeCOSE takes a bare COSE message apart, for callers that have no text.
func (d *Decoder) DecodeCOSE(msg []byte) (*Unverified, error) {
	u := &Unverified{COSE: string(msg)}
	if len(msg) > d.Limits.inflated() {
		return u, refuse(StageCOSE, TooLarge, "message")
	}
	return u, u.decodeCOSE(new(Sign1), new(Claims), new(Payload), d.Limits)
}

func (u *Unverified) decodeCOSE(s *Sign1, c *Claims, p *Payload, l Limits) error {
	if err := s.parse(u.COSE, l); err != nil {
		return err
	}
	u.Sign1 = s
	if err := c.parse(s.Payload, l); err != nil {
		return err
	}
	u.Claims = c
	return u.findProfile(p, l)
}
