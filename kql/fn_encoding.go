package kql

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Functions that encode, decode and digest.

func encodingFunctions() map[string]impl {
	encode64 := impl{fn: func(_ *exec, a []val) val { return strVal(base64.StdEncoding.EncodeToString([]byte(a[0].s))) }}
	decode64 := impl{fn: func(_ *exec, a []val) val {
		raw, err := base64.StdEncoding.DecodeString(a[0].s)
		if err != nil || !utf8.Valid(raw) {
			return strVal("")
		}
		return strVal(string(raw))
	}}
	return map[string]impl{
		"base64_encode_tostring": encode64, "base64_encodestring": encode64,
		"base64_decode_tostring": decode64, "base64_decodestring": decode64,
		"base64_decode_toarray": {fn: func(_ *exec, a []val) val {
			raw, err := base64.StdEncoding.DecodeString(a[0].s)
			if err != nil {
				return nullOf(Dynamic)
			}
			out := make([]any, len(raw))
			for i, c := range raw {
				out[i] = int64(c)
			}
			return dynVal(out)
		}},
		"base64_encode_fromarray": {fn: func(_ *exec, a []val) val {
			list, ok := a[0].d.([]any)
			if !ok {
				return strVal("")
			}
			var raw []byte
			for _, e := range list {
				n, ok := e.(int64)
				if !ok || n < 0 || n > 255 {
					return strVal("")
				}
				raw = append(raw, byte(n))
			}
			return strVal(base64.StdEncoding.EncodeToString(raw))
		}},
		"base64_encode_fromguid": {fn: func(_ *exec, a []val) val {
			raw, err := hex.DecodeString(strings.ReplaceAll(a[0].s, "-", ""))
			if err != nil || len(raw) != 16 {
				return strVal("")
			}
			return strVal(base64.StdEncoding.EncodeToString(swapGUID(raw)))
		}},
		"base64_decode_toguid": {fn: func(_ *exec, a []val) val {
			raw, err := base64.StdEncoding.DecodeString(a[0].s)
			if err != nil || len(raw) != 16 {
				return nullOf(GUID)
			}
			g, _ := parseGUID(hex.EncodeToString(swapGUID(raw)))
			return val{t: GUID, s: g}
		}},
		"gzip_decompress_from_base64_string": {fn: func(x *exec, a []val) val {
			return decompress(x, a[0].s, func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) })
		}},
		"zlib_decompress_from_base64_string": {fn: func(x *exec, a []val) val { return decompress(x, a[0].s, zlib.NewReader) }},
		"url_encode":                         {fn: func(_ *exec, a []val) val { return strVal(lowerEscapes(url.QueryEscape(a[0].s))) }},
		"url_encode_component": {fn: func(_ *exec, a []val) val {
			return strVal(lowerEscapes(strings.ReplaceAll(url.QueryEscape(a[0].s), "+", "%20")))
		}},
		"url_decode": {fn: func(_ *exec, a []val) val {
			s, err := url.QueryUnescape(a[0].s)
			if err != nil {
				return strVal(a[0].s)
			}
			return strVal(s)
		}},
	}
}

// digestFunctions hash texts and make identifiers.
func digestFunctions() map[string]impl {
	return map[string]impl{
		"hash_md5":    digest(func(b []byte) []byte { d := md5.Sum(b); return d[:] }),
		"hash_sha1":   digest(func(b []byte) []byte { d := sha1.Sum(b); return d[:] }),
		"hash_sha256": digest(func(b []byte) []byte { d := sha256.Sum256(b); return d[:] }),
		"new_guid": {volatile: true, fn: func(*exec, []val) val {
			var raw [16]byte
			_, _ = rand.Read(raw[:]) // never fails since Go 1.24
			raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
			return val{t: GUID, s: fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:])}
		}},
	}
}

// digest hashes a string; how the engine lays out other types is not known.
func digest(sum func([]byte) []byte) impl {
	return impl{bind: func(b *binder, n *callNode, args []expr, ret Type) expr {
		if t := args[0].typ(); t != String {
			b.unsupported(n, "%s of a %s is not implemented; convert it first, with tostring()", n.name, t)
		}
		return &callExpr{name: n.name, t: String, args: args, fn: func(_ *exec, a []val) val {
			return strVal(hex.EncodeToString(sum([]byte(valText(a[0])))))
		}}
	}}
}

// decompress gives "" for what is not compressed text.
func decompress(x *exec, s string, open func(io.Reader) (io.ReadCloser, error)) val {
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return strVal("")
	}
	r, err := open(bytes.NewReader(raw))
	if err != nil {
		return strVal("")
	}
	defer r.Close()
	out, err := io.ReadAll(io.LimitReader(r, maxStringBytes+1))
	if err != nil || !utf8.Valid(out) {
		return strVal("")
	}
	boundString(x, len(out))
	return strVal(string(out))
}

// lowerEscapes writes the hexadecimal digits of %XX in lower case.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			b[i+1], b[i+2] = s[i+1]|0x20, s[i+2]|0x20
			i += 2
		}
	}
	return string(b)
}

// swapGUID turns the first three fields around: their bytes are little-endian
// in the binary form.
func swapGUID(b []byte) []byte {
	out := bytes.Clone(b)
	for _, r := range [][2]int{{0, 4}, {4, 6}, {6, 8}} {
		for i, j := r[0], r[1]-1; i < j; i, j = i+1, j-1 {
			out[i], out[j] = out[j], out[i]
		}
	}
	return out
}
