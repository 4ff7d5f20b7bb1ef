package s3_test

import (
	"strings"
	"testing"

	"caravel/store/s3"
)

// nobody takes the environment of whoever runs the tests away.
func nobody(t testing.TB) {
	t.Helper()
	setenv := t.(interface{ Setenv(key, value string) }).Setenv
	for _, name := range []string{
		"S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_SESSION_TOKEN", "S3_REGION",
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION",
		"AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3",
	} {
		setenv(name, "")
	}
	setenv("HOME", t.TempDir())
}

func TestLocations(t *testing.T) {
	nobody(t)
	tests := []struct{ url, shown, object string }{
		{"s3+http://host:9000/bucket", "s3+http://host:9000/bucket", "s3+http://host:9000/bucket/n a"},
		{"s3+https://host/bucket/a/b/?lookup=path", "s3+https://host/bucket/a/b", ""},
		{"s3+https://host/bucket/a%20b?lookup=dns&region=x", "s3+https://host/bucket/a%20b", ""},
		{"s3://bucket", "s3://bucket", ""},
		{"s3://bucket/a/b?region=eu-west-1", "s3://bucket/a/b", ""},
	}
	for _, tt := range tests {
		b, err := s3.New(tt.url, s3.Options{})
		if err != nil || b.String() != tt.shown || b.Locate("x") != tt.shown+"/x" {
			t.Errorf("%s: %v, %v; want %s", tt.url, b, err, tt.shown)
		}
	}
	for url, want := range map[string]string{
		"s3+http://host/bucket/disk.caibx":                "s3+http://host/bucket disk.caibx",
		"s3+http://host/bucket/a/b%20c.caibx?lookup=path": "s3+http://host/bucket/a b c.caibx",
		"s3://bucket/a/disk.caibx":                        "s3://bucket/a disk.caibx",
	} {
		b, name, err := s3.Object(url, s3.Options{})
		if err != nil || b.String()+" "+name != want {
			t.Errorf("%s: %v, %q, %v; want %s", url, b, name, err, want)
		}
	}
}

// refusedURLs are no locations, and what is said of them.
var refusedURLs = []struct{ url, want string }{
	{"s3+http://key:secret@host/bucket", "keys do not belong into a URL"},
	{"s3+http://host", "names no bucket"},
	{"s3+http:///bucket", "names no bucket"},
	{"s3://", "names no bucket"},
	{"s3+http://host/bucket?X-Amz-Signature=secret", "may only stand lookup= and region="},
	{"s3+http://host/bucket?lookup=host", "want auto, dns or path"},
	{"s3+http://host/bucket#secret", "a # in a URL is written %23"},
	{"s3+http://host/100%", "a % in a URL is written %25"},
	{"s3+http://host/bucket/../secrets", "cannot be a part of a prefix"},
	{"s3+http://host/B", "no bucket is named"},
	{"s3+ftp://host/bucket", "is not S3"},
	{"s3+http://[host/bucket", "malformed URL"},
	{"s3://bucket?region=example.com/", "no region is named"},
}

func TestRefusedLocations(t *testing.T) {
	nobody(t)
	for _, tt := range refusedURLs {
		_, err := s3.New(tt.url, s3.Options{})
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "=secret") || strings.Contains(err.Error(), "key:") {
			t.Errorf("%s: got %v, want %q in it", tt.url, err, tt.want)
		}
	}
	if _, _, err := s3.Object("s3://bucket", s3.Options{}); err == nil || !strings.Contains(err.Error(), "names a bucket, not an object") {
		t.Errorf("a bucket as an object: %v", err)
	}
}

// What is taken is shown so that it is taken again, as the same.
func FuzzNew(f *testing.F) {
	nobody(f)
	for _, tt := range refusedURLs {
		f.Add(tt.url)
	}
	f.Add("s3+https://host:1/bucket/a%20b/+?lookup=dns&region=x")
	f.Add("s3://bucket/a//b/")
	f.Fuzz(func(t *testing.T, url string) {
		b, err := s3.New(url, s3.Options{})
		if err != nil {
			return
		}
		again, err := s3.New(b.String(), s3.Options{})
		if err != nil || again.String() != b.String() {
			t.Errorf("%q is %q, and that %v, %v", url, b, again, err)
		}
	})
}
