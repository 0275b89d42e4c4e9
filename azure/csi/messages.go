package csi

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// MountRequest is what the driver asks for.
type MountRequest struct {
	// Attributes is a JSON object of strings: the class's parameters, and what
	// the kubelet says about the pod under csi.storage.k8s.io/.
	Attributes string
	// Secrets is a JSON object: what nodePublishSecretRef holds.
	Secrets string
	// TargetPath is where the driver will put the files.
	TargetPath string
	// Permission is a JSON number: the mode of files without one of their own.
	Permission string
	// Current are the versions that are mounted now.
	Current []ObjectVersion
}

// MountResponse is what the driver is to mount.
type MountResponse struct {
	Versions []ObjectVersion
	Files    []File
	// ErrorCode is set by providers that report failures in the answer; this
	// one reports them as the call's status.
	ErrorCode string
}

// ObjectVersion says which version of an object ("secret/name") is mounted.
type ObjectVersion struct{ ID, Version string }

// File is a file of the mount.
type File struct {
	Path     string // relative, with slashes
	Mode     int32
	Contents []byte
}

type versionRequest struct{ version string }

type versionResponse struct{ version, name, runtime string }

// message is one of the above: it writes and reads itself as provider.proto
// says.
type message interface {
	marshal() []byte
	// field reads one field. number and value are what the wire holds; the
	// value of a varint field is in v, of a length-delimited one in b. Unknown
	// fields are to be ignored.
	field(number protowire.Number, v uint64, b []byte) error
}

// codec is the codec of gRPC's subtype "proto" for messages of this package.
type codec struct{}

// Name implements encoding.Codec.
func (codec) Name() string { return "proto" }

// Marshal implements encoding.Codec.
func (codec) Marshal(v any) ([]byte, error) {
	m, ok := v.(message)
	if !ok {
		return nil, fmt.Errorf("%T is no message of the provider's interface", v)
	}
	return m.marshal(), nil
}

// Unmarshal implements encoding.Codec.
func (codec) Unmarshal(data []byte, v any) error {
	m, ok := v.(message)
	if !ok {
		return fmt.Errorf("%T is no message of the provider's interface", v)
	}
	return unmarshal(data, m)
}

var errMalformed = errors.New("malformed message")

// unmarshal reads a message field by field. It bounds nothing but what the data
// holds: gRPC bounds that.
func unmarshal(data []byte, m message) error {
	for len(data) > 0 {
		number, typ, n := protowire.ConsumeTag(data)
		if n < 0 || number > protowire.MaxValidNumber {
			return errMalformed
		}
		data = data[n:]
		var v uint64
		var b []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			b, n = protowire.ConsumeBytes(data)
		default: // no field of ours; groups and fixed numbers are stepped over
			if n = protowire.ConsumeFieldValue(number, typ, data); n < 0 {
				return errMalformed
			}
			data = data[n:]
			continue
		}
		if n < 0 {
			return errMalformed
		}
		data = data[n:]
		if b == nil && typ == protowire.BytesType {
			b = []byte{}
		}
		if err := m.field(number, v, b); err != nil {
			return err
		}
	}
	return nil
}

// text reads a string field. b is nil where the wire type is another: the field
// is then not ours, and ignored as an unknown one is.
func text(into *string, b []byte) error {
	if b == nil {
		return nil
	}
	if !utf8.Valid(b) {
		return errMalformed
	}
	*into = string(b)
	return nil
}

func appendText(out []byte, number protowire.Number, s string) []byte {
	if s == "" {
		return out
	}
	return protowire.AppendString(protowire.AppendTag(out, number, protowire.BytesType), s)
}

func appendMessage(out []byte, number protowire.Number, m message) []byte {
	return protowire.AppendBytes(protowire.AppendTag(out, number, protowire.BytesType), m.marshal())
}

func (r *versionRequest) marshal() []byte { return appendText(nil, 1, r.version) }

