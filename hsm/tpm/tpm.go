// Package tpm seals a root key by a TPM 2.0 (TCG TPM 2.0 Library Specification):
// as a sealed data object under the storage primary key of the owner hierarchy,
// if wanted bound to platform configuration registers (PCRs, of SHA-256).
//
// The root key crosses the bus only inside sessions that are encrypted (AES-128
// CFB) and salted to the storage primary key, whose name is kept with the sealed
// object: another TPM, or one that is put between, is refused before it is asked.
// Without PCRs whoever may use the TPM and has the sealed object opens it; with
// them, only while the registers are as they were when it was sealed.
//
// It needs an owner hierarchy without a password, and does not run where
// GODEBUG=fips140=only forbids CFB.
package tpm

import (
	"bytes"
	"context"
	"crypto/fips140"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"verdant/hsm"
)

const (
	// commandWithin bounds one command; making a primary key is the longest.
	commandWithin = 30 * time.Second
	// maxResponse is beyond what any TPM answers.
	maxResponse = 16 << 10
	nonceSize   = 16
	maxPCR      = 23
)

// Seal is an hsm.RootSeal.
type Seal struct {
	// Path is the device (/dev/tpmrm0) or the Unix socket of a TPM.
	Path string
	// PCRs are the registers to which Seal binds, none if empty. Open takes
	// those with which it was sealed.
	PCRs []uint
}

type record struct {
	Primary []byte `json:"primary"` // the name of the storage primary key
	Private []byte `json:"private"`
	Public  []byte `json:"public"`
	PCRs    []uint `json:"pcrs,omitempty"`
}

// Seal implements hsm.RootSeal.
func (s Seal) Seal(ctx context.Context, root [32]byte) (sealed []byte, err error) {
	err = s.in(ctx, func(t *device, primary *tpm2.CreatePrimaryResponse, public *tpm2.TPMTPublic) error {
		template := tpm2.TPMTPublic{Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, UserWithAuth: len(s.PCRs) == 0, NoDA: true}}
		if len(s.PCRs) > 0 {
			digest, err := policy(t, s.PCRs)
			if err != nil {
				return err
			}
			template.AuthPolicy = *digest
		}
		made, err := tpm2.Create{
			ParentHandle: tpm2.AuthHandle{Handle: primary.ObjectHandle, Name: primary.Name, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize,
				tpm2.AESEncryption(128, tpm2.EncryptInOut), tpm2.Salted(primary.ObjectHandle, *public))},
			InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
				Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: root[:]})}},
			InPublic: tpm2.New2B(template),
		}.Execute(t)
		if err != nil {
			return err
		}
		sealed, err = json.Marshal(record{Primary: primary.Name.Buffer, Private: made.OutPrivate.Buffer, Public: made.OutPublic.Bytes(), PCRs: s.PCRs})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("seal the root key by the TPM %s: %w", s.Path, err)
	}
	return sealed, nil
}

// Open implements hsm.RootSeal.
func (s Seal) Open(ctx context.Context, sealed []byte) (root [32]byte, err error) {
	var r record
	if err := json.Unmarshal(sealed, &r); err != nil {
		return root, fmt.Errorf("open the root key by a TPM: %w: %w", hsm.ErrRootSeal, err)
	}
	if err := CheckPCRs(r.PCRs); err != nil {
		return root, fmt.Errorf("open the root key by a TPM: %w: %w", hsm.ErrRootSeal, err)
	}
	err = s.in(ctx, func(t *device, primary *tpm2.CreatePrimaryResponse, public *tpm2.TPMTPublic) error {
		if !bytes.Equal(primary.Name.Buffer, r.Primary) {
			return fmt.Errorf("%w: it was sealed by another TPM, or this one was cleared", hsm.ErrRootSeal)
		}
		salted := tpm2.Salted(primary.ObjectHandle, *public)
		object, err := tpm2.Load{
			ParentHandle: tpm2.AuthHandle{Handle: primary.ObjectHandle, Name: primary.Name, Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, salted)},
			InPrivate:    tpm2.TPM2BPrivate{Buffer: r.Private}, InPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](r.Public),
		}.Execute(t)
		if err != nil {
			return refusal(err, "the sealed object was changed, or another TPM made it")
		}
		defer t.flush(object.ObjectHandle)
		encrypted := tpm2.AESEncryption(128, tpm2.EncryptOut)
		auth := tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, encrypted, salted)
		if len(r.PCRs) > 0 {
			auth = tpm2.Policy(tpm2.TPMAlgSHA256, nonceSize, func(t transport.TPM, handle tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
				_, err := tpm2.PolicyPCR{PolicySession: handle, Pcrs: selection(r.PCRs)}.Execute(t)
				return err
			}, encrypted, salted)
		}
		opened, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: object.ObjectHandle, Name: object.Name, Auth: auth}}.Execute(t)
		if err != nil {
			return refusal(err, fmt.Sprintf("the registers %v are not as they were when it was sealed", r.PCRs))
		}
		defer clear(opened.OutData.Buffer)
		if len(opened.OutData.Buffer) != len(root) {
			return fmt.Errorf("%w: the sealed object holds %d bytes", hsm.ErrRootSeal, len(opened.OutData.Buffer))
		}
		root = [32]byte(opened.OutData.Buffer)
		return nil
	})
	if err != nil {
		return [32]byte{}, fmt.Errorf("open the root key by the TPM %s: %w", s.Path, err)
	}
	return root, nil
}

