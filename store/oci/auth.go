package oci

import (
	"cmp"
	"context"
	"errors"
	nethttp "net/http"

	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"caravel/store/http"
)

// newClient gets the tokens that a registry asks for. It follows no redirect: each
// caller does, without the registry's secrets.
func newClient(ref registry.Reference, opt Options) *auth.Client {
	inner := opt.HTTP.Client
	if inner == nil {
		inner = http.NewClient(opt.HTTP)
	}
	return &auth.Client{
		Client: &nethttp.Client{
			Transport:     inner.Transport,
			CheckRedirect: func(*nethttp.Request, []*nethttp.Request) error { return nethttp.ErrUseLastResponse },
		},
		Header:     nethttp.Header{"User-Agent": {cmp.Or(opt.HTTP.UserAgent, "caravel")}},
		Cache:      auth.NewCache(),
		Credential: credential(ref, opt),
	}
}

// credential is who asks the registry, and nobody else.
func credential(ref registry.Reference, opt Options) auth.CredentialFunc {
	if opt.User != "" || opt.Password != "" {
		return auth.StaticCredential(ref.Host(), auth.Credential{Username: opt.User, Password: opt.Password})
	}
	stored, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return nil // nobody
	}
	find := credentials.Credential(stored)
	return func(ctx context.Context, host string) (auth.Credential, error) {
		if host != ref.Host() {
			return auth.EmptyCredential, nil
		}
		return find(ctx, host)
	}
}

// A roundTripper sends requests for a repository with what lets us in.
type roundTripper struct {
	client *auth.Client
	ref    registry.Reference
}

func (t roundTripper) RoundTrip(req *nethttp.Request) (*nethttp.Response, error) {
	ctx := auth.AppendRepositoryScope(req.Context(), t.ref, auth.ActionPull)
	resp, err := t.client.Do(req.WithContext(ctx))
	if code := refusal(err); code != 0 {
		return &nethttp.Response{StatusCode: code, Header: nethttp.Header{}, Body: nethttp.NoBody, Request: req}, nil
	}
	return resp, err
}

// refusal is the status of an answer of which oras makes an error: of the registry, if
// it wants to know who we are and nobody does, or of where it sends us for a token.
func refusal(err error) int {
	var answer *errcode.ErrorResponse
	switch {
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return nethttp.StatusUnauthorized
	case errors.As(err, &answer):
		return answer.StatusCode
	}
	return 0
}

// Others lead to where the registry sends us for a blob.
func (t roundTripper) Others() nethttp.RoundTripper {
	return http.Others(t.client.Client.Transport)
}
