package policy

// Reconcile is the section [reconcile]: whether the daemon asks for the desired mode
// by itself when the host is something else. It never ends a session that way.
type Reconcile struct {
	// Enabled lets it. Without it nothing is asked for but by a person, at boot and
	// by a lease that ends.
	Enabled bool `toml:"enabled"`
	// Delay is how long the host has to be something else first. What fails is tried
	// again after twice the time, for each cause.
	Delay Duration `toml:"delay"`
	// MaxDelay bounds that time; a host that has been well for as long begins anew.
	MaxDelay Duration `toml:"max_delay"`
	// Attempts is how often it is tried for each cause, until a person asks.
	Attempts int `toml:"attempts"`
}

func (p Policy) reconcileFaults(fault checker) {
	r := p.Reconcile
	fault(r.Delay > 0, "reconcile.delay", notPositive)
	fault(r.MaxDelay >= r.Delay, "reconcile.max_delay", "must be at least reconcile.delay, which is %s", r.Delay.D())
	fault(r.Attempts >= 1 && r.Attempts <= 100, "reconcile.attempts", "must be from 1 to 100")
}
