package main

import (
	"slices"
	"strings"
	"testing"
)

func TestSplitWords(t *testing.T) {
	for text, want := range map[string][]string{
		"":                        nil,
		"ro":                      {"ro"},
		"ro,,noexec,":             {"ro", "noexec"},
		`store=/a\,b,ro`:          {"store=/a,b", "ro"},
		`context="s0:c1,c2",ro`:   {"context=s0:c1,c2", "ro"},
		`fsname=a\\b`:             {`fsname=a\b`},
		`fsname=a\"b`:             {`fsname=a"b`},
		"x-systemd.requires=a,ro": {"x-systemd.requires=a", "ro"},
	} {
		got, err := splitWords(text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{`a"b`, `a\`} {
		if got, err := splitWords(text); err == nil {
			t.Errorf("%s: %q", text, got)
		}
	}
}

// TestMountWords refuses what nobody knows, before anything is mounted.
func TestMountWords(t *testing.T) {
	for words, want := range map[string]string{
		"nonsense":             "-o nonsense: no such option",
		"uid":                  "-o uid",
		"uid=nobody-at-all":    "nobody-at-all",
		"umask=9":              "-o umask=9: want permissions",
		"umask=1777":           "-o umask=1777: want permissions",
		"cache-size":           "-o cache-size: needs a value",
		"cache-size=x":         "-o cache-size=x",
		"options=ro":           "-o options=ro: no such option",
		"no-sweep=perhaps":     "-o no-sweep=perhaps",
		"uid-range=0":          "-o uid-range=0",
		`context="a`:           "ends in the middle",
		"uid-shift=4294967295": "go beyond 2^32",
	} {
		stdout, stderr, status := caravel(t, "mount", "-o", words, "none.caidx", t.TempDir())
		if status != exitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("-o %s: status %d, %s%s", words, status, stdout, stderr)
		}
	}
	// What is known, and what is nobody's business, is no reason to fail.
	for _, words := range []string{
		"rw,nofail,_netdev,x-systemd.automount,X-mount.mkdir,noatime,defaults,user,comment=a", "sloppy,nonsense",
		"no-sweep,cache-size=1G,uid=0,gid=0,umask=022,fmask=133,dmask=022,noexec,nosuid,nodev,allow_other,fsname=a\\,b,context=a",
	} {
		if _, stderr, status := caravel(t, "mount", "-o", words, "none.caidx", t.TempDir()); status != exitFailed || !strings.Contains(stderr, "none.caidx") {
			t.Errorf("-o %s: status %d, %s", words, status, stderr)
		}
	}
}

func TestMasks(t *testing.T) {
	for _, tt := range []struct {
		set                     map[string]string
		file, dir, wantF, wantD uint32
	}{
		{map[string]string{"umask": "022"}, 0o100600, 0o40700, 0o755, 0o755},
		{map[string]string{"umask": "077", "fmask": "133"}, 0o104755, 0o40700, 0o644, 0o700},
		{map[string]string{"fmask": "133"}, 0o100600, 0o41700, 0o644, 0o1700},
	} {
		var m masks
		for name, value := range tt.set {
			if err := m.set(name, value); err != nil {
				t.Fatal(err)
			}
		}
		perm := m.perm()
		if f, d := perm(tt.file), perm(tt.dir); f != tt.wantF || d != tt.wantD {
			t.Errorf("%v: %o, %o", tt.set, f, d)
		}
	}
	if (masks{}).perm() != nil {
		t.Error("permissions of no masks")
	}
}
