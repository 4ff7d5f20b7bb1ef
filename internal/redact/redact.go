// Package redact shows people where something is without what lets one in there.
package redact

import (
	"net/url"
	"strings"
)

// URL is a URL, even a malformed one, without what may be secret: user, password,
// query and fragment. What is none stays as it is.
func URL(location string) string {
	if u, err := url.Parse(location); err == nil && u.Host != "" {
		return u.Scheme + "://" + u.Host + u.EscapedPath()
	}
	scheme, rest, ok := strings.Cut(location, "://")
	if !ok {
		return location
	}
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	if end := strings.IndexAny(rest, "?#"); end >= 0 {
		rest = rest[:end]
	}
	return scheme + "://" + rest
}
