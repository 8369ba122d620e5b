package observer

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Nobody is no user's id ((uid_t)-1): what Nobody may read, everybody may.
const Nobody uint32 = math.MaxUint32

// Secret is a text that names a process of somebody's, and what everybody but that
// user and root reads in its place. Nobody's is one whose owner is not known.
type Secret struct {
	UID     uint32 `json:"uid"`
	Text    string `json:"text"`
	Instead string `json:"instead"`
}

// Redaction takes what is known of other people's processes out of what one user
// may read: which program keeps a device open is not everybody's business, that
// somebody does is. Sessions and inhibitors stay as they are, because logind tells
// everybody about them.
type Redaction struct{ words *strings.Replacer }

// Hide returns the redaction that takes out of texts those secrets that uid may not
// read. Root reads everything.
func Hide(secrets []Secret, uid uint32) Redaction {
	var swap []string
	for _, s := range secrets {
		if uid != 0 && (s.UID != uid || uid == Nobody) {
			swap = append(swap, s.Text, s.Instead)
		}
	}
	return Redaction{strings.NewReplacer(swap...)}
}

// Secrets lists what a text about s may tell of somebody's processes.
func Secrets(s Snapshot) []Secret {
	_, secrets := redact(s, Nobody)
	return secrets
}

// Redact returns s as uid may read it, and what to take out of the texts that
// were written about it. Root reads everything.
func Redact(s Snapshot, uid uint32) (Snapshot, Redaction) {
	if uid == 0 {
		return s, Hide(nil, uid)
	}
	s, secrets := redact(s, uid)
	return s, Hide(secrets, uid)
}

// redact returns s as uid, who is not root, may read it, and what is missing from it.
func redact(s Snapshot, uid uint32) (_ Snapshot, secrets []Secret) {
	holders := slices.Clone(s.Processes.Holders)
	for i, h := range holders {
		if h.UID != uid {
			holders[i] = h.For(uid)
			secrets = append(secrets, Secret{h.UID, h.String(), holders[i].String()})
		}
	}
	unseen, unread := slices.Clone(s.Processes.Unseen), slices.Clone(s.Processes.Jobs.Unread)
	for _, list := range [][]Unseen{unseen, unread} {
		for i := range list {
			secrets = append(secrets, list[i].redact(uid)...)
		}
	}
	jobs := slices.Clone(s.Processes.Jobs.List)
	for i := range jobs {
		if hidden := jobs[i].redact(uid); hidden != nil {
			jobs[i].Pattern = "" // it names the program
			secrets = append(secrets, hidden...)
		}
	}
	pcms, daws := slices.Clone(s.Processes.PCMs), slices.Clone(s.Processes.DAWs)
	for i := range pcms {
		secrets = append(secrets, pcms[i].redact(uid)...)
	}
	for i := range daws {
		secrets = append(secrets, daws[i].redact(uid)...)
	}
	servers := slices.Clone(s.Audio.Servers)
	for i := range servers {
		secrets = append(secrets, servers[i].redact(uid)...)
	}
	cards := slices.Clone(s.GPU.Cards)
	for i := range cards {
		secrets = append(secrets, cards[i].redact(uid)...)
	}
	s.Processes.Holders, s.Processes.PCMs, s.Processes.DAWs = holders, pcms, daws
	s.Processes.Unseen, s.Processes.Jobs.List, s.Processes.Jobs.Unread = unseen, jobs, unread
	s.Audio.Servers, s.GPU.Cards = servers, cards
	return s, secrets
}

// redact takes out what uid may not read, and returns it.
func (p *Process) redact(uid uint32) []Secret {
	if p.UID == uid {
		return nil
	}
	was := *p
	*p = Process{UID: p.UID, Redacted: true}
	return []Secret{{was.UID, was.String(), p.String()}}
}

// redact leaves how much is played and recorded, and by which kind of client; a
// device may be named after somebody's headphones.
func (a *AudioServer) redact(uid uint32) (secrets []Secret) {
	if a.UID == uid {
		return nil
	}
	was := *a
	a.Redacted = true
	a.Streams, a.JACK, a.Devices = slices.Clone(a.Streams), slices.Clone(a.JACK), slices.Clone(a.Devices)
	for i, s := range was.Streams {
		a.Streams[i] = AudioStream{Direction: s.Direction, Corked: s.Corked}
		secrets = append(secrets, Secret{was.UID, s.text(was), a.Streams[i].text(*a)})
	}
	for i, c := range was.JACK {
		a.JACK[i] = JACKClient{}
		secrets = append(secrets, Secret{was.UID, c.text(was), a.JACK[i].text(*a)})
	}
	for i, d := range was.Devices {
		a.Devices[i] = AudioDevice{Direction: d.Direction, State: d.State}
	}
	return secrets
}

// redact leaves how much memory somebody has of the card.
func (c *Card) redact(uid uint32) (secrets []Secret) {
	for _, list := range []*CardProcesses{&c.Compute, &c.Graphics} {
		list.Processes = slices.Clone(list.Processes)
		for i, was := range list.Processes {
			if was.UID != nil && *was.UID == uid {
				continue
			}
			list.Processes[i] = CardProcess{UID: was.UID, Memory: was.Memory, Redacted: true}
			owner := Nobody
			if was.UID != nil {
				owner = *was.UID
			}
			secrets = append(secrets, Secret{owner, was.String(), list.Processes[i].String()})
		}
	}
	return secrets
}

// Text returns a text with the same taken out of it.
func (r Redaction) Text(text string) string { return r.words.Replace(text) }

// Observation returns o with the same taken out of its texts.
func (r Redaction) Observation(o Observation) Observation {
	o.Reasons, o.Conflicts = r.Reasons(o.Reasons), r.Reasons(o.Conflicts)
	facts := make(Facts, len(o.Facts))
	for s, f := range o.Facts {
		f.Reason = r.words.Replace(f.Reason)
		facts[s] = f
	}
	o.Facts = facts
	return o
}

// Reasons returns a list with the same taken out of its texts.
func (r Redaction) Reasons(list []Reason) []Reason {
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
