package client

import (
	"fmt"
	"io"
	"os"
	"sync"

	"verdant/internal/sealfile"
)

// volumeKey is the key of the pod's volume, read once from its descriptor.
type volumeKey struct {
	once sync.Once
	key  [32]byte
	err  error
}

// Volume returns the pod's volume: files under VERDANT_STATE_DIR, sealed with
// the key that the estate handed over on VERDANT_VOLUME_KEY_FD. Without a key
// there is no volume and the error wraps ErrNotConfigured: the pod must do
// without rather than write in clear.
func (p *Platform) Volume() (*sealfile.Dir, error) {
	if p.cfg.StateDir == "" || p.cfg.VolumeKeyFD == 0 {
		return nil, fmt.Errorf("volume: %w: VERDANT_STATE_DIR and VERDANT_VOLUME_KEY_FD are needed", ErrNotConfigured)
	}
	p.volume.once.Do(func() { p.volume.key, p.volume.err = readKey(p.cfg.VolumeKeyFD) })
	if p.volume.err != nil {
		return nil, fmt.Errorf("volume %s: %w", p.cfg.StateDir, p.volume.err)
	}
	return sealfile.New(p.cfg.StateDir, p.volume.key), nil
}

// readKey reads exactly 32 bytes and closes the descriptor.
func readKey(fd int) (key [32]byte, err error) {
	f := os.NewFile(uintptr(fd), "volume key")
	if f == nil {
		return key, fmt.Errorf("file descriptor %d is not open", fd)
	}
	defer func() { _ = f.Close() }()
	if _, err := io.ReadFull(f, key[:]); err != nil {
		return [32]byte{}, fmt.Errorf("read the key from file descriptor %d: %w", fd, err)
	}
	return key, nil
}
