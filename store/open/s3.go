//go:build !no_s3

package open

import (
	"caravel/store"
	"caravel/store/s3"
)

var s3Schemes = []scheme{
	{name: "s3", remote: true, query: true, object: s3Object, folder: s3Folder},
	{name: "s3+http", remote: true, query: true, object: s3Object, folder: s3Folder},
	{name: "s3+https", remote: true, query: true, object: s3Object, folder: s3Folder},
}

func s3Object(location string, opt Options) (store.Blobs, string, error) {
	b, name, err := s3.Object(location, s3Options(opt))
	if err != nil {
		return nil, "", err
	}
	return b, name, nil
}

func s3Folder(location string, opt Options) (store.Blobs, error) {
	b, err := s3.New(location, s3Options(opt))
	if err != nil {
		return nil, err
	}
	return b, nil
}

func s3Options(opt Options) s3.Options {
	return s3.Options{HTTP: opt.HTTP, Credentials: s3.Credentials(opt.S3)}
}
