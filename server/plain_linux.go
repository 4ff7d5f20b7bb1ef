package server

import (
	"bytes"
	"net/http"
	"strconv"
	"time"
)

// A plainRequest is a GET of which no header changes the answer. Its bytes are those
// of the head that it was read from.
type plainRequest struct {
	path          []byte // without escapes and queries
	authorization []byte // nil: none
	size          int    // of the head
}

// Headers that change nothing for the answer to a GET of a file, in lower case.
var plainHeaders = []string{
	"user-agent", "accept", "accept-encoding", "accept-language",
	"via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", // by proxies
}

// parsePlain reads the head that b begins with. false: it is not whole, or there is
// anything in it about which net/http might have an opinion of its own.
func parsePlain(b []byte) (req plainRequest, ok bool) {
	line, rest, ok := cutLine(b)
	if !ok {
		return req, false
	}
	if req.path, ok = plainPath(line); !ok {
		return req, false
	}
	hosts := 0
	for {
		if line, rest, ok = cutLine(rest); !ok {
			return req, false
		}
		if len(line) == 0 {
			break
		}
		name, value, ok := cutHeader(line)
		switch {
		case !ok:
			return req, false
		case equalFold(name, "host") && plainHost(value):
			hosts++
		case equalFold(name, "authorization") && req.authorization == nil:
			req.authorization = value
		case equalFold(name, "connection") && equalFold(value, "keep-alive"):
		case !isPlainHeader(name):
			return req, false
		}
	}
	req.size = len(b) - len(rest)
	return req, hosts == 1
}

// cutLine is the first line of b, of printable characters, and what is behind it.
func cutLine(b []byte) (line, rest []byte, ok bool) {
	end := bytes.IndexByte(b, '\n')
	if end < 1 || b[end-1] != '\r' {
		return nil, nil, false
	}
	line = b[:end-1]
	for _, c := range line {
		if c < ' ' || c > '~' {
			return nil, nil, false
		}
	}
	return line, b[end+1:], true
}

// plainPath is what a request line asks for, if it is made of letters that mean
// themselves.
func plainPath(line []byte) ([]byte, bool) {
	const before, behind = "GET ", " HTTP/1.1"
	n := len(line) - len(behind)
	if n < len(before)+1 || string(line[:len(before)]) != before || string(line[n:]) != behind {
		return nil, false
	}
	path := line[len(before):n]
	for _, c := range path {
		if !alphanumeric(c) && c != '/' && c != '.' && c != '-' {
			return nil, false
		}
	}
	return path, path[0] == '/'
}

func alphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// cutHeader splits "Name: value"; there is one space between, and none elsewhere at
// an end.
func cutHeader(line []byte) (name, value []byte, ok bool) {
	colon := bytes.IndexByte(line, ':')
	if colon < 1 || len(line) < colon+3 || line[colon+1] != ' ' {
		return nil, nil, false
	}
	name, value = line[:colon], line[colon+2:]
	for _, c := range name {
		if !alphanumeric(c) && c != '-' {
			return nil, nil, false
		}
	}
	return name, value, value[0] != ' ' && value[len(value)-1] != ' '
}

// plainHost reports whether a host is one of letters, digits and what is between
// them: the handler does not look at it.
func plainHost(host []byte) bool {
	for _, c := range host {
		if !alphanumeric(c) && c != '.' && c != '-' && c != ':' && c != '[' && c != ']' {
			return false
		}
	}
	return true
}

func isPlainHeader(name []byte) bool {
	for _, known := range plainHeaders {
		if equalFold(name, known) {
			return true
		}
	}
	return false
}

// equalFold compares ASCII with what is in lower case.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// appendHead appends the head of an answer as net/http and send make it, in their
// order. date is the text of Date; last says that no request is answered after it.
func appendHead(b []byte, f lying, date []byte, last bool) []byte {
	b = append(b, "HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nCache-Control: "...)
	b = append(b, f.cache...)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, f.info.Size, 10)
	b = append(b, "\r\nContent-Type: application/octet-stream\r\nEtag: "...)
	b = append(b, f.tag...)
	b = append(b, "\r\nLast-Modified: "...)
	b = f.info.ModTime.UTC().AppendFormat(b, http.TimeFormat)
	b = append(b, "\r\nDate: "...)
	b = append(b, date...)
	if last {
		b = append(b, "\r\nConnection: close"...)
	}
	return append(b, "\r\n\r\n"...)
}

// A clock has the time as answers have it, written once a second.
type clock struct {
	second int64
	text   []byte
}

func (c *clock) date(now time.Time) []byte {
	if s := now.Unix(); s != c.second {
		c.second, c.text = s, now.UTC().AppendFormat(c.text[:0], http.TimeFormat)
	}
	return c.text
}
