package gateway

import (
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"verdant/dcc/wire"
)

// storedRule is one version of a rule as stored.
type storedRule struct {
	id, version      string
	position         int64
	validFrom, valid int64
	cms              []byte
}

// rulesOf returns a country's rules, each rule's newest upload first.
func (s *store) rulesOf(ctx context.Context, country string) ([]storedRule, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT rule_id, version, position, valid_from, valid_to, cms FROM validation_rule WHERE country = ? ORDER BY rule_id, position DESC`, country)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []storedRule
	for rows.Next() {
		var r storedRule
		if err := rows.Scan(&r.id, &r.version, &r.position, &r.validFrom, &r.valid, &r.cms); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// getRules answers GET /rules/{country}: of each rule the version in force
// and those that are to follow it, newest first. Rules whose validity ended
// are listed too; a verifier judges them by the clock of the certificate.
func (s *Server) getRules(w http.ResponseWriter, r *http.Request) error {
	country, err := parameterCountry(r.PathValue("country"))
	if err != nil {
		return err
	}
	stored, err := s.store.rulesOf(r.Context(), country)
	if err != nil {
		return err
	}
	now := s.now().UnixMicro()
	out := map[string][]wire.RuleVersion{}
	inForce := map[string]bool{}
	for _, v := range stored {
		if inForce[v.id] {
			continue
		}
		inForce[v.id] = v.validFrom <= now
		out[v.id] = append(out[v.id], wire.RuleVersion{Version: v.version, ValidFrom: wireTime(v.validFrom), ValidTo: wireTime(v.valid),
			CMS: base64.StdEncoding.EncodeToString(v.cms)})
	}
	body, err := json.Marshal(out)
	if err != nil {
		return err
	}
	send(w, r, newDocument(body))
	return nil
}

func wireTime(micro int64) string { return time.UnixMicro(micro).UTC().Format(time.RFC3339) }

// openText reads a CMS around text and checks that an upload certificate of
// the caller's country signed it.
func (s *Server) openText(r *http.Request) (content, cms []byte, uploader string, err error) {
	env, err := readCMS(r, "application/cms-text", "application/cms")
	if err != nil {
		return nil, nil, "", err
	}
	opened, err := env.Open()
	if err != nil {
		return nil, nil, "", problemf(http.StatusBadRequest, "0x260", "CMS signature is invalid", "", "%v", err)
	}
	l, err := s.trust.current(r.Context())
	if err != nil {
		return nil, nil, "", err
	}
	party, err := l.parties.VerifyUploader(opened, callerOf(r.Context()).country)
	if err != nil {
		return nil, nil, "", problemf(http.StatusBadRequest, "0x230", "Upload certificate was refused", "", "%v", err)
	}
	if cms, err = env.AttachedDER(opened.Content()); err != nil {
		return nil, nil, "", problemf(http.StatusBadRequest, "0x402", "CMS parsing failed", "", "%v", err)
	}
	return opened.Content(), cms, party.Thumbprint(), nil
}

// postRule answers POST /rules: a member state publishes a version of a rule.
func (s *Server) postRule(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	who := callerOf(ctx)
	content, cms, uploader, err := s.openText(r)
	if err != nil {
		return err
	}
	up, err := parseRule(content)
	if err != nil {
		return problemf(http.StatusBadRequest, "0x200", "Rule was refused", "", "%v", err)
	}
	if err := up.checkID(); err != nil {
		return problemf(http.StatusBadRequest, "0x250", "Rule identifier was refused", up.Identifier, "%v", err)
	}
	if up.Country != who.country || up.Identifier[3:5] != who.country {
		return problemf(http.StatusForbidden, "0x210", "Country was refused", up.Country, "a country uploads rules of its own only")
	}
	err = s.store.change(ctx, func(tx *sql.Tx) error {
		var position, previousFrom int64
		var previous string
		err := tx.QueryRowContext(ctx, `SELECT position, version, valid_from FROM validation_rule WHERE rule_id = ? ORDER BY position DESC LIMIT 1`, up.Identifier).
			Scan(&position, &previous, &previousFrom)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if previous != "" && !up.version.after(parseSemver(previous)) {
			return problemf(http.StatusBadRequest, "0x220", "Version was refused", up.Version, "the version must be above %s", previous)
		}
		var from time.Time
		if previous != "" {
			from = time.UnixMicro(previousFrom)
		}
		if err := up.checkTimes(s.now(), from); err != nil {
			return problemf(http.StatusBadRequest, "0x240", "Validity was refused", up.ValidFrom, "%v", err)
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO validation_rule (id, rule_id, version, country, position, created_at, valid_from, valid_to, cms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			up.Identifier+"/"+up.Version, up.Identifier, up.Version, who.country, position+1, s.now().UnixMicro(), up.from.UnixMicro(), up.to.UnixMicro(), cms)
		if err != nil {
			return err
		}
		return s.audit(ctx, tx, auditEvent{caller: who, uploader: uploader, event: "CREATED", description: "rule " + up.Identifier + " " + up.Version})
	})
	if err != nil {
		return ruleFailure(s, err)
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// deleteRule answers DELETE /rules and POST /rules/delete: a member state
// withdraws all versions of a rule. The content is the bare identifier.
func (s *Server) deleteRule(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	who := callerOf(ctx)
	content, _, uploader, err := s.openText(r)
	if err != nil {
		return err
	}
	id := string(content)
	parts := strings.Split(id, "-")
	if len(parts) != 3 || len(parts[1]) != 2 || len(id) > 32 {
		return problemf(http.StatusBadRequest, "0x250", "Rule identifier was refused", "", "an identifier has the form VR-IE-0001")
	}
	if parts[1] != who.country {
		return problemf(http.StatusForbidden, "0x210", "Country was refused", parts[1], "a country deletes rules of its own only")
	}
	err = s.store.change(ctx, func(tx *sql.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM validation_rule WHERE rule_id = ? AND country = ?`, id, who.country).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return problemf(http.StatusNotFound, "0x270", "Rule not found", id, "no version of the rule is stored")
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM validation_rule WHERE rule_id = ? AND country = ?`, id, who.country); err != nil {
			return err
		}
		return s.audit(ctx, tx, auditEvent{caller: who, uploader: uploader, event: "DELETED", description: "rule " + id})
	})
	if err != nil {
		return ruleFailure(s, err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// ruleFailure gives an error of the database the code of the rules' part.
func ruleFailure(s *Server, err error) error {
	var p *problem
	if errors.As(err, &p) {
		return err
	}
	s.log.Error("rules were not changed", "why", err.Error())
	return problemf(http.StatusInternalServerError, "0x299", "Internal error", "", "the rules could not be changed; try again")
}
