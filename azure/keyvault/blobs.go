package keyvault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"verdant/azure/rest"
)

// container is a blob container that full backups go to (REST reference "Blob
// Storage", Put Blob, Get Blob, Delete Blob; block blobs in one piece). It
// sends to the host that it was made for and nowhere else: answers that point
// elsewhere are errors.
type container struct {
	client *http.Client
	base   string                                // https://host/container
	query  string                                // the shared access signature, without "?"
	bearer func(context.Context) (string, error) // instead of it
}

const (
	blobVersion = "2021-12-02"
	blobTimeout = 30 * time.Second
	blobTries   = 3
	// maxBlob bounds what is read of one blob.
	maxBlob = 64 << 20
)

var (
	containerPattern = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9]){2,62}$`)
	folderPattern    = regexp.MustCompile(`^[A-Za-z0-9-]{1,255}$`)
	storageCode      = regexp.MustCompile(`^[A-Za-z]{1,64}$`)
)

var errNoBlob = errors.New("the storage has no such blob")

// newContainer checks the address that a caller asks the HSM to send to. Only
// hosts that the vault's configuration names are possible: whoever may start a
// backup would otherwise choose what the HSM connects to from inside its
// network.
func (s *Server) newContainer(address, sas string, managed bool) (*container, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" || u.Host == "" {
		return nil, badParameter("Property storageResourceUri is not the address of a blob container: https://ACCOUNT.blob.core.windows.net/CONTAINER.")
	}
	name := strings.TrimSuffix(strings.TrimPrefix(u.Path, "/"), "/")
	if u.RawPath != "" || !containerPattern.MatchString(name) {
		return nil, badParameter("Property storageResourceUri names no blob container.")
	}
	if s.local.blobs == nil || !slices.ContainsFunc(s.cfg.BackupHosts, func(host string) bool { return strings.EqualFold(host, u.Host) }) {
		return nil, forbidden("StorageNotAllowed", "The managed HSM sends backups to the storage accounts of its configuration only.")
	}
	c := &container{client: s.local.blobs, base: "https://" + u.Host + "/" + name}
	switch query := strings.TrimPrefix(sas, "?"); {
	case managed && sas != "":
		return nil, badParameter("Properties token and useManagedIdentity exclude each other.")
	case managed && s.local.storageToken == nil:
		return nil, badParameter("The managed HSM has no managed identity: use a shared access signature.")
	case managed:
		c.bearer = s.local.storageToken
	case query == "":
		return nil, badParameter("Property token is required, or useManagedIdentity.")
	default:
		values, err := url.ParseQuery(query)
		if err != nil || len(query) > 4096 || values.Get("sig") == "" {
			return nil, badParameter("Property token is no shared access signature.")
		}
		c.query = values.Encode()
	}
	return c, nil
}

// closed is a client that follows nothing: a redirect would carry the
// signature, or the HSM's identity, to wherever it points.
func closed(client *http.Client) *http.Client {
	if client == nil {
		return nil
	}
	own := *client
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	own.Jar, own.Timeout = nil, blobTimeout
	return &own
}

func (c *container) put(ctx context.Context, blob string, body []byte) error {
	_, err := c.send(ctx, http.MethodPut, blob, body, http.StatusCreated)
	return storageFailure(err)
}

func (c *container) get(ctx context.Context, blob string) ([]byte, error) {
	body, err := c.send(ctx, http.MethodGet, blob, nil, http.StatusOK)
	return body, storageFailure(err)
}

func (c *container) delete(ctx context.Context, blob string) error {
	_, err := c.send(ctx, http.MethodDelete, blob, nil, http.StatusAccepted)
	return storageFailure(err)
}

// storageFailure is what a job's caller is told: what the storage did, and no
// address.
func storageFailure(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNoBlob):
		return rest.Errorf(http.StatusNotFound, "BackupNotFound", "The storage has no such blob: the folder is not that of a complete backup.")
	}
	return rest.Errorf(http.StatusBadGateway, "StorageFailure", "%s.", capital(err.Error()))
}

// send asks again where another try may help: writing a blob twice is writing
// it once.
func (c *container) send(ctx context.Context, method, blob string, body []byte, want int) (answer []byte, err error) {
	for try := 1; ; try++ {
		var again bool
		if answer, again, err = c.once(ctx, method, blob, body, want); err == nil || !again || try == blobTries || ctx.Err() != nil {
			return answer, err
		}
		wait(ctx, time.Duration(try)*200*time.Millisecond)
	}
}

func (c *container) once(ctx context.Context, method, blob string, body []byte, want int) (answer []byte, again bool, err error) {
	address := c.base + "/" + blob
	if c.query != "" {
		address += "?" + c.query
	}
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, false, errors.New("the storage's address is not one")
	}
	req.Header.Set("x-ms-version", blobVersion)
	if method == http.MethodPut {
		req.Header.Set("x-ms-blob-type", "BlockBlob")
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	if c.bearer != nil {
		token, err := c.bearer(ctx)
		if err != nil {
			return nil, true, errors.New("the identity of the managed HSM got no token for the storage")
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := c.client.Do(req)
	if err != nil {
		return nil, true, fmt.Errorf("the storage did not answer: %w", withoutAddress(err))
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(res.Body, maxBlob+1))
	switch {
	case res.StatusCode == http.StatusNotFound:
		return nil, false, errNoBlob
	case res.StatusCode != want:
		code := res.Header.Get("x-ms-error-code")
		if !storageCode.MatchString(code) {
			code = http.StatusText(res.StatusCode)
		}
		return nil, res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests, fmt.Errorf("the storage refused to %s a blob: %d %s", method, res.StatusCode, code)
	case err != nil:
		return nil, true, fmt.Errorf("the storage's answer broke off: %w", withoutAddress(err))
	case len(answer) > maxBlob:
		return nil, false, fmt.Errorf("a blob is over %d bytes", maxBlob)
	}
	return answer, false, nil
}

// withoutAddress takes the address, which holds the signature, out of a
// client's error.
func withoutAddress(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
