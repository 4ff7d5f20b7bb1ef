package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"caravel/config"
)

const configured = `{"store-options": {"https://h/x": {"http-auth": "Bearer s3cret", "n": 4}},
	"s3-credentials": {"https://s3": {"access-key": "A", "secret-key": "s3cret"}}}`

func TestConfigShows(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.json")
	if err := os.WriteFile(file, []byte(configured), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args   []string
		want   string
		secret bool
	}{
		{nil, `"http-auth": "(hidden)"`, false},
		{[]string{"--show-secrets"}, `"http-auth": "Bearer s3cret"`, true},
		{[]string{"--json"}, `{"file":"` + file + `","config":{`, false},
		{[]string{"https://h/x"}, `"n": 4`, false},
		{[]string{"s3+https://s3/bucket"}, `"secret-key": "(hidden)"`, false},
		{[]string{"s3+https://s3/bucket", "--show-secrets"}, `"secret-key": "s3cret"`, true},
		{[]string{"https://other"}, "{}\n", false},
	} {
		stdout, stderr, status := caravel(t, append([]string{"config", "--config", file}, tt.args...)...)
		if status != exitDone || !strings.Contains(stdout, tt.want) || strings.Contains(stdout, "s3cret") != tt.secret {
			t.Errorf("%v: status %d, %s%s; want %s", tt.args, status, stdout, stderr, tt.want)
		}
	}
}

func TestConfigWrites(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("CARAVEL_CONFIG", "")
	theirs, ours := filepath.Join(home, ".config/desync/config.json"), filepath.Join(home, ".config/caravel/config.json")
	if err := os.MkdirAll(filepath.Dir(theirs), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(theirs, []byte(configured), 0o644); err != nil {
		t.Fatal(err)
	}
	stdout, stderr, status := caravel(t, "config", "-w")
	if status != exitDone || stdout != "Written: "+ours+"\n" {
		t.Fatalf("status %d, %s%s", status, stdout, stderr)
	}
	st, err := os.Stat(ours)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", st.Mode(), err)
	}
	c, err := config.Load("")
	if err != nil || c.File != ours || c.Stores["https://h/x"].HTTPAuth != "Bearer s3cret" {
		t.Errorf("got %+v, error %v", c, err)
	}
	if stdout, stderr, status := caravel(t, "config", "--write", "--config", filepath.Join(home, "new/c.json")); status != exitDone {
		t.Errorf("a file that was not there: status %d, %s%s", status, stdout, stderr)
	}
}

func TestConfigMistakes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.json")
	if err := os.WriteFile(file, []byte(`{"store-optionz": {}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"config", "--config", file}, exitFailed, file + `: config: unknown key "store-optionz" (did you mean store-options?)`},
		{[]string{"digest", "--config", file, file}, exitFailed, `unknown key "store-optionz"`},
		{[]string{"digest", "--config", "/none/c.json", file}, exitFailed, "no such file"},
		{[]string{"config", "a", "b"}, exitUsage, "want one LOCATION or none"},
		{[]string{"config", "-w", "a"}, exitUsage, "leave out LOCATION"},
		{[]string{"config", "-w", "--config=none"}, exitUsage, "is no file"},
		{[]string{"digest", "--header", "s3cret", file}, exitUsage, "--header: want NAME: VALUE"},
		{[]string{"digest", "--client-cert", "x", file}, exitUsage, "--client-cert and client-key go together"},
		{[]string{"digest", "--rate-limit-bps", "0", file}, exitUsage, "want more than 0"},
		{[]string{"digest", "-e", "-1", file}, exitUsage, "want a number of tries"},
	} {
		_, stderr, status := caravel(t, tt.args...)
		if status != tt.status || !strings.Contains(stderr, tt.want) || strings.Contains(stderr, "s3cret") {
			t.Errorf("%v: status %d, %s; want %d, %s", tt.args, status, stderr, tt.status, tt.want)
		}
	}
}
