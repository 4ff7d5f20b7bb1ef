package config

import "caravel/internal/redact"

// hidden stands for a secret.
const hidden = "(hidden)"

// Hide is the configuration without its secrets, for people to look at.
func (c Config) Hide() Config {
	c.Stores = mapped(c.Stores, Settings.Hide)
	c.S3 = mapped(c.S3, S3Credentials.hide)
	c.OCI = mapped(c.OCI, OCICredentials.hide)
	return c
}

// Hide is s without its secrets.
func (s Settings) Hide() Settings {
	hide(&s.HTTPAuth)
	hide(&s.HTTPCookie)
	hide(&s.EncryptionKey)
	if s.Headers != nil {
		headers := make(map[string]string, len(s.Headers))
		for name := range s.Headers {
			headers[name] = hidden
		}
		s.Headers = headers
	}
	if s.S3 != nil {
		s.S3 = new(s.S3.hide())
	}
	if s.OCI != nil {
		s.OCI = new(s.OCI.hide())
	}
	return s
}

func (c S3Credentials) hide() S3Credentials {
	hide(&c.SecretKey)
	hide(&c.SessionToken)
	return c
}

func (c OCICredentials) hide() OCICredentials {
	hide(&c.Secret)
	return c
}

func hide(secret *string) {
	if *secret != "" {
		*secret = hidden
	}
}

// mapped is a map by locations, which may hold a password themselves.
func mapped[T any](m map[string]T, f func(T) T) map[string]T {
	if m == nil {
		return nil
	}
	to := make(map[string]T, len(m))
	for location, value := range m {
		to[redact.URL(location)] = f(value)
	}
	return to
}
