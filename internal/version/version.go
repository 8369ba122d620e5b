// Package version says which Dubnium this is.
package version

// Version is set when a release is built: -ldflags "-X .../version.Version=1.2".
var Version = "devel"
