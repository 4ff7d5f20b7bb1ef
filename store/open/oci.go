//go:build !no_oci

package open

import (
	"os"

	"caravel/store"
	"caravel/store/oci"
)

// ociSchemes are repositories of OCI registries.
var ociSchemes = []scheme{
	{name: "oci+http", remote: true, object: ociObject, folder: ociFolder},
	{name: "oci+https", remote: true, object: ociObject, folder: ociFolder},
}

func ociObject(location string, opt Options) (store.Blobs, string, error) {
	return oci.Object(location, ociOptions(opt))
}

func ociFolder(location string, opt Options) (store.Blobs, error) {
	return oci.New(location, ociOptions(opt))
}

// ociOptions are desync's: the environment goes before what is configured.
func ociOptions(opt Options) oci.Options {
	user, password := os.Getenv("DESYNC_OCI_USERNAME"), os.Getenv("DESYNC_OCI_PASSWORD")
	if user == "" && password == "" {
		user, password = opt.Registry.User, opt.Registry.Password
	}
	return oci.Options{HTTP: opt.HTTP, User: user, Password: password}
}
