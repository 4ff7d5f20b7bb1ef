//go:build no_s3

package open

var s3Schemes = []scheme{
	{name: "s3", leftOut: true},
	{name: "s3+http", leftOut: true},
	{name: "s3+https", leftOut: true},
}
