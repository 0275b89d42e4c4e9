package gateway

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"

	"verdant/hcert/valueset"
)

// seedValueSets stores the built-in value sets that are missing or of an older
// date, so that the portal's forms and the rules have their codes, and those
// of the onboarding directory that are new or changed.
func (s *Server) seedValueSets(ctx context.Context) error {
	sets := valueset.Builtin()
	for _, id := range sets.IDs() {
		older, err := s.olderValueSet(ctx, sets.Get(id))
		if err == nil {
			err = s.storeValueSet(ctx, string(id), sets.Get(id).JSON(), older)
		}
		if err != nil {
			return fmt.Errorf("value set %s: %w", id, err)
		}
	}
	if s.cfg.OnboardingDir == "" {
		return nil
	}
	dir := os.DirFS(s.cfg.OnboardingDir)
	names, err := fs.Glob(dir, "valuesets/*.json")
	if err != nil {
		return err
	}
	for _, name := range names {
		body, err := fs.ReadFile(dir, name)
		if err != nil {
			return fmt.Errorf("value set %s: %w", name, err)
		}
		set, err := valueset.Parse(body)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if string(set.ID())+".json" != path.Base(name) {
			return fmt.Errorf("%s: it holds value set %s; name the file after it", name, set.ID())
		}
		// As it was written: hashes of the body travel on.
		if err := s.storeValueSet(ctx, string(set.ID()), body, true); err != nil {
			return fmt.Errorf("value set %s: %w", set.ID(), err)
		}
	}
	return nil
}

// olderValueSet reports whether the stored version of a set is of an older
// date. What cannot be read is.
func (s *Server) olderValueSet(ctx context.Context, set *valueset.Set) (bool, error) {
	body, err := s.valueSet(ctx, string(set.ID()))
	if errors.Is(err, sql.ErrNoRows) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	stored, err := valueset.Parse(body)
	return err != nil || stored.Date() < set.Date(), nil
}

func (s *Server) storeValueSet(ctx context.Context, id string, body []byte, replace bool) error {
	known, err := s.valueSet(ctx, id)
	switch {
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return err
	case err == nil && (!replace || bytes.Equal(known, body)):
		return nil
	}
	return s.store.change(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM valueset WHERE id = ?`, id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO valueset (id, json) VALUES (?, ?)`, id, body)
		return err
	})
}

func (s *Server) valueSet(ctx context.Context, id string) (body []byte, err error) {
	err = s.store.db.QueryRowContext(ctx, `SELECT json FROM valueset WHERE id = ?`, id).Scan(&body)
	return body, err
}

// getValueSets answers GET /valuesets with the ids.
func (s *Server) getValueSets(w http.ResponseWriter, r *http.Request) error {
	rows, err := s.store.db.QueryContext(r.Context(), `SELECT id FROM valueset ORDER BY id`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	ids := []string{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	body, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	send(w, r, newDocument(body))
	return nil
}

// getValueSet answers GET /valuesets/{id} with the JSON as it was stored.
func (s *Server) getValueSet(w http.ResponseWriter, r *http.Request) error {
	body, err := s.valueSet(r.Context(), r.PathValue("id"))
	if errors.Is(err, sql.ErrNoRows) {
		return problemf(http.StatusNotFound, "0x100", "Value set not found", r.PathValue("id"), "no value set has this id")
	}
	if err != nil {
		return err
	}
	send(w, r, newDocument(body))
	return nil
}
