package http

// For the tests of package http_test.
var (
	ParseContentRange = parseContentRange
	RetryAfter        = retryAfter
)
