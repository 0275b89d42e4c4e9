package hsm

import (
	"context"

	"verdant/internal/sealfile"
)

// Blobs is where a Software token keeps its sealed keys: small blobs under
// names of up to 64 letters, digits, dashes and dots. It is safe for concurrent
// use, and never sees a key in clear.
type Blobs interface {
	// Create keeps a blob under a name that is free; else the error wraps
	// fs.ErrExist. It is durable when Create returns nil. Of several at once,
	// in any process, one succeeds.
	Create(ctx context.Context, name string, sealed []byte) error
	// Read returns a blob; the error wraps fs.ErrNotExist where there is none.
	Read(ctx context.Context, name string) ([]byte, error)
	// Remove deletes a blob durably; the error wraps fs.ErrNotExist where
	// there is none.
	Remove(ctx context.Context, name string) error
	// Empty reports whether there is no blob at all.
	Empty(ctx context.Context) (bool, error)
}

// FileBlobs keeps blobs as files of a directory, which is made on the first
// write and belongs to one process.
func FileBlobs(dir string) Blobs { return fileBlobs{sealfile.NewFiles(dir)} }

type fileBlobs struct{ files *sealfile.Files }

func (b fileBlobs) Create(ctx context.Context, name string, sealed []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.files.Create(name, sealed)
}

func (b fileBlobs) Read(ctx context.Context, name string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return b.files.Read(name)
}

func (b fileBlobs) Remove(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.files.Remove(name)
}

func (b fileBlobs) Empty(ctx context.Context) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	names, err := b.files.List()
	return len(names) == 0, err
}