func (r *versionRequest) field(number protowire.Number, _ uint64, b []byte) error {
	if number == 1 {
		return text(&r.version, b)
	}
	return nil
}

func (r *versionResponse) marshal() []byte {
	return appendText(appendText(appendText(nil, 1, r.version), 2, r.name), 3, r.runtime)
}

func (r *versionResponse) field(number protowire.Number, _ uint64, b []byte) error {
	switch number {
	case 1:
		return text(&r.version, b)
	case 2:
		return text(&r.name, b)
	case 3:
		return text(&r.runtime, b)
	}
	return nil
}

func (r *MountRequest) marshal() []byte {
	out := appendText(appendText(appendText(appendText(nil, 1, r.Attributes), 2, r.Secrets), 3, r.TargetPath), 4, r.Permission)
	for i := range r.Current {
		out = appendMessage(out, 5, &r.Current[i])
	}
	return out
}

func (r *MountRequest) field(number protowire.Number, _ uint64, b []byte) error {
	switch number {
	case 1:
		return text(&r.Attributes, b)
	case 2:
		return text(&r.Secrets, b)
	case 3:
		return text(&r.TargetPath, b)
	case 4:
		return text(&r.Permission, b)
	case 5:
		return appendVersion(&r.Current, b)
	}
	return nil
}

func appendVersion(to *[]ObjectVersion, b []byte) error {
	if b == nil {
		return nil
	}
	var v ObjectVersion
	if err := unmarshal(b, &v); err != nil {
		return err
	}
	*to = append(*to, v)
	return nil
}

func (v *ObjectVersion) marshal() []byte { return appendText(appendText(nil, 1, v.ID), 2, v.Version) }

func (v *ObjectVersion) field(number protowire.Number, _ uint64, b []byte) error {
	switch number {
	case 1:
		return text(&v.ID, b)
	case 2:
		return text(&v.Version, b)
	}
	return nil
}

// failure is the message Error.
type failure struct{ code string }

func (f *failure) marshal() []byte { return appendText(nil, 1, f.code) }

func (f *failure) field(number protowire.Number, _ uint64, b []byte) error {
	if number == 1 {
		return text(&f.code, b)
	}
	return nil
}

func (r *MountResponse) marshal() []byte {
	var out []byte
	for i := range r.Versions {
		out = appendMessage(out, 1, &r.Versions[i])
	}
	if r.ErrorCode != "" {
		out = appendMessage(out, 2, &failure{r.ErrorCode})
	}
	for i := range r.Files {
		out = appendMessage(out, 3, &r.Files[i])
	}
	return out
}

func (r *MountResponse) field(number protowire.Number, _ uint64, b []byte) error {
	switch {
	case b == nil:
		return nil
	case number == 1:
		return appendVersion(&r.Versions, b)
	case number == 2:
		f := failure{r.ErrorCode}
		err := unmarshal(b, &f)
		r.ErrorCode = f.code
		return err
	case number == 3:
		var f File
		if err := unmarshal(b, &f); err != nil {
			return err
		}
		r.Files = append(r.Files, f)
	}
	return nil
}

func (f *File) marshal() []byte {
	out := appendText(nil, 1, f.Path)
	if f.Mode != 0 {
		// A negative int32 is ten bytes on the wire.
		out = protowire.AppendVarint(protowire.AppendTag(out, 2, protowire.VarintType), uint64(int64(f.Mode)))
	}
	if len(f.Contents) > 0 {
		out = protowire.AppendBytes(protowire.AppendTag(out, 3, protowire.BytesType), f.Contents)
	}
	return out
}

func (f *File) field(number protowire.Number, v uint64, b []byte) error {
	switch {
	case number == 1:
		return text(&f.Path, b)
	case number == 2 && b == nil:
		f.Mode = int32(v)
	case number == 3 && b != nil:
		f.Contents = append([]byte(nil), b...)
	}
	return nil
}
