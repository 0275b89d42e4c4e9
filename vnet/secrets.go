package vnet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// SecretFile is a file that only one process of a pod sees.
type SecretFile struct {
	// Path is below the command's SecretsDir, with slashes.
	Path     string
	Mode     fs.FileMode
	Contents []byte
}

// checkSecrets refuses files that would not be below their directory.
func checkSecrets(cmd Command) error {
	if len(cmd.Secrets) == 0 {
		return nil
	}
	if !filepath.IsAbs(cmd.SecretsDir) || filepath.Clean(cmd.SecretsDir) != cmd.SecretsDir || cmd.SecretsDir == "/" {
		return fmt.Errorf("secrets in %q: want a clean absolute path below the root", cmd.SecretsDir)
	}
	for _, f := range cmd.Secrets {
		if !filepath.IsLocal(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "." || f.Mode&^0o777 != 0 {
			return fmt.Errorf("secret file %q with mode %o: want a plain path below its directory and permissions only", f.Path, f.Mode)
		}
	}
	return nil
}

// writeSecrets writes files below dir, which exists and is nobody else's.
// Nothing that stands there, such as a link, can lead it elsewhere.
func writeSecrets(dir string, files []SecretFile) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for _, f := range files {
		if parent := path.Dir(f.Path); parent != "." {
			if err := root.MkdirAll(parent, 0o700); err != nil {
				return err
			}
		}
		file, err := root.OpenFile(f.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = file.Write(f.Contents)
		if err := errors.Join(err, file.Chmod(f.Mode), file.Close()); err != nil {
			return fmt.Errorf("secret file %s: %w", f.Path, err)
		}
	}
	return nil
}

// placeSecrets is writeSecrets for a driver that cannot hide a directory: the
// directory is made for this user alone, and what stood there goes first.
func placeSecrets(dir string, files []SecretFile) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return writeSecrets(dir, files)
}
