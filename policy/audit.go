package policy

// Audit is the section [audit]: how much of what happened is kept. events.jsonl
// and its older files never take more than (keep + 1) times max_mib.
type Audit struct {
	// MaxMiB is how large events.jsonl may grow before it is put aside.
	MaxMiB int `toml:"max_mib"`
	// Keep is how many of the files that were put aside stay.
	Keep int `toml:"keep"`
}

func (p Policy) auditFaults(fault checker) {
	fault(p.Audit.MaxMiB >= 1 && p.Audit.MaxMiB <= 1024, "audit.max_mib", "must be from 1 to 1024")
	fault(p.Audit.Keep >= 1 && p.Audit.Keep <= 100, "audit.keep", "must be from 1 to 100")
}
