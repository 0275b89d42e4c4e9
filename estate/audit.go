package estate

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"verdant/estate/control"
	"verdant/internal/journal"
)

// regionsOf are the regions whose vault has the name; "" is all of them.
func (n Names) regionsOf(vault string) ([]Region, error) {
	var names []string
	for _, r := range Regions() {
		if strings.EqualFold(vault, n.Vault(r)) || strings.EqualFold(vault, string(r)) {
			return []Region{r}, nil
		}
		names = append(names, n.Vault(r))
	}
	if vault != "" {
		return nil, fmt.Errorf("no vault %q; there are %s", vault, strings.Join(names, ", "))
	}
	return Regions(), nil
}

// VerifyAudit proves the audit chains of a stopped estate's vaults, or of one
// vault, and changes nothing. A break is in the report. A running estate is
// ErrInUse: ask it through its control socket.
func VerifyAudit(ctx context.Context, dataDir, vault string) ([]control.AuditReport, error) {
	variables, ok := SavedVariables(dataDir)
	if !ok {
		return nil, fmt.Errorf("%w: %s holds no estate", ErrOther, dataDir)
	}
	names := NamesFor(variables)
	regions, err := names.regionsOf(vault)
	if err != nil {
		return nil, err
	}
	dir := &DataDir{Path: dataDir}
	if err := dir.load(ctx, variables, ""); err != nil {
		return nil, err
	}
	var reports []control.AuditReport
	for _, r := range regions {
		name := names.Vault(r)
		checked, err := journal.Check(ctx, filepath.Join(dataDir, "state", "keyvault", name+"-audit"), dir.Key("audit/"+name))
		if errors.Is(err, journal.ErrLocked) {
			return nil, fmt.Errorf("%w: %s", ErrInUse, dataDir)
		}
		report, err := auditReport(name, checked.First, checked.Head, err)
		if err != nil {
			return nil, err
		}
		report.TornBytes = checked.Torn
		reports = append(reports, report)
	}
	return reports, nil
}

// VerifyAudit implements control.Backend.
func (s *supervisor) VerifyAudit(ctx context.Context, vault string) ([]control.AuditReport, error) {
	regions, err := s.names.regionsOf(vault)
	if err != nil {
		return nil, err
	}
	var reports []control.AuditReport
	for _, r := range regions {
		audit := s.audits[r]
		head := audit.Head()
		report, err := auditReport(s.names.Vault(r), audit.First(), head, audit.Verify(ctx))
		if err != nil {
			return nil, err
		}
		reports = append(reports, report)
	}
	return reports, nil
}

// auditReport puts a verdict into words. A vault drops no audit record, so one
// that does not start at the first is broken as well.
func auditReport(vault string, first uint64, head journal.Head, verdict error) (control.AuditReport, error) {
	report := control.AuditReport{Vault: vault}
	var broken *journal.BreakError
	switch {
	case errors.As(verdict, &broken):
		report.Segment, report.Sequence, report.Reason = broken.Segment, broken.Seq, broken.Reason
	case errors.Is(verdict, os.ErrNotExist), errors.Is(verdict, journal.ErrNoSegment):
		report.Sequence, report.Reason = 1, "the journal is gone"
	case verdict != nil:
		return report, fmt.Errorf("audit journal of vault %s: %w", vault, verdict)
	case first > 1:
		report.Sequence, report.Reason = 1, fmt.Sprintf("the records before %d are gone", first)
	default:
		report.Intact, report.First, report.Last, report.Chain = true, first, head.Seq, hex.EncodeToString(head.Chain[:])
	}
	return report, nil
}
