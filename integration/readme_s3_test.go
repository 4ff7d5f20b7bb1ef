//go:build linux

package integration

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// bucketAsTyped starts a server with a bucket, and makes an image into it by a line.
func bucketAsTyped(t *testing.T, r *readmeReader, line string) (bucket string) {
	s3Env(t)
	bucket = startS3(t).bucket(t)
	if digest := r.typed(t, r.home, line, "s3+http://host/images", bucket); len(strings.TrimSpace(digest)) != 64 {
		t.Errorf("no digest: %q", digest)
	}
	return bucket
}

func makeBucketAsTyped(t *testing.T, r *readmeReader, line string) {
	bucket := bucketAsTyped(t, r, line)
	out := filepath.Join(t.TempDir(), "out")
	must(t, caravel, "extract", "--no-sync", bucket+"/disk.caibx", out)
	holds(t, out, r.data)
}

func mountBucketAsTyped(t *testing.T, r *readmeReader, line string) {
	needFUSE(t)
	bucket := bucketAsTyped(t, r, "caravel make s3+http://host/images/disk.caibx disk.img")
	mnt := filepath.Join(t.TempDir(), "mnt")
	unmountLater(t, mnt)
	m, said := r.started(t, line, "s3+http://host/images", bucket, "/mnt", mnt)
	if said != "Mounted: "+mnt {
		t.Fatalf("says %q; %s", said, m.stderr)
	}
	holds(t, filepath.Join(mnt, "disk"), r.data)
	if status := m.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d, %s", status, m.stderr)
	}
}
