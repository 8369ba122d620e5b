package observer

import (
	"fmt"
	"slices"
	"strings"
)

// Redaction takes what is known of other people's processes out of what one user
// may read: which program keeps a device open is not everybody's business, that
// somebody does is. Sessions and inhibitors stay as they are, because logind tells
// everybody about them.
type Redaction struct{ words *strings.Replacer }

// Redact returns s as uid may read it, and what to take out of the texts that
// were written about it. Root reads everything.
func Redact(s Snapshot, uid uint32) (Snapshot, Redaction) {
	var swap []string
	holders := slices.Clone(s.Holders.Holders)
	for i, h := range holders {
		if uid == 0 || h.UID == uid {
			continue
		}
		holders[i] = Holder{GPU: h.GPU, UID: h.UID, Redacted: true}
		swap = append(swap, h.String(), holders[i].String())
	}
	s.Holders.Holders = holders
	s.GPU.Cards = slices.Clone(s.GPU.Cards)
	for i := range s.GPU.Cards {
		c := &s.GPU.Cards[i]
		for _, list := range []*CardProcesses{&c.Compute, &c.Graphics} {
			list.Processes = slices.Clone(list.Processes)
			for j, process := range list.Processes {
				if uid == 0 || process.UID != nil && *process.UID == uid {
					continue
				}
				list.Processes[j] = CardProcess{UID: process.UID, Memory: process.Memory, Redacted: true}
				swap = append(swap, process.String(), list.Processes[j].String())
			}
		}
	}
	return s, Redaction{strings.NewReplacer(swap...)}
}

// Observation returns o with the same taken out of its texts.
func (r Redaction) Observation(o Observation) Observation {
	o.Reasons, o.Conflicts = r.reasons(o.Reasons), r.reasons(o.Conflicts)
	facts := make(Facts, len(o.Facts))
	for s, f := range o.Facts {
		f.Reason = r.words.Replace(f.Reason)
		facts[s] = f
	}
	o.Facts = facts
	return o
}

func (r Redaction) reasons(list []Reason) []Reason {
	list = slices.Clone(list)
	for i := range list {
		list[i].Text = r.words.Replace(list[i].Text)
	}
	return list
}

// String names a holder in a sentence. Every text about a holder is made of it, so
// that a redaction finds it.
func (h Holder) String() string {
	if h.Redacted {
		return fmt.Sprintf("a process of uid %d", h.UID)
	}
	return fmt.Sprintf("%s (pid %d, %s)", h.Command, h.PID, h.Unit)
}
