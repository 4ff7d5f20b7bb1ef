package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// A Token is one that bears who holds it, in a file that something else renews now and
// then. Its methods may be called from many goroutines.
type Token struct {
	path string

	mu     sync.Mutex // guards what follows
	value  string
	looked time.Time // when it was last read
}

// tokenAge is how long a token is good without a look at its file: one that expires is
// renewed minutes before.
const tokenAge = 5 * time.Second

// NewToken makes a Token of a file, which must be there.
func NewToken(path string) (*Token, error) {
	t := &Token{path: path}
	_, err := t.Header()
	return t, err
}

// Header is the value of an Authorization header with the token.
func (t *Token) Header() (string, error) {
	now := time.Now()
	t.mu.Lock()
	value, fresh := t.value, !t.looked.IsZero() && now.Sub(t.looked) < tokenAge
	t.mu.Unlock()
	if fresh {
		return "Bearer " + value, nil
	}
	value, err := readToken(t.path) // perhaps by several at once
	if err != nil {
		return "", err
	}
	t.mu.Lock()
	t.value, t.looked = value, now
	t.mu.Unlock()
	return "Bearer " + value, nil
}

func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	defer f.Close()
	const most = 64 << 10
	content, err := io.ReadAll(io.LimitReader(f, most+1))
	content = bytes.TrimSpace(content)
	switch {
	case err != nil:
	case len(content) == 0:
		err = errors.New("is empty")
	case len(content) > most, bytes.ContainsAny(content, " \t\r\n"), !httpguts.ValidHeaderFieldValue(string(content)):
		err = errors.New("holds no token")
	}
	if err != nil {
		return "", fmt.Errorf("token: %s: %w", path, err)
	}
	return string(content), nil
}
