package keyvault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"verdant/azure/rest"
	"verdant/hsm"
	"verdant/internal/route"
)

// hsmJob is a long-running operation of a managed HSM. It is in the store
// before its caller knows of it, and a server that starts goes on with those
// that another left: what it does can be done again from the beginning.
type hsmJob struct {
	ID      string    `json:"id"`
	Kind    jobKind   `json:"kind"`
	Status  string    `json:"status"`
	Details string    `json:"details,omitempty"`
	Error   *jobError `json:"error,omitempty"`
	Start   int64     `json:"start"` // unix seconds
	End     int64     `json:"end,omitempty"`

	Container string `json:"container"`
	Folder    string `json:"folder"`
	Key       string `json:"key,omitempty"`    // the one to restore
	Access    []byte `json:"access,omitempty"` // the signature, sealed; gone when the job has ended
	Managed   bool   `json:"managed,omitempty"`
	// Lease is until when, in unix seconds, the server that works on the job
	// has it to itself.
	Lease int64 `json:"lease,omitempty"`
}

type jobKind string

const (
	jobBackup       jobKind = "backup"
	jobBackupCheck  jobKind = "backup check"
	jobRestore      jobKind = "restore"
	jobRestoreCheck jobKind = "restore check"
	jobRestoreKey   jobKind = "restore key"
)

// backsUp says which of the two families a job is in.
func (k jobKind) backsUp() bool { return k == jobBackup || k == jobBackupCheck }

type jobError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

const (
	jobRunning   = "InProgress"
	jobSucceeded = "Succeeded"
	jobFailed    = "Failed"

	jobLease    = 60 * time.Second
	jobEvery    = 2 * time.Second // how often a server looks for jobs that it was not told of
	jobKept     = 30 * 24 * time.Hour
	jobTimeout  = 6 * time.Hour
	accessPlace = "access"
)

// checkVersions are those with the two checks.
var checkVersions = route.Versions{"7.6", "2025-07-01", "2026-04-01"}

func (s *Server) jobRoutes(add adder) {
	const start, status = "start/action", "status/action"
	add("FullBackup", http.MethodPost, "/backup", actionsHSM+"backup/"+start, smallBody, quick, s.startBackup(jobBackup))
	add("FullBackupCheck", http.MethodPost, "/prebackup", actionsHSM+"backup/"+start, smallBody, quick, s.startBackup(jobBackupCheck))
	add("FullBackupStatusGet", http.MethodGet, "/backup/{job}/pending", actionsHSM+"backup/"+status, route.NoBody, quick, s.jobStatus(true))
	add("FullRestore", http.MethodPut, "/restore", actionsHSM+"restore/"+start, smallBody, quick, s.startRestore(jobRestore))
	add("FullRestoreCheck", http.MethodPut, "/prerestore", actionsHSM+"restore/"+start, smallBody, quick, s.startRestore(jobRestoreCheck))
	add("SelectiveKeyRestore", http.MethodPut, "/keys/{name}/restore", actionsHSM+"restore/"+start, smallBody, quick, s.startRestore(jobRestoreKey))
	add("RestoreStatusGet", http.MethodGet, "/restore/{job}/pending", actionsHSM+"restore/"+status, route.NoBody, quick, s.jobStatus(false))
}

type storageIn struct {
	Address string `json:"storageResourceUri"`
	SAS     string `json:"token"`
	Managed bool   `json:"useManagedIdentity"`
}

func (s *Server) startBackup(kind jobKind) operation {
	return func(c *call, r *http.Request) (int, any, error) {
		var in storageIn
		if err := decode(r, &in, false); err != nil {
			return 0, nil, err
		}
		// To a hundredth of a second, as the real service names its folders.
		stamp := strings.Replace(s.now().UTC().Format("20060102150405.00"), ".", "", 1)
		return s.startJob(c, r, hsmJob{Kind: kind, Folder: "mhsm-" + strings.ToLower(s.cfg.Name) + "-" + stamp}, in)
	}
}

