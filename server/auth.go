package server

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

// An Auth decides who is served. A nil one serves everybody. Its methods may be
// called from many goroutines.
type Auth struct {
	values [][32]byte        // digests of headers that let in
	users  map[string]string // name -> password, as the file has it
	other  string            // some password: an unknown name shall take as long as a known one

	checks chan struct{} // room for those who compute, which costs a processor a while
	mu     sync.Mutex
	known  map[[32]byte]bool // digests of headers that were found right; guarded by mu
}

// NewAuth lets in who sends one of values as the whole of the Authorization header,
// and the users, if it is not nil, of a file as htpasswd -B makes it: a line for each,
// with a name, a colon, and the password's bcrypt, or {PLAIN} and the password. Lines
// that begin with # say nothing.
func NewAuth(values []string, users io.Reader) (*Auth, error) {
	a := &Auth{users: map[string]string{}, checks: make(chan struct{}, 2), known: map[[32]byte]bool{}}
	for _, v := range values {
		a.values = append(a.values, sha256.Sum256([]byte(v)))
	}
	if users == nil {
		return a, nil
	}
	lines := bufio.NewScanner(users)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, password, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("line %d: want a name, a colon, and a password's bcrypt", n)
		}
		if _, err := bcrypt.Cost([]byte(password)); err != nil && !strings.HasPrefix(password, plain) {
			return nil, fmt.Errorf("line %d: the password of %q is neither bcrypt (htpasswd -B) nor {PLAIN}", n, name)
		}
		a.users[name] = password
		a.other = cmp.Or(a.other, password)
	}
	return a, lines.Err()
}

const plain = "{PLAIN}"

// guard has a handler serve only those who may be served.
func (a *Auth) guard(h http.Handler) http.Handler {
	if a == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.lets(r) {
			h.ServeHTTP(w, r)
			return
		}
		if len(a.users) > 0 {
			w.Header().Set("WWW-Authenticate", `Basic realm="caravel", charset="UTF-8"`)
		}
		refuse(w, http.StatusUnauthorized, "not authorized")
	})
}

func (a *Auth) lets(r *http.Request) bool {
	header := r.Header.Get("Authorization")
	if header == "" {
		return false
	}
	sum := sha256.Sum256([]byte(header))
	if a.isValue(sum) {
		return true
	}
	name, password, ok := r.BasicAuth()
	return ok && len(a.users) > 0 && a.knows(r, sum, name, password)
}

// isValue reports whether a header with that digest lets in.
func (a *Auth) isValue(sum [32]byte) bool {
	// Digests have one length, so that the comparison says nothing of a value's.
	found := 0
	for _, v := range a.values {
		found |= subtle.ConstantTimeCompare(sum[:], v[:])
	}
	return found == 1
}

// already reports whether lets is known to let in who sends that header; what takes
// time, or is wrong, is left to it.
func (a *Auth) already(header []byte) bool {
	if a == nil {
		return true
	}
	if len(header) == 0 {
		return false
	}
	sum := sha256.Sum256(header)
	if a.isValue(sum) {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known[sum]
}

// knows compares a user's password, once for each that is right: bcrypt is slow.
func (a *Auth) knows(r *http.Request, sum [32]byte, name, password string) bool {
	a.mu.Lock()
	known := a.known[sum]
	a.mu.Unlock()
	if known {
		return true
	}
	select {
	case a.checks <- struct{}{}:
		defer func() { <-a.checks }()
	case <-r.Context().Done():
		return false
	}
	stored, ok := a.users[name]
	if !ok {
		stored = a.other
	}
	if !right(stored, password) || !ok {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known[sum] = true // at most as many as there are users
	return true
}

func right(stored, password string) bool {
	if want, ok := strings.CutPrefix(stored, plain); ok {
		x, y := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(password))
		return subtle.ConstantTimeCompare(x[:], y[:]) == 1
	}
	return bcrypt.CompareHashAndPassword([]byte(stored), []byte(password)) == nil
}