// CheckPCRs refuses registers that there are not.
func CheckPCRs(pcrs []uint) error {
	seen := map[uint]bool{}
	for _, n := range pcrs {
		if n > maxPCR || seen[n] {
			return fmt.Errorf("register %d: PCRs are 0 to %d, each once", n, maxPCR)
		}
		seen[n] = true
	}
	return nil
}

// refusal tells what a TPM says of the object from what it says of itself.
func refusal(err error, why string) error {
	var code tpm2.TPMRC
	if errors.As(err, &code) && !code.IsWarning() {
		return fmt.Errorf("%w: %s: %w", hsm.ErrRootSeal, why, err)
	}
	return err
}

func selection(pcrs []uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)}}}
}

// policy is the digest of the policy that the registers are as they are now.
func policy(t *device, pcrs []uint) (digest *tpm2.TPM2BDigest, err error) {
	session, closeSession, err := tpm2.PolicySession(t, tpm2.TPMAlgSHA256, nonceSize, tpm2.Trial())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeSession()) }()
	if _, err := (tpm2.PolicyPCR{PolicySession: session.Handle(), Pcrs: selection(pcrs)}).Execute(t); err != nil {
		return nil, err
	}
	got, err := tpm2.PolicyGetDigest{PolicySession: session.Handle()}.Execute(t)
	if err != nil {
		return nil, err
	}
	return &got.PolicyDigest, nil
}

// in makes calls with the storage primary key, which is the same at each making.
func (s Seal) in(ctx context.Context, do func(t *device, primary *tpm2.CreatePrimaryResponse, public *tpm2.TPMTPublic) error) error {
	if fips140.Enforced() {
		return fmt.Errorf("%w: GODEBUG=fips140=only does not allow the CFB encryption of TPM sessions; use fips140=on", hsm.ErrRootSeal)
	}
	if err := CheckPCRs(s.PCRs); err != nil {
		return err
	}
	t := &device{ctx: ctx, path: s.Path}
	defer t.close()
	primary, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t)
	if err != nil {
		return fmt.Errorf("make the storage primary key: %w", err)
	}
	defer t.flush(primary.ObjectHandle)
	public, err := primary.OutPublic.Contents()
	if err != nil {
		return fmt.Errorf("read the storage primary key: %w", err)
	}
	return do(t, primary, public)
}

// device is a TPM for the length of one operation, whose context bounds it. A
// socket is opened for each command, as some emulators serve one at a time.
type device struct {
	ctx  context.Context
	path string
	file *os.File
}

// Send implements the transport of go-tpm.
func (d *device) Send(command []byte) ([]byte, error) {
	if err := d.ctx.Err(); err != nil {
		return nil, err
	}
	info, err := os.Stat(d.path)
	if err != nil {
		return nil, err
	}
	switch {
	case info.Mode()&os.ModeSocket != 0:
		return d.overSocket(command)
	case info.Mode()&os.ModeCharDevice == 0:
		return nil, fmt.Errorf("%s is neither a device nor a socket", d.path)
	}
	if d.file == nil {
		if d.file, err = os.OpenFile(d.path, os.O_RDWR, 0); err != nil {
			return nil, err
		}
	}
	if _, err := d.file.Write(command); err != nil {
		return nil, err
	}
	response := make([]byte, maxResponse)
	n, err := d.file.Read(response) // the driver gives a response at once
	return response[:n], err
}

func (d *device) overSocket(command []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(d.ctx, commandWithin)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", d.path)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write(command); err != nil {
		return nil, err
	}
	header := make([]byte, 10) // tag, size of all, code
	if _, err := io.ReadFull(conn, header); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(header[2:])
	if size < 10 || size > maxResponse {
		return nil, fmt.Errorf("a response of %d bytes", size)
	}
	response := append(header, make([]byte, size-10)...)
	_, err = io.ReadFull(conn, response[10:])
	return response, err
}

func (d *device) flush(h tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: h}.Execute(d) // a resource manager does it as well
}

func (d *device) close() {
	if d.file != nil {
		_ = d.file.Close()
	}
}
