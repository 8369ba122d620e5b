package systemd1

// Kept is of how many units the ties are known.
func (g *Graphs) Kept() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, t := range g.relations {
		if t.known {
			n++
		}
	}
	return n
}

// Forget is what happens when nobody has read for a while.
func (g *Graphs) Forget() { g.expire() }
