package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"caravel/store"
)

// TestEncryptionFlags: what is typed, and what key comes of it.
func TestEncryptionFlags(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("commands of /bin/sh")
	}
	other := strings.Repeat("ab", 32)
	dir := t.TempDir()
	file, bad := filepath.Join(dir, "key"), filepath.Join(dir, "bad")
	for path, content := range map[string]string{file: hex64 + "\n", bad: "no key but " + hex64} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const xchacha, gcm = "xchacha20-poly1305-", "aes-256-gcm-"
	id := func(secret string) string { // the four bytes
		k, err := store.ParseKey(store.XChaCha20Poly1305, secret)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(k.String(), xchacha)
	}
	tests := []struct {
		name, ours, desyncs, typed string
		want                       string // the key; an error if it ends in a colon
	}{
		{"nothing", "", "", "", "none"},
		{"the environment alone", hex64, hex64, "", "none"},
		{"the environment", hex64, other, "--encryption", xchacha + id(hex64)},
		{"desync's", "", other, "--encryption=yes", xchacha + id(other)},
		{"another cipher", hex64, "", "--encryption=aes-256-gcm", gcm + id(hex64)},
		{"desync's flags", "", hex64, "--encryption --encryption-algorithm aes-256-gcm", gcm + id(hex64)},
		{"desync's algorithm alone", hex64, "", "--encryption-algorithm=aes-256-gcm", gcm + id(hex64)},
		{"a file", other, "", "--encryption-key-file " + file, xchacha + id(hex64)},
		{"a command", other, "", "--encryption --encryption-key-command=cat<" + file, xchacha + id(hex64)},
		{"in the open", "", "", "--encryption-key=" + hex64, xchacha + id(hex64)},
		{"switched off", hex64, "", "--encryption-key-file " + file + " --encryption=no", "none"},
		{"no key", "", "", "--encryption", "there is no key:"},
		{"two", "", "", "--encryption-key-file " + file + " --encryption-key=" + hex64, "want one of:"},
		{"no file", "", "", "--encryption-key-file=" + dir + "/none", "no such file:"},
		{"not a key", "", "", "--encryption-key-file=" + bad, "--encryption-key-file: store: a key for xchacha20-poly1305 is 64 hexadecimal digits:"},
		{"too short", hex64[2:], "", "--encryption", "$CARAVEL_ENCRYPTION_KEY: store: a key:"},
		{"a command that fails", "", "", "--encryption-key-command=false", "exit status 1:"},
		{"a command without end", "", "", "--encryption-key-command=yes", "--encryption-key-command:"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(keyVariables[0], tt.ours)
			t.Setenv(keyVariables[1], tt.desyncs)
			var opt encryptionOptions
			if stderr, status := try(t, encryptionFlags(&opt), strings.Fields(tt.typed)...); status != exitDone {
				t.Fatal(stderr)
			}
			var stderr bytes.Buffer
			f, err := opt.form(t.Context(), store.Form{Either: true}, &stderr, logOptions{}.logger(&stderr))
			if text, bad := strings.CutSuffix(tt.want, ":"); bad {
				if err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), hex64[8:20]) {
					t.Errorf("got %v, want %q", err, text)
				}
			} else if err != nil || f.Key.String() != tt.want || !f.Either {
				t.Errorf("got %v, %v; want %s", f.Key, err, tt.want)
			}
			if strings.Contains(stderr.String(), hex64[8:20]) || strings.Contains(stderr.String(), "level=WARN") != (tt.name == "in the open") {
				t.Errorf("said %s", stderr.String())
			}
		})
	}
}

func TestEncryptionFlagsRefuse(t *testing.T) {
	for _, typed := range []string{"--encryption=rot13", "--encryption-algorithm=aes"} {
		if stderr, status := try(t, encryptionFlags(new(encryptionOptions)), typed); status != exitUsage {
			t.Errorf("%s: status %d, %s", typed, status, stderr)
		}
	}
}

// TestKeyForAllToRead: who lets others read the key's file is told so.
func TestKeyForAllToRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes mean nothing there")
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(hex64), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, warned := range map[os.FileMode]bool{0o644: true, 0o640: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		if _, err := readKey(path, logOptions{}.logger(&log)); err != nil || (log.Len() > 0) != warned {
			t.Errorf("%v: said %q, error %v", mode, log.String(), err)
		}
	}
}
