package policy

// Reconcile is the section [reconcile]: whether the daemon requests the desired mode by
// itself when the observed state differs. It never ends a session that way.
type Reconcile struct {
	// Enabled turns it on. Otherwise only users, the boot and a lease that ends request a
	// mode.
	Enabled bool `toml:"enabled"`
	// Delay is how long the state has to differ first. After a failure the delay of its
	// cause doubles.
	Delay Duration `toml:"delay"`
	// MaxDelay bounds the delay. A host that has converged for as long starts with Delay
	// again.
	MaxDelay Duration `toml:"max_delay"`
	// Attempts bounds the attempts for each cause. After them the daemon waits for a user.
	Attempts int `toml:"attempts"`
}

func (p Policy) reconcileFaults(check checker) {
	r := p.Reconcile
	check(r.Delay > 0, "reconcile.delay", notPositive)
	check(r.MaxDelay >= r.Delay, "reconcile.max_delay", "must be at least reconcile.delay, which is %s", r.Delay.D())
	check(r.Attempts >= 1 && r.Attempts <= 100, "reconcile.attempts", "must be from 1 to 100")
}
