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
	if uid == 0 {
		return s, Redaction{strings.NewReplacer()}
	}
	var swap []string
	holders := slices.Clone(s.Holders.Holders)
	for i, h := range holders {
		if holders[i] = h.For(uid); holders[i].Redacted {
			swap = append(swap, h.String(), holders[i].String())
		}
	}
	jobs := slices.Clone(s.Holders.Jobs.List)
	for i := range jobs {
		if hidden := jobs[i].redact(uid); hidden != nil {
			jobs[i].Pattern = "" // it names the program
			swap = append(swap, hidden...)
		}
	}
	pcms, reapers := slices.Clone(s.Holders.PCMs), slices.Clone(s.Holders.Reapers)
	for i := range pcms {
		swap = append(swap, pcms[i].redact(uid)...)
	}
	for i := range reapers {
		swap = append(swap, reapers[i].redact(uid)...)
	}
	servers := slices.Clone(s.Audio.Servers)
	for i := range servers {
		swap = append(swap, servers[i].redact(uid)...)
	}
	cards := slices.Clone(s.GPU.Cards)
	for i := range cards {
		swap = append(swap, cards[i].redact(uid)...)
	}
	s.Holders.Holders, s.Holders.PCMs, s.Holders.Reapers = holders, pcms, reapers
	s.Holders.Jobs.List = jobs
	s.Audio.Servers, s.GPU.Cards = servers, cards
	return s, Redaction{strings.NewReplacer(swap...)}
}

// redact takes out what uid may not read, and returns what to swap in texts.
func (p *Process) redact(uid uint32) (swap []string) {
	if p.UID == uid {
		return nil
	}
	was := *p
	*p = Process{UID: p.UID, Redacted: true}
	return []string{was.String(), p.String()}
}

// redact leaves how much is played and recorded, and by which kind of client; a
// device may be named after somebody's headphones.
func (a *AudioServer) redact(uid uint32) (swap []string) {
	if a.UID == uid {
		return nil
	}
	was := *a
	a.Redacted = true
	a.Streams, a.JACK, a.Devices = slices.Clone(a.Streams), slices.Clone(a.JACK), slices.Clone(a.Devices)
	for i, s := range was.Streams {
		a.Streams[i] = AudioStream{Direction: s.Direction, Corked: s.Corked}
		swap = append(swap, s.text(was), a.Streams[i].text(*a))
	}
	for i, c := range was.JACK {
		a.JACK[i] = JACKClient{}
		swap = append(swap, c.text(was), a.JACK[i].text(*a))
	}
	for i, d := range was.Devices {
		a.Devices[i] = AudioDevice{Direction: d.Direction, State: d.State}
	}
	return swap
}

// redact leaves how much memory somebody has of the card.
func (c *Card) redact(uid uint32) (swap []string) {
	for _, list := range []*CardProcesses{&c.Compute, &c.Graphics} {
		list.Processes = slices.Clone(list.Processes)
		for i, was := range list.Processes {
			if was.UID != nil && *was.UID == uid {
				continue
			}
			list.Processes[i] = CardProcess{UID: was.UID, Memory: was.Memory, Redacted: true}
			swap = append(swap, was.String(), list.Processes[i].String())
		}
	}
	return swap
}

// Text returns a text with the same taken out of it.
func (r Redaction) Text(text string) string { return r.words.Replace(text) }

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

// For is the holder as uid may read of it.
func (h Holder) For(uid uint32) Holder {
	if uid == 0 || h.UID == uid {
		return h
	}
	return Holder{GPU: h.GPU, UID: h.UID, Redacted: true}
}

// String names a holder in a sentence. Every text about a holder is made of it, so
// that a redaction finds it.
func (h Holder) String() string {
	if h.Redacted {
		return fmt.Sprintf("a process of uid %d", h.UID)
	}
	return fmt.Sprintf("%s (pid %d, %s)", h.Command, h.PID, h.Unit)
}
