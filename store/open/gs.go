//go:build !no_gs

package open

import (
	"os"

	"caravel/store"
	"caravel/store/gs"
)

// gsSchemes are buckets of Google Cloud Storage.
var gsSchemes = []scheme{{name: "gs", remote: true, object: gsObject, folder: gsFolder}}

func gsObject(location string, opt Options) (store.Blobs, string, error) {
	return gs.Object(location, gsOptions(opt))
}

func gsFolder(location string, opt Options) (store.Blobs, error) {
	return gs.New(location, gsOptions(opt))
}

// gsOptions heed the variable of Google's own programs.
func gsOptions(opt Options) gs.Options {
	return gs.Options{HTTP: opt.HTTP, Emulator: os.Getenv("STORAGE_EMULATOR_HOST")}
}
