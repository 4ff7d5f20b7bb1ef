package oci

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"strings"
)

const (
	maxTag   = 128 // by the specification of registries
	idDigits = 64
	folder   = 4 // digits of a chunk's folder
)

// tagOf is the tag of an object. A chunk's is the name of its file, as in desync; any
// other name is its own tag if it can be, and else a _ and the name, in which what a tag
// cannot hold, and each _, is a _ and two hexadecimal digits.
func tagOf(name string) (string, error) {
	if !fs.ValidPath(name) || name == "." {
		return "", fmt.Errorf("%q is no name in a repository", name)
	}
	tag := name
	if dir, file, ok := strings.Cut(name, "/"); ok && isChunk(file) && dir == file[:folder] {
		tag = file
	} else if isChunk(name) || !isTag(name) {
		tag = escape(name)
	}
	if len(tag) > maxTag {
		return "", fmt.Errorf("%q is too long for a tag of a registry: %d signs, most are %d", name, len(tag), maxTag)
	}
	return tag, nil
}

// nameOf is the object of a tag; ok is false if the tag is none of tagOf's.
func nameOf(tag string) (name string, ok bool) {
	switch {
	case isChunk(tag):
		return tag[:folder] + "/" + tag, true
	case strings.HasPrefix(tag, "_"):
		name, ok = unescape(tag)
	default:
		name, ok = tag, true
	}
	again, err := tagOf(name)
	return name, ok && err == nil && again == tag
}

// isChunk reports whether a file's name is that of a chunk, in whatever form.
func isChunk(file string) bool {
	if len(file) < idDigits || len(file) > idDigits && file[idDigits] != '.' {
		return false
	}
	for _, c := range []byte(file[:idDigits]) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return isTag(file)
}

// isTag reports whether a registry takes text as a tag and tagOf does not use it
// otherwise.
func isTag(text string) bool {
	for i := range len(text) {
		if !inTag(text[i]) || i == 0 && (text[0] == '.' || text[0] == '-' || text[0] == '_') {
			return false
		}
	}
	return text != ""
}

func inTag(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
}

func escape(name string) string {
	var b strings.Builder
	b.WriteByte('_')
	for i := range len(name) {
		if c := name[i]; inTag(c) && c != '_' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}

func unescape(tag string) (name string, ok bool) {
	first, rest, _ := strings.Cut(tag[1:], "_")
	b := []byte(first)
	for rest != "" {
		if len(rest) < 2 {
			return "", false
		}
		c, err := hex.DecodeString(rest[:2])
		if err != nil {
			return "", false
		}
		b = append(b, c...)
		var plain string
		plain, rest, ok = strings.Cut(rest[2:], "_")
		if b = append(b, plain...); ok && rest == "" {
			return "", false
		}
	}
	return string(b), true
}
