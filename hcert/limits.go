package hcert

// Limits bounds what a Decoder accepts. The zero value of a field means its
// default, so Limits{} is the recommended setting.
type Limits struct {
	// TextBytes bounds the "HC1:…" text. Default 8192; the largest QR code
	// holds 4296 characters of the base45 alphabet.
	TextBytes int
	// InflatedBytes bounds the COSE message after decompression. Default 65536.
	InflatedBytes int
	// Depth bounds the nesting of CBOR. Default 16; a DCC has 6 levels.
	Depth int
	// Items bounds the number of CBOR data items, map keys included, in one
	// message. Default 2048; a large DCC has about 100.
	Items int
}

func (l Limits) text() int     { return orDefault(l.TextBytes, 8192) }
func (l Limits) inflated() int { return orDefault(l.InflatedBytes, 65536) }
func (l Limits) depth() int    { return orDefault(l.Depth, 16) }
func (l Limits) items() int    { return orDefault(l.Items, 2048) }

func orDefault(v, def int) int {
	if v <= 0 {
		return def
	}
	return v
}
