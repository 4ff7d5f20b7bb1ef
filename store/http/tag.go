package http

import (
	nethttp "net/http"
	"strings"
	"time"

	"caravel/store"
)

// tag is what tells an object's version from any other: its ETag, or else the
// date of its last change, if that was long enough before the answer that a
// later change will have another one.
func tag(resp *nethttp.Response) string {
	if t := resp.Header.Get("ETag"); t != "" {
		return t
	}
	text := resp.Header.Get("Last-Modified")
	if text == "" {
		return ""
	}
	changed, err := nethttp.ParseTime(text)
	if err != nil {
		return ""
	}
	answered, err := nethttp.ParseTime(resp.Header.Get("Date"))
	if err != nil || answered.Sub(changed) < time.Second {
		return ""
	}
	return text
}

// onlyIf asks for an object that has the tag must, and not the tag have; "" is
// none. Servers may ignore it: checkTag knows better.
func onlyIf(h nethttp.Header, must, have string) {
	switch {
	case isDate(must):
		h.Set("If-Unmodified-Since", must)
	case strings.HasPrefix(must, `"`) && printable(must): // a weak one never matches
		h.Set("If-Match", must)
	}
	switch {
	case isDate(have):
		h.Set("If-Modified-Since", have)
	case have != "" && printable(have):
		h.Set("If-None-Match", have)
	}
}

func isDate(tag string) bool {
	if tag == "" || tag[0] == '"' {
		return false // spares making an error
	}
	_, err := nethttp.ParseTime(tag)
	return err == nil
}

// printable reports whether a header can hold a text.
func printable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// checkTag refuses the answer to a request with onlyIf's conditions if they do
// not hold.
func checkTag(resp *nethttp.Response, b *body, must, have string) error {
	switch resp.StatusCode {
	case nethttp.StatusNotModified:
		if have != "" {
			return b.fail(store.ErrUnchanged, "%w", store.ErrUnchanged)
		}
	case nethttp.StatusPreconditionFailed:
		if must != "" {
			return b.fail(store.ErrChanged, "%w: its tag is not %#q", store.ErrChanged, must)
		}
	case nethttp.StatusRequestedRangeNotSatisfiable:
		if got := tag(resp); must != "" && got != "" && got != must { // an error need not say it
			return b.fail(store.ErrChanged, "%w: its tag is %#q, not %#q", store.ErrChanged, got, must)
		}
	case nethttp.StatusOK, nethttp.StatusPartialContent:
		got := tag(resp)
		if must != "" && got != must {
			return b.fail(store.ErrChanged, "%w: its tag is %#q, not %#q", store.ErrChanged, got, must)
		}
		if have != "" && weak(got) == weak(have) {
			return b.fail(store.ErrUnchanged, "%w", store.ErrUnchanged)
		}
	}
	return nil
}

// weak is a tag as it compares with that of a copy.
func weak(tag string) string { return strings.TrimPrefix(tag, "W/") }
