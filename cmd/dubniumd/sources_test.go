package main

import (
	"github.com/dubnium/dubnium/daemon/monitor"
	"github.com/dubnium/dubnium/observer/audio"
	"github.com/dubnium/dubnium/observer/gpu"
	"github.com/dubnium/dubnium/observer/holders"
	"github.com/dubnium/dubnium/observer/inference"
	"github.com/dubnium/dubnium/observer/locks"
	"github.com/dubnium/dubnium/observer/procfs"
	"github.com/dubnium/dubnium/observer/systemd"
)

// The monitor finds the optional interfaces of a source by type assertion, so a method with another
// name would go unnoticed.
var (
	_ monitor.IncrementalReader = (*systemd.Source)(nil)
	_ monitor.PolicyAware       = (*systemd.Source)(nil)

	_ monitor.IncrementalReader = (*audio.Source)(nil)
	_ monitor.DependentSource   = (*audio.Source)(nil)
	_ monitor.Polled            = (*audio.Source)(nil)
	_ monitor.PolicyAware       = (*audio.Source)(nil)

	_ monitor.Polled      = (*gpu.Source)(nil)
	_ monitor.PolicyAware = (*gpu.Source)(nil)
	_ monitor.Polled      = (*holders.Source)(nil)
	_ monitor.PolicyAware = (*holders.Source)(nil)
	_ monitor.Polled      = (*inference.Source)(nil)
	_ monitor.PolicyAware = (*inference.Source)(nil)

	_ monitor.Polled = (*locks.Source)(nil)
	_ monitor.Polled = (*procfs.Source)(nil)
)
