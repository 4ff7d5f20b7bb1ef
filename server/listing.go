package server

import (
	"fmt"
	"html"
	"net/url"
	"strings"
)

// listing is a page of links.
func listing(title string, names []string) string {
	var b strings.Builder
	title = html.EscapeString(title)
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>%s</title>\n<h1>%[1]s</h1>\n<pre>\n", title)
	for _, name := range names {
		// With ./ in front, no name can be taken for a scheme.
		link := url.URL{Path: "./" + name}
		fmt.Fprintf(&b, "<a href=\"%s\">%s</a>\n", html.EscapeString(link.EscapedPath()), html.EscapeString(name))
	}
	b.WriteString("</pre>\n")
	return b.String()
}