func (s *Server) startRestore(kind jobKind) operation {
	return func(c *call, r *http.Request) (int, any, error) {
		var in struct {
			Storage storageIn `json:"sasTokenParameters"`
			All     string    `json:"folderToRestore"`
			One     string    `json:"folder"`
		}
		if err := decode(r, &in, false); err != nil {
			return 0, nil, err
		}
		folder := in.All
		if kind == jobRestoreKey {
			folder = in.One
		}
		if !folderPattern.MatchString(folder) {
			return 0, nil, badParameter("The folder to restore is required: letters, digits and dashes.")
		}
		return s.startJob(c, r, hsmJob{Kind: kind, Folder: folder, Key: c.name}, in.Storage)
	}
}

// startJob writes a job down and wakes the worker.
func (s *Server) startJob(c *call, r *http.Request, job hsmJob, in storageIn) (int, any, error) {
	ctx := r.Context()
	if _, ok := s.token.(hsm.Backuper); !ok {
		return 0, nil, backupNotSupported()
	}
	store, err := s.newContainer(in.Address, in.SAS, in.Managed)
	if err != nil {
		return 0, nil, err
	}
	job.ID, job.Status, job.Start = newVersion(), jobRunning, s.now().Unix()
	job.Container, job.Managed = store.base, in.Managed
	if !in.Managed {
		if job.Access, err = s.seal(ctx, kindJob, job.ID, accessPlace, in.SAS); err != nil {
			return 0, nil, err
		}
	}
	others, err := readAll[hsmJob](ctx, s.store, kindJob)
	if err != nil {
		return 0, nil, err
	}
	err = s.changeState(ctx, func(tx Tx, st *hsmState) error {
		for _, other := range others {
			switch now, err := getRecord[hsmJob](tx, kindJob, other.ID); {
			case errors.Is(err, ErrNoObject):
			case err != nil:
				return err
			case now.Status == jobRunning:
				return conflict("OperationInProgress", "Another backup or restore of the managed HSM, job %s, has not ended.", other.ID)
			case time.Duration(job.Start-now.End)*time.Second > jobKept:
				if err := tx.Delete(kindJob, now.ID); err != nil {
					return err
				}
			}
		}
		if job.Kind == jobRestore {
			st.Restoring = job.ID
		}
		return putRecord(tx, kindJob, job.ID, job)
	})
	if err != nil {
		return 0, nil, err
	}
	c.objectID = job.Container + "/" + job.Folder
	select {
	case s.local.jobs <- struct{}{}:
	default: // it is awake
	}
	family := "restore"
	if job.Kind.backsUp() {
		family = "backup"
	}
	s.poll(c, "/"+family+"/"+job.ID+"/pending")
	return http.StatusAccepted, job.show(), nil
}

// jobOut is a job on the wire; azureStorageBlobContainerUri is a backup's.
type jobOut struct {
	Status  string    `json:"status"`
	Details *string   `json:"statusDetails"`
	Error   *jobError `json:"error"`
	Start   int64     `json:"startTime"`
	End     *int64    `json:"endTime"`
	ID      string    `json:"jobId"`
}

type backupOut struct {
	jobOut
	Folder *string `json:"azureStorageBlobContainerUri"`
}

func (j hsmJob) show() any {
	out := jobOut{Status: j.Status, Error: j.Error, Start: j.Start, ID: j.ID}
	if j.Details != "" {
		out.Details = &j.Details
	}
	if j.End != 0 {
		out.End = &j.End
	}
	if !j.Kind.backsUp() {
		return out
	}
	b := backupOut{jobOut: out}
	if j.Kind == jobBackup && j.Status == jobSucceeded {
		folder := j.Container + "/" + j.Folder
		b.Folder = &folder
	}
	return b
}

