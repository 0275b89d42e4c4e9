package sqlstore

import (
	"errors"
	"sync"
	"syscall"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/util/vfsutil"
	"github.com/ncruces/go-sqlite3/vfs"
	"github.com/ncruces/go-sqlite3/vfs/adiantum"
)

// vfsName is under which SQLite finds the encrypting file system.
const vfsName = "verdant-adiantum"

// register enters the file system into SQLite's list, which is the process's
// own and goes by name. Doing so once is the same for every user of it.
var register = sync.OnceFunc(func() { vfs.Register(vfsName, adiantum.Wrap(fullVFS{vfs.Find("")}, nil)) })

// fullVFS is the operating system's files, but for a full disk, which it calls
// one: beneath it a write without space is a plain I/O error, and by the time
// that SQLite reports it the cause is gone.
type fullVFS struct{ vfs.VFS }

func (v fullVFS) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	f, flags, err := vfsutil.WrapOpenFilename(v.VFS, name, flags)
	if err != nil {
		return nil, flags, full(err)
	}
	return fullFile{f}, flags, nil
}

func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return sqlite3.FULL
	}
	return err
}

// fullFile is a file of fullVFS. What it does not name it passes on.
type fullFile struct{ vfs.File }

func (f fullFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	return n, full(err)
}

func (f fullFile) Truncate(size int64) error       { return full(f.File.Truncate(size)) }
func (f fullFile) Sync(flags vfs.SyncFlag) error   { return full(f.File.Sync(flags)) }
func (f fullFile) SizeHint(size int64) error       { return full(vfsutil.WrapSizeHint(f.File, size)) }
func (f fullFile) ChunkSize(size int)              { vfsutil.WrapChunkSize(f.File, size) }
func (f fullFile) Unwrap() vfs.File                { return f.File }
func (f fullFile) LockState() vfs.LockLevel        { return vfsutil.WrapLockState(f.File) }
func (f fullFile) HasMoved() (bool, error)         { return vfsutil.WrapHasMoved(f.File) }
func (f fullFile) PersistWAL() bool                { return vfsutil.WrapPersistWAL(f.File) }
func (f fullFile) SetPersistWAL(keep bool)         { vfsutil.WrapSetPersistWAL(f.File, keep) }
func (f fullFile) PowersafeOverwrite() bool        { return vfsutil.WrapPowersafeOverwrite(f.File) }
func (f fullFile) SetPowersafeOverwrite(psow bool) { vfsutil.WrapSetPowersafeOverwrite(f.File, psow) }
func (f fullFile) SharedMemory() vfs.SharedMemory  { return vfsutil.WrapSharedMemory(f.File) }
func (f fullFile) BusyHandler(handler func() bool) { vfsutil.WrapBusyHandler(f.File, handler) }
