package gateway

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
)

// embedded holds a small value set of each standard id, enough to fill the
// portal's forms. An operator puts full ones into the onboarding directory.
//
//go:embed valuesets/*.json
var embedded embed.FS

// maxValueSet bounds one value set; the EU's list of rapid tests is the
// largest at about 1 MB.
const maxValueSet = 8 << 20

// seedValueSets stores the embedded value sets that are missing and those of
// the onboarding directory that are new or changed.
func (s *Server) seedValueSets(ctx context.Context) error {
	if err := s.storeValueSets(ctx, embedded, false); err != nil {
		return err
	}
	if s.cfg.OnboardingDir == "" {
		return nil
	}
	return s.storeValueSets(ctx, os.DirFS(s.cfg.OnboardingDir), true)
}

func (s *Server) storeValueSets(ctx context.Context, dir fs.FS, replace bool) error {
	names, err := fs.Glob(dir, "valuesets/*.json")
	if err != nil {
		return err
	}
	for _, name := range names {
		id := strings.TrimSuffix(path.Base(name), ".json")
		body, err := fs.ReadFile(dir, name)
		if err != nil {
			return fmt.Errorf("value set %s: %w", id, err)
		}
		if len(id) > 100 || len(body) > maxValueSet || !json.Valid(body) {
			return fmt.Errorf("value set %s: not JSON, or over %d bytes", id, maxValueSet)
		}
		if err := s.storeValueSet(ctx, id, body, replace); err != nil {
			return fmt.Errorf("value set %s: %w", id, err)
		}
	}
	return nil
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
