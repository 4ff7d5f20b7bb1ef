package open

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// DefaultStore is where the chunks of an index are if nobody says it:
// $CASYNC_STORE, else default.castr beside the index, else, for an index from
// standard input, in the current folder.
func DefaultStore(index string) string {
	return cmp.Or(os.Getenv("CASYNC_STORE"), beside(index, "default.castr"))
}

// Beside is where a side file of an index lies: the index's own location with
// suffix behind the file's name. The query of a URL is kept: it may be what lets
// us in. "" for standard input, beside which there is nothing.
func Beside(index, suffix string) string {
	scheme, isURL, err := classify(index)
	if err != nil {
		return ""
	}
	if isURL && scheme != "file" {
		path := pathStart(index)
		if query := strings.IndexByte(index[path:], '?'); query >= 0 {
			return index[:path+query] + suffix + index[path+query:]
		}
	}
	return index + suffix
}

// HasSides reports whether there can be files beside the index at a location: where
// casync's protocol leads, there are none, nor beside standard input.
func HasSides(index string) bool {
	s, err := schemeOf(index)
	return err == nil && s.chunks == nil
}

// beside puts name in the place of a location's last component.
func beside(location, name string) string {
	scheme, isURL, err := classify(location)
	root, query := 0, "" // where the path begins, and what stands behind it
	switch {
	case err != nil || scheme == "": // - or a path
		dir, _ := filepath.Split(strings.TrimRight(location, "/"))
		return dir + name
	case isURL:
		if scheme != "file" {
			whole := location
			location = cutQuery(location)
			if keepsQuery(scheme) {
				query = whole[len(location):]
			}
		}
		root = pathStart(location)
	default:
		root = strings.IndexByte(location, ':') + 1
	}
	path := strings.TrimRight(location[root:], "/")
	path = path[:strings.LastIndexByte(path, '/')+1]
	if path == "" && isURL {
		path = "/"
	}
	return location[:root] + path + name + query
}

// keepsQuery reports whether the query of a URL counts for what lies beside it.
func keepsQuery(name string) bool {
	i := slices.IndexFunc(schemes, func(s scheme) bool { return s.name == name })
	return i >= 0 && schemes[i].query
}

// cutQuery is a URL whose path ends at the first ? or ;, which is casync's
// idea of a store.
func cutQuery(location string) string {
	path := pathStart(location)
	if end := strings.IndexAny(location[path:], "?;"); end >= 0 {
		return location[:path+end]
	}
	return location
}

// pathStart is where the path of a URL begins, behind the host.
func pathStart(location string) int {
	host := strings.Index(location, "://") + len("://")
	if n := strings.IndexAny(location[host:], "/?"); n >= 0 {
		return host + n
	}
	return len(location)
}
