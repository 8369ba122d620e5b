package unitgraph

// stopUnneeded follows units with StopWhenUnneeded= (unit_is_unneeded, called
// when one that needed them has stopped).
func (t *transaction) stopUnneeded() {
	for found := true; found; {
		found = false
		for i := range t.n.list {
			if u := t.unit(i); !u.StopWhenUnneeded || !u.up() || u.Job != "" || len(t.jobs[i]) > 0 || t.unneeded[i] != nil {
				continue
			}
			if last, unneeded := t.lostAll(i); unneeded {
				t.unneeded[i] = &job{unit: i, kind: jobStop, cause: CauseUnneeded, by: last}
				t.dragDown(i)
				found = true
			}
		}
	}
}

// dragDown has a unit that is stopped for want of need take along what does not pin
// it and depends on it all the same: its own stop job propagates like any other.
func (t *transaction) dragDown(i int) {
	for _, other := range t.related(i, RequiredBy, RequisiteOf, BoundBy, ConsistsOf) {
		if u := t.unit(other); u.down() || u.Perpetual || len(t.jobs[other]) > 0 || t.unneeded[other] != nil {
			continue
		}
		t.unneeded[other] = &job{unit: other, kind: jobStop, cause: CausePropagated, by: i}
		t.dragDown(other)
	}
}

// lostAll reports whether nothing that needs the unit is left, and one that was.
func (t *transaction) lostAll(i int) (last int, unneeded bool) {
	stopping := t.stopping()
	for _, other := range t.related(i, RequiredBy, RequisiteOf, WantedBy, BoundBy, UpheldBy) { // UNIT_ATOM_PINS_STOP_WHEN_UNNEEDED
		_, stops := stopping[other]
		if stops {
			last, unneeded = other, true
		} else if !t.unit(other).down() || len(t.jobs[other]) > 0 {
			return 0, false
		}
	}
	return last, unneeded
}
