package open

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"caravel/internal/redact"
	"caravel/store"
	"caravel/store/http"
	"caravel/store/local"
)

// A scheme opens the locations of one kind.
type scheme struct {
	name   string // in front of ://; "": a path
	remote bool
	query  bool                                  // says how the server is reached: it belongs to what lies beside, too
	path   func(location string) (string, error) // nil: not a file of this machine
	object func(location string, opt Options) (store.Blobs, string, error)
	folder func(location string, opt Options) (store.Blobs, error)
	chunks func(location string, opt Options) (chunkStore, error) // in place of folder, where chunks are no objects; nil: they are

	leftOut bool // of this build, by its tags
}

// A chunkStore keeps chunks without being a store.Blobs.
type chunkStore interface {
	store.Store

	// Writer is the store for those who write.
	Writer() store.Writer

	// String is the path or URL, without secrets.
	String() string
}

// schemes are the kinds of locations; it is never changed. What is in a file of its own
// can be left out of a build.
var schemes = slices.Concat(
	[]scheme{
		{name: "", path: plainPath, object: localObject(plainPath), folder: localFolder(plainPath)},
		{name: "file", path: filePath, object: localObject(filePath), folder: localFolder(filePath)},
		{name: "http", remote: true, object: webObject, folder: webFolder},
		{name: "https", remote: true, object: webObject, folder: webFolder},
	},
	s3Schemes, gsSchemes, sftpSchemes, ftpSchemes, ociSchemes, sshSchemes,
)

// schemeOf finds the kind of a location.
func schemeOf(location string) (scheme, error) {
	name, _, err := classify(location)
	if err != nil {
		return scheme{}, err
	}
	supported := "a path"
	for _, s := range schemes {
		switch {
		case s.name == name && s.leftOut:
			return scheme{}, fmt.Errorf("open: %s: %s:// is left out of this build", redact.URL(location), name)
		case s.name == name:
			return s, nil
		}
		if s.name != "" && !s.leftOut {
			supported += ", " + s.name + "://"
		}
	}
	if s, ok := helped(name); ok {
		return s, nil
	}
	return scheme{}, fmt.Errorf("open: %s: %s:// is not supported, and there is no casync-%[2]s in $CASYNC_PROTOCOL_PATH; %s are", redact.URL(location), name, supported)
}

// classify tells a path (name "") from a URL and from what casync calls ssh.
func classify(location string) (name string, isURL bool, err error) {
	head, rest, colon := strings.Cut(location, ":")
	switch {
	case location == "":
		return "", false, errors.New("open: a location is empty")
	case location == "-":
		return "", false, errors.New("open: -: standard input cannot serve here; name a file or URL")
	case !colon, head == "", strings.ContainsAny(head, `/\`), strings.HasPrefix(location, "."), filepath.VolumeName(location) != "":
		return "", false, nil
	case strings.HasPrefix(rest, "//"):
		return strings.ToLower(head), true, nil
	}
	return "ssh", false, nil
}

// plainPath takes a path as it is.
func plainPath(location string) (string, error) { return location, nil }

// filePath is the path of a file URL.
func filePath(location string) (string, error) {
	_, rest, _ := strings.Cut(location, "://")
	host, path, ok := strings.Cut(rest, "/")
	if !ok || host != "" && !strings.EqualFold(host, "localhost") {
		return "", fmt.Errorf("open: %s: a file URL is file:///path, of this machine", location)
	}
	path, err := url.PathUnescape("/" + path)
	if err != nil {
		return "", fmt.Errorf("open: %s: a %% in a URL is written %%25", location)
	}
	if strings.ContainsRune(path, 0) {
		return "", fmt.Errorf("open: %s: no path has a NUL", location)
	}
	if filepath.VolumeName(path[1:]) != "" { // file:///C:/folder
		path = path[1:]
	}
	return path, nil
}

func localObject(path func(string) (string, error)) func(string, Options) (store.Blobs, string, error) {
	return func(location string, _ Options) (store.Blobs, string, error) {
		p, err := path(location)
		if err != nil {
			return nil, "", err
		}
		dir, name := filepath.Split(p)
		if name == "" || name == "." || name == ".." {
			return nil, "", fmt.Errorf("open: %s: names a folder, not a file", location)
		}
		return local.New(dir, local.Options{Follow: true}), name, nil
	}
}

func localFolder(path func(string) (string, error)) func(string, Options) (store.Blobs, error) {
	return func(location string, opt Options) (store.Blobs, error) {
		p, err := path(location)
		if err != nil {
			return nil, err
		}
		return local.New(p, local.Options{Mode: 0o444, Renew: opt.Renew}), nil
	}
}

// openPath opens whatever can be read from start to end.
func openPath(path string) (io.ReadCloser, store.Info, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, store.Info{}, fmt.Errorf("open: %s: %w", path, store.ErrMissing)
	}
	if err != nil {
		return nil, store.Info{}, err
	}
	fi, err := f.Stat()
	if err == nil && fi.IsDir() {
		err = fmt.Errorf("open: %s: a folder, not a file", path)
	}
	if err != nil {
		f.Close()
		return nil, store.Info{}, err
	}
	if !fi.Mode().IsRegular() {
		return f, store.Info{Size: -1}, nil
	}
	return f, store.Info{Size: fi.Size(), ModTime: fi.ModTime()}, nil
}

func webObject(location string, opt Options) (store.Blobs, string, error) {
	return http.Object(location, opt.HTTP)
}

// webFolder opens a store. As in casync, ? or ; ends its path.
func webFolder(location string, opt Options) (store.Blobs, error) {
	return http.New(cutQuery(location), opt.HTTP)
}
