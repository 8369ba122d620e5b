package systemd1

// Cached is how many units are in the cache.
func (g *CachedGraph) Cached() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, u := range g.units {
		if u.known {
			n++
		}
	}
	return n
}

// Expire ends the cache as its timer does.
func (g *CachedGraph) Expire() { g.expire() }
