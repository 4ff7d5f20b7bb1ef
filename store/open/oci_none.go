//go:build no_oci

package open

var ociSchemes = []scheme{
	{name: "oci+http", leftOut: true},
	{name: "oci+https", leftOut: true},
}
