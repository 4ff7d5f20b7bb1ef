//go:build no_gs

package open

var gsSchemes = []scheme{{name: "gs", leftOut: true}}
