package hcert

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
)

// inflater keeps a zlib reader and its buffers for the next message: making
// one costs more than inflating a certificate.
type inflater struct {
	src bytes.Reader
	z   io.ReadCloser
	out bytes.Buffer
	lim io.LimitedReader
}

// inflate decompresses one zlib stream of at most limit bytes that fills
// data. The result belongs to the caller.
func (f *inflater) inflate(data []byte, limit int) (string, error) {
	f.src.Reset(data)
	var err error
	if f.z == nil {
		f.z, err = zlib.NewReader(&f.src)
	} else {
		err = f.z.(zlib.Resetter).Reset(&f.src, nil)
	}
	if err != nil {
		return "", &Error{Stage: StageZlib, Reason: BadZlib, Cause: err}
	}
	f.out.Reset()
	f.lim = io.LimitedReader{R: f.z, N: int64(limit) + 1}
	if _, err := f.out.ReadFrom(&f.lim); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return "", refuse(StageZlib, BadZlib, "ends early")
		}
		return "", &Error{Stage: StageZlib, Reason: BadZlib, Cause: err}
	}
	if f.out.Len() > limit {
		return "", refuse(StageZlib, TooLarge, "inflates beyond the limit")
	}
	if f.src.Len() > 0 {
		return "", refuse(StageZlib, BadZlib, "bytes after the end of the stream")
	}
	return f.out.String(), nil
}

// Inflate decompresses one zlib stream and refuses a result above l's bound,
// a missing or wrong checksum, and bytes after the stream.
func Inflate(data []byte, l Limits) ([]byte, error) {
	var f inflater
	s, err := f.inflate(data, l.inflated())
	return []byte(s), err
}
