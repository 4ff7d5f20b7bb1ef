package s3

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/minio/minio-go/v7/pkg/credentials"
	"gopkg.in/ini.v1"
)

// Credentials say who we are, where the environment does not. The zero value
// looks into the files that Amazon's own programs use.
type Credentials struct {
	AccessKey, SecretKey string // both or none
	SessionToken         string // of temporary keys

	File    string // with profiles, to read instead of ~/.aws/config and ~/.aws/credentials
	Profile string // in there; "": $AWS_PROFILE, else default

	Region string // of the bucket; "": as the package doc has it
}

// find makes a source of keys; its keys are empty if there are none, and
// requests are not signed.
func (c Credentials) find() (*credentials.Credentials, error) {
	given := []struct{ access, secret, token, accessName, secretName string }{
		{os.Getenv("S3_ACCESS_KEY"), os.Getenv("S3_SECRET_KEY"), os.Getenv("S3_SESSION_TOKEN"), "$S3_ACCESS_KEY", "$S3_SECRET_KEY"},
		{os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN"), "$AWS_ACCESS_KEY_ID", "$AWS_SECRET_ACCESS_KEY"},
		{c.AccessKey, c.SecretKey, c.SessionToken, "the access key", "the secret key"},
	}
	for _, g := range given {
		switch {
		case g.access == "" && g.secret == "":
			continue
		case g.secret == "":
			return nil, fmt.Errorf("s3: there is %s without %s", g.accessName, g.secretName)
		case g.access == "":
			return nil, fmt.Errorf("s3: there is %s without %s", g.secretName, g.accessName)
		}
		return credentials.NewStaticV4(g.access, g.secret, g.token), nil
	}
	return c.fromFile()
}

// fromFile makes a source of a profile. That somebody named one that is not there
// is an error; that there is none at all is not.
func (c Credentials) fromFile() (*credentials.Credentials, error) {
	source := credentials.NewFileAWSCredentials(c.File, c.Profile)
	value, err := source.GetWithContext(nil)
	named := cmp.Or(c.File, c.Profile, os.Getenv("AWS_PROFILE"), os.Getenv("AWS_SHARED_CREDENTIALS_FILE")) != ""
	switch {
	case err == nil && value.AccessKeyID != "":
		return source, nil
	case err == nil && !named, err != nil && !named && noProfile(err):
		return credentials.NewStatic("", "", "", credentials.SignatureAnonymous), nil
	case err == nil:
		err = errors.New("it has no keys")
	}
	return nil, fmt.Errorf("s3: profile %s: %w", c.profile(), err)
}

// noProfile reports whether a profile could not be read for the reason that there
// is none: no file, no section in it, no home to have it in.
func noProfile(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "does not exist") ||
		strings.Contains(err.Error(), "not defined")
}

func (c Credentials) profile() string { return cmp.Or(c.Profile, os.Getenv("AWS_PROFILE"), "default") }

// profileRegion is the region that the profile's file names; "" if none does.
func (c Credentials) profileRegion() string {
	path := cmp.Or(c.File, os.Getenv("AWS_CONFIG_FILE"))
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		path = filepath.Join(home, ".aws", "config")
	}
	file, err := ini.Load(path)
	if err != nil {
		return "" // whether that matters, fromFile knows
	}
	for _, section := range []string{"profile " + c.profile(), c.profile()} {
		if s, err := file.GetSection(section); err == nil && s.HasKey("region") {
			return s.Key("region").String()
		}
	}
	return ""
}
