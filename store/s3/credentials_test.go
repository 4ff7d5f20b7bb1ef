package s3_test

import (
	nethttp "net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"caravel/store"
	"caravel/store/s3"
)

// Who we are, and in which region: what is said first in the package's doc counts
// most.
func TestWho(t *testing.T) {
	const config = "[default]\nregion = r-default\n[profile work]\nregion = r-work\n"
	const keys = "[default]\naws_access_key_id = file\naws_secret_access_key = s\n[work]\naws_access_key_id = work\naws_secret_access_key = s\n"
	tests := []struct {
		name   string
		env    string // NAME=value words
		given  s3.Credentials
		files  bool
		want   string // access key/region; "": not signed
		failed string // in the error
	}{
		{name: "nobody"},
		{name: "files", files: true, want: "file/r-default"},
		{name: "profile", files: true, env: "AWS_PROFILE=work", want: "work/r-work"},
		{name: "given profile", files: true, given: s3.Credentials{Profile: "work"}, want: "work/r-work"},
		{name: "given keys", files: true, given: s3.Credentials{AccessKey: "given", SecretKey: "s", Region: "r-given"}, want: "given/r-given"},
		{name: "AWS", env: "AWS_ACCESS_KEY_ID=aws AWS_SECRET_ACCESS_KEY=s AWS_REGION=r-aws", given: s3.Credentials{AccessKey: "given", SecretKey: "s"}, want: "aws/r-aws"},
		{name: "S3", env: "S3_ACCESS_KEY=s3 S3_SECRET_KEY=s S3_REGION=r-s3 AWS_ACCESS_KEY_ID=aws AWS_SECRET_ACCESS_KEY=s AWS_REGION=r-aws", files: true, want: "s3/r-s3"},
		{name: "no secret", env: "S3_ACCESS_KEY=s3", failed: "there is $S3_ACCESS_KEY without $S3_SECRET_KEY"},
		{name: "no key", env: "AWS_SECRET_ACCESS_KEY=hidden", failed: "there is $AWS_SECRET_ACCESS_KEY without $AWS_ACCESS_KEY_ID"},
		{name: "no profile", files: true, env: "AWS_PROFILE=play", failed: "profile play"},
		{name: "no file", given: s3.Credentials{File: "/nonexistent"}, failed: "/nonexistent"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nobody(t)
			if tt.files {
				dir := filepath.Join(os.Getenv("HOME"), ".aws")
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				for name, text := range map[string]string{"config": config, "credentials": keys} {
					if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, word := range strings.Fields(tt.env) {
				name, value, _ := strings.Cut(word, "=")
				t.Setenv(name, value)
			}
			if tt.failed != "" {
				_, err := s3.New("s3+http://host/bucket", s3.Options{Credentials: tt.given})
				if err == nil || !strings.Contains(err.Error(), tt.failed) || strings.Contains(err.Error(), "hidden") {
					t.Errorf("got %v, want %q in it", err, tt.failed)
				}
				return
			}
			var who atomic.Value
			b := serveAs(t, func(_ nethttp.ResponseWriter, r *nethttp.Request) { who.Store(r.Header.Get("Authorization")) }, tt.given)
			if _, err := get(t.Context(), b, "x", store.Range{}); err != nil {
				t.Fatal(err)
			}
			got := ""
			if _, rest, ok := strings.Cut(who.Load().(string), "Credential="); ok {
				parts := strings.Split(rest, "/")
				got = parts[0] + "/" + parts[2]
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// An endpoint in the environment stands for Amazon.
func TestEndpoint(t *testing.T) {
	nobody(t)
	t.Setenv("AWS_ENDPOINT_URL", "ftp://secret@host")
	if _, err := s3.New("s3://bucket/d", s3.Options{}); err == nil || !strings.Contains(err.Error(), "$AWS_ENDPOINT_URL is not") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}
