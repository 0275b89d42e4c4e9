package gateway

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"verdant/trustlist"
)

// Audit events of document signers, as upstream names them.
const (
	eventUploaded     = "SUCCESS"
	eventBadRequest   = "BAD_REQUEST"
	eventUploadFailed = "UPLOAD_FAILED"
	eventExists       = "EXIST_CHECK_FAILED"
	eventDeleted      = "SIGNER_CERTIFICATE_DELETED"
	eventDeleteFailed = "DELETE_FAILED"
)

// readCMS reads a request's CMS, base64 in the body. types are the content
// types accepted.
func readCMS(r *http.Request, types ...string) (*trustlist.Envelope, error) {
	ct, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(types, ct) {
		return nil, &badRequest{http.StatusUnsupportedMediaType, "the content type must be " + strings.Join(types, " or ")}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	env, err := trustlist.ParseCMSBase64(strings.TrimSpace(string(body)))
	if err != nil {
		return nil, problemf(http.StatusBadRequest, "0x402", "CMS parsing failed", "", "%v", err)
	}
	if env.Detached() {
		return nil, problemf(http.StatusBadRequest, "0x402", "CMS parsing failed", "", "the message must carry its content")
	}
	return env, nil
}

// readSignerCMS reads a CMS whose content is a certificate.
func readSignerCMS(r *http.Request) (*trustlist.Envelope, *x509.Certificate, error) {
	env, err := readCMS(r, "application/cms")
	if err != nil {
		return nil, nil, err
	}
	cert, err := trustlist.ParseCertificate(env.ClaimedContent())
	if err != nil {
		return nil, nil, problemf(http.StatusBadRequest, "0x402", "CMS parsing failed", "", "the content is not a certificate that can be used: %v", err)
	}
	return env, cert, nil
}

// postSigner answers POST /signerCertificate: a member state publishes a
// document signer.
func (s *Server) postSigner(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	env, _, err := readSignerCMS(r)
	if err != nil {
		return err
	}
	who := callerOf(ctx)
	event := auditEvent{caller: who, uploader: trustlist.Thumbprint(env.ClaimedSigner().Raw)}
	l, err := s.trust.current(ctx)
	if err != nil {
		return err
	}
	dsc, _, err := l.parties.VerifyUpload(env, who.country, s.now())
	if errors.Is(err, trustlist.BadSignature) {
		return problemf(http.StatusBadRequest, "0x009", "CMS signature is invalid", "", "the signature does not fit content and certificate")
	}
	if err != nil {
		return s.refuse(ctx, event, eventBadRequest, problemf(http.StatusBadRequest, "0x004", "Certificate was refused", who.country, "%v", err))
	}
	detached, err := env.DetachedDER()
	if err != nil {
		return problemf(http.StatusBadRequest, "0x402", "CMS parsing failed", "", "%v", err)
	}
	row := signerRow{thumbprint: dsc.Thumbprint(), kid: hex.EncodeToString([]byte(dsc.KID())), country: who.country,
		created: s.now().UnixMicro(), rawData: dsc.Certificate().Raw, signature: detached}
	err = s.store.change(ctx, func(tx *sql.Tx) error {
		known, err := signerByKID(ctx, tx, row.kid)
		switch {
		case err != nil:
			return err
		case known != nil && known.thumbprint != row.thumbprint:
			return problemf(http.StatusBadRequest, "0x004", "Certificate was refused", dsc.KID().String(), "another certificate has this kid")
		case known != nil && known.deleted == 0:
			return problemf(http.StatusConflict, "0x002", "Certificate exists", dsc.KID().String(), "the certificate is on the trust list already")
		}
		if err := putSigner(ctx, tx, row); err != nil {
			return err
		}
		event.event, event.description = eventUploaded, "signer certificate uploaded"
		return s.audit(ctx, tx, event)
	})
	var p *problem
	switch {
	case errors.As(err, &p) && p.status == http.StatusConflict:
		return s.refuse(ctx, event, eventExists, p)
	case errors.As(err, &p):
		return s.refuse(ctx, event, eventBadRequest, p)
	case err != nil:
		s.log.Error("document signer was not stored", "why", err.Error(), "country", who.country)
		return s.refuse(ctx, event, eventUploadFailed, problemf(http.StatusInternalServerError, "0x003", "Upload failed", "", "the certificate could not be stored; send it again"))
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// deleteSigner answers DELETE /signerCertificate and POST
// /signerCertificate/delete: a member state withdraws a document signer.
func (s *Server) deleteSigner(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	env, cert, err := readSignerCMS(r)
	if err != nil {
		return err
	}
	who := callerOf(ctx)
	event := auditEvent{caller: who, uploader: trustlist.Thumbprint(env.ClaimedSigner().Raw)}
	opened, err := env.Open()
	if err != nil {
		return problemf(http.StatusBadRequest, "0x009", "CMS signature is invalid", "", "%v", err)
	}
	l, err := s.trust.current(ctx)
	if err != nil {
		return err
	}
	refuse := func(format string, args ...any) error {
		return s.refuse(ctx, event, eventBadRequest, problemf(http.StatusBadRequest, "0x007", "Deletion was refused", who.country, format, args...))
	}
	if _, err := l.parties.VerifyUploader(opened, who.country); err != nil {
		return refuse("%v", err)
	}
	if c := cert.Subject.Country; len(c) != 1 || c[0] != who.country {
		return refuse("the certificate is not of %s", who.country)
	}
	thumbprint := trustlist.Thumbprint(cert.Raw)
	err = s.store.change(ctx, func(tx *sql.Tx) error {
		known, err := signerByKID(ctx, tx, thumbprint[:16])
		if err != nil {
			return err
		}
		if known == nil || known.thumbprint != thumbprint || known.country != who.country || known.deleted != 0 {
			return problemf(http.StatusNotFound, "0x005", "Certificate not found", "", "no such certificate of %s is on the trust list", who.country)
		}
		if err := burySigner(ctx, tx, thumbprint, s.now().UnixMicro()); err != nil {
			return err
		}
		event.event, event.description = eventDeleted, "signer certificate deleted"
		return s.audit(ctx, tx, event)
	})
	var p *problem
	switch {
	case errors.As(err, &p):
		return s.refuse(ctx, event, eventExists, p)
	case err != nil:
		s.log.Error("document signer was not deleted", "why", err.Error(), "country", who.country)
		return s.refuse(ctx, event, eventDeleteFailed, problemf(http.StatusInternalServerError, "0x006", "Deletion failed", "", "the certificate could not be deleted; try again"))
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// refuse records a refusal and returns it. A refusal stays one when the
// record fails; the failure is logged.
func (s *Server) refuse(ctx context.Context, e auditEvent, event string, p *problem) error {
	e.event, e.description = event, p.Problem
	if err := s.audit(ctx, s.store.db, e); err != nil {
		s.log.Error("audit event was not recorded", "event", event, "why", err.Error())
	}
	return p
}
