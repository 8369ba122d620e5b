package unitgraph

// stopUnneeded adds the stops of units with StopWhenUnneeded= (unit_is_unneeded, called when a unit that
// needed them has stopped).
func (t *transaction) stopUnneeded() {
	stopping := t.stopping()
	for again := true; again; {
		again = false
		for i, u := range t.list {
			if !u.StopWhenUnneeded || u.down() || u.Perpetual || stopping[i] != nil {
				continue
			}
			if last, unneeded := t.lostAll(i, stopping); unneeded {
				t.stopLater(i, last, CauseUnneeded, stopping)
				again = true
			}
		}
	}
}

// stopLater adds the stop of a unit after the transaction, which propagates like any other.
func (t *transaction) stopLater(i, by int, cause Cause, stopping map[int]*job) {
	j := &job{unit: i, kind: jobStop, cause: cause, by: by}
	t.unneeded[i], stopping[i] = j, j
	for _, other := range t.dependents(i) {
		if u := t.list[other]; !u.down() && !u.Perpetual && stopping[other] == nil {
			t.stopLater(other, i, CausePropagated, stopping)
		}
	}
}

// lostAll reports whether nothing that needs the unit is certain to stay or start, and a unit that stops
// needed it.
func (t *transaction) lostAll(i int, stopping map[int]*job) (last int, unneeded bool) {
	// UNIT_ATOM_PINS_STOP_WHEN_UNNEEDED
	for _, other := range t.related(i, RequiredBy, RequisiteOf, WantedBy, BoundBy, UpheldBy) {
		switch {
		case stopping[other] != nil:
			last, unneeded = other, true
		case !t.list[other].down() || t.jobs[other][jobStart] != nil && t.jobs[other][jobStart].stays():
			return 0, false
		}
	}
	return last, unneeded
}
