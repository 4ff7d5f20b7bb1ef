package tarball

import "os"

// named makes a temporary file, and takes its name away where that can be done to an
// open one; else it returns the name.
func named(dir string) (f *os.File, name string, err error) {
	f, err = os.CreateTemp(dir, "caravel-spool-*")
	if err != nil || os.Remove(f.Name()) == nil {
		return f, "", err
	}
	return f, f.Name(), nil
}