func (s *Server) jobStatus(backups bool) operation {
	return func(_ *call, r *http.Request) (int, any, error) {
		id := r.PathValue("job")
		gone := rest.Errorf(http.StatusNotFound, "JobNotFound", "The managed HSM has no such job.")
		if !validVersion(id) {
			return 0, nil, gone
		}
		o, _, err := s.store.Get(r.Context(), kindJob, id, "")
		if errors.Is(err, ErrNoObject) {
			return 0, nil, gone
		}
		if err != nil {
			return 0, nil, err
		}
		var job hsmJob
		if err := json.Unmarshal(o.Meta, &job); err != nil {
			return 0, nil, fmt.Errorf("job %s: stored record: %w", id, err)
		}
		if job.Kind.backsUp() != backups {
			return 0, nil, gone
		}
		return http.StatusOK, job.show(), nil
	}
}

// runJobs does the HSM's jobs until ctx ends.
func (s *Server) runJobs(ctx context.Context) error {
	for ctx.Err() == nil {
		for s.nextJob(ctx) {
		}
		select {
		case <-ctx.Done():
		case <-s.local.jobs:
		case <-time.After(jobEvery):
		}
	}
	return nil
}

// nextJob does a job that nobody works on, and reports whether there was one.
func (s *Server) nextJob(ctx context.Context) bool {
	jobs, err := readAll[hsmJob](ctx, s.store, kindJob)
	if err != nil {
		return false // asked again soon
	}
	for _, job := range jobs {
		if job.Status != jobRunning || job.Lease > s.now().Unix() {
			continue
		}
		if mine, err := s.lease(ctx, &job); err == nil && mine {
			s.doJob(ctx, job)
			return true
		}
	}
	return false
}

// lease takes a job, or keeps it.
func (s *Server) lease(ctx context.Context, job *hsmJob) (mine bool, err error) {
	until := s.now().Add(jobLease).Unix()
	err = s.store.Update(ctx, func(tx Tx) error {
		now, err := getRecord[hsmJob](tx, kindJob, job.ID)
		if mine = err == nil && now.Status == jobRunning && now.Lease == job.Lease; !mine {
			return err
		}
		now.Lease = until
		return putRecord(tx, kindJob, now.ID, now)
	})
	if mine {
		job.Lease = until
	}
	return mine && err == nil, err
}

// doJob does a job and writes its end. A job that the server's own end
// interrupts is given back for the next start.
func (s *Server) doJob(ctx context.Context, job hsmJob) {
	work, cancel := context.WithTimeout(ctx, jobTimeout)
	defer cancel()
	details, err := s.perform(work, &job)
	lease := job.Lease
	if ctx.Err() != nil && err != nil {
		job.Lease = 0
	} else {
		job.End, job.Lease, job.Access, job.Details, job.Status = s.now().Unix(), 0, nil, details, jobSucceeded
		if err != nil {
			e := rest.AsError(err, job.ID)
			code := e.Inner
			if code == "" {
				code = e.Code
			}
			job.Status, job.Error = jobFailed, &jobError{Code: code, Message: e.Message}
		}
	}
	_ = s.changeState(context.WithoutCancel(ctx), func(tx Tx, st *hsmState) error {
		if now, err := getRecord[hsmJob](tx, kindJob, job.ID); err != nil || now.Lease != lease {
			return errors.Join(err, errLost)
		}
		if job.Status != jobRunning && st.Restoring == job.ID {
			st.Restoring = ""
		}
		return putRecord(tx, kindJob, job.ID, job)
	}) // where this does not work the lease ends, and the job is done again
}

func (s *Server) perform(ctx context.Context, job *hsmJob) (details string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	sas := ""
	if !job.Managed {
		if sas, err = s.unseal(ctx, kindJob, job.ID, accessPlace, job.Access); err != nil {
			return "", err
		}
	}
	// The configuration may have changed since the job was written.
	c, err := s.newContainer(job.Container, sas, job.Managed)
	if err != nil {
		return "", err
	}
	switch job.Kind {
	case jobBackup:
		return "", s.backUpAll(ctx, job, c)
	case jobBackupCheck:
		return "", s.checkStorage(ctx, job, c)
	case jobRestore:
		return s.restoreAll(ctx, job, c)
	case jobRestoreCheck:
		return "", s.checkBackup(ctx, job, c)
	case jobRestoreKey:
		return s.restoreKey(ctx, job, c)
	}
	return "", fmt.Errorf("job %s is of an unknown kind", job.ID)
}
