package observer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// Audio is what the audio servers of the people at the screen say. A client's
// name, media and pid are its own words; they are evidence for people, and no
// decision rests on them.
type Audio struct {
	Reading
	// Servers has one entry for each graphical user, in order of their ids.
	Servers []AudioServer `json:"servers"`
}

// AudioServer is one user's PipeWire or PulseAudio.
type AudioServer struct {
	Reading
	UID uint32 `json:"uid"`
	// Running: it answered. Not running, and known: nothing listens for that user.
	Running bool `json:"up"`
	// Name is what the server calls itself.
	Name    string        `json:"name,omitempty"`
	Streams []AudioStream `json:"streams"`
	// JACK are the clients that speak JACK. They have no streams, and their nodes
	// run even while the transport stands still.
	JACK    []JACKClient  `json:"jack"`
	Devices []AudioDevice `json:"devices"`
	// Redacted: it is another user's, and what its clients and devices are called is
	// not told.
	Redacted bool `json:"redacted,omitempty"`
}

// Directions of streams and devices.
const (
	Playback = "playback"
	Capture  = "capture"
)

// AudioStream is one stream of a client.
type AudioStream struct {
	Direction   string `json:"direction"`
	Corked      bool   `json:"corked"` // paused: it neither plays nor records
	Application string `json:"application"`
	Media       string `json:"media"`
	PID         int    `json:"pid,omitempty"` // the client's own word
}

// JACKClient is a client with client.api=jack.
type JACKClient struct {
	Application string `json:"application"`
	PID         int    `json:"pid,omitempty"` // pipewire.sec.pid, which PipeWire took from the socket
}

// AudioDevice is a sink or a source.
type AudioDevice struct {
	Direction string `json:"direction"`
	Name      string `json:"name"`
	State     string `json:"state"` // RUNNING, IDLE, SUSPENDED or UNKNOWN
}

// PCM is an ALSA device that is open now, as the kernel says.
type PCM struct {
	Name string `json:"name"` // card0/pcm0p/sub0
	Process
}

// Process is who a process is.
type Process struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	UID     uint32 `json:"uid"`
	Unit    string `json:"unit"`
	Session string `json:"session,omitempty"`
	// Redacted: it is another user's, and only whose is told.
	Redacted bool `json:"redacted,omitempty"`
}

// Into makes each source's facts a Part.
func (p Audio) Into(s *Snapshot) { s.Audio = p }

// Of returns the server of one user.
func (p Audio) Of(uid uint32) (AudioServer, bool) {
	i := slices.IndexFunc(p.Servers, func(s AudioServer) bool { return s.UID == uid })
	if i < 0 {
		return AudioServer{}, false
	}
	return p.Servers[i], true
}

// GraphicalUsers lists whose audio matters, in order.
func (l Logind) GraphicalUsers() []uint32 {
	var uids []uint32
	for _, s := range l.Graphical() {
		uids = append(uids, s.UID)
	}
	slices.Sort(uids)
	return slices.Compact(uids)
}

// AudioRecheck is how often the audio probes are asked although they announce
// changes: rarely, since an idle desktop is not to be woken for it.
func AudioRecheck(p policy.Policy) time.Duration { return 10 * p.Timeouts.Recheck.D() }

// strongest returns the first fact with the earliest of these truths, which one
// of the facts has.
func strongest(facts []Fact, order ...Truth) Fact {
	for _, t := range order {
		for _, f := range facts {
			if f.Truth == t {
				return f
			}
		}
	}
	return Fact{}
}

// audioStack says whether every graphical user's audio server answers. Without
// such a user nothing can be said to run.
func audioStack(s Snapshot) Fact {
	present := session(s.Logind, KindGraphical)
	if present.Truth != True {
		return present
	}
	var facts []Fact
	for _, uid := range s.Logind.GraphicalUsers() {
		server, f := serverOf(s.Audio, uid)
		if server.Known() {
			f.Truth, f.Reason = False, fmt.Sprintf("no audio server listens for uid %d", uid)
			if server.Running {
				f.Truth, f.Reason = True, fmt.Sprintf("the audio server of uid %d answers", uid)
			}
		}
		facts = append(facts, f)
	}
	return strongest(facts, False, Unknown, True)
}

// serverOf returns a user's server, with an unknown fact that has its source,
// time and reason.
func serverOf(a Audio, uid uint32) (AudioServer, Fact) {
	server, asked := a.Of(uid)
	f := Fact{Source: SourceAudio, At: server.At, Reason: server.Reason}
	if !asked {
		f.At, f.Reason = a.At, cmp.Or(a.Reason, fmt.Sprintf("the audio server of uid %d has not been asked yet", uid))
	}
	return server, f
}

// audioActive says whether somebody plays, records or holds the hardware for it:
// uncorked streams and JACK clients on every graphical user's server, digital audio
// workstations, and sound devices that no such server answers for. One yes is enough;
// a no needs all of them, and is as old as the oldest.
func audioActive(p policy.Audio, s Snapshot) Fact {
	facts := []Fact{heldPCM(s), dawRuns(s)}
	for _, uid := range s.Logind.GraphicalUsers() {
		facts = append(facts, serverActive(p, s.Audio, uid))
	}
	if users := session(s.Logind, KindGraphical); users.Truth == Unknown {
		users.Reason = "whose audio to look at cannot be told: " + users.Reason
		facts = append(facts, users)
	}
	f := strongest(facts, True, Unknown, False)
	if f.Truth == False {
		f = slices.MinFunc(facts, func(a, b Fact) int { return a.At.Compare(b.At) })
		f.Reason = "nothing plays or records"
	}
	return f
}

func serverActive(p policy.Audio, a Audio, uid uint32) Fact {
	server, f := serverOf(a, uid)
	if !server.Known() {
		return f
	}
	f.Truth = False
	for _, stream := range server.Streams {
		if stream.active(p) {
			f.Truth, f.Reason = True, stream.text(server)
			return f
		}
	}
	if len(server.JACK) > 0 {
		f.Truth, f.Reason = True, server.JACK[0].text(server)
	}
	return f
}

// active reports whether a stream counts as playing or recording. That of a digital
// audio workstation does while it is corked too: it may run in a container, where its
// process has another name.
func (a AudioStream) active(p policy.Audio) bool { return !a.Corked || p.IsDAW(a.Application) }

// text names a stream in a sentence. As with Holder.text, every text about one is
// made of it, so that a redaction finds it.
func (a AudioStream) text(of AudioServer) string {
	if of.Redacted {
		return fmt.Sprintf("%s by a client of uid %d", a.Direction, of.UID)
	}
	return fmt.Sprintf("%s of %s (uid %d)", a.Direction, cmp.Or(a.Application, "a client"), of.UID)
}

func (c JACKClient) text(of AudioServer) string {
	if of.Redacted {
		return fmt.Sprintf("a JACK client of uid %d", of.UID)
	}
	return fmt.Sprintf("JACK client %s (pid %d, uid %d)", c.Application, c.PID, of.UID)
}

// String names a process in a sentence. As with a Holder, every text about one is
// made of it, so that a redaction finds it.
func (p Process) String() string {
	if p.Redacted {
		return fmt.Sprintf("a process of uid %d", p.UID)
	}
	return fmt.Sprintf("%s (pid %d, uid %d)", p.Command, p.PID, p.UID)
}

// dawRuns says whether a digital audio workstation runs. It counts while it is silent
// too, since between two takes a transition would lose the session.
func dawRuns(s Snapshot) Fact {
	f, known := sound(s.Processes)
	if !known {
		return f
	}
	f.Truth, f.Reason = False, "no digital audio workstation runs"
	if len(s.Processes.DAWs) > 0 {
		f.Truth, f.Reason = True, s.Processes.DAWs[0].String()+" runs"
	}
	return f
}

func heldPCM(s Snapshot) Fact {
	f, known := sound(s.Processes)
	if !known {
		return f
	}
	switch foreign := ForeignPCMs(s); {
	case len(foreign) > 0:
		f.Truth, f.Reason = True, fmt.Sprintf("%s has %s open", foreign[0].Process, foreign[0].Name)
	case s.Processes.MorePCMs > 0:
		f.Reason = fmt.Sprintf("%d more sound devices are open than could be listed", s.Processes.MorePCMs)
	default:
		f.Truth = False
	}
	return f
}

// sound is what the holders probe says of the sound devices, if it does.
func sound(h ProcessScan) (f Fact, known bool) {
	f = Fact{Source: SourceHolders, At: h.At, Reason: h.Reason}
	if h.Known() && !h.SoundComplete {
		f.Reason = "the holders probe does not say who uses the sound devices"
	}
	return f, h.Known() && h.SoundComplete
}

// ForeignPCMs lists the sound devices that are open and whose use no server
// tells: those of PipeWire and PulseAudio are the server's own, and speak
// through its streams, when it is a graphical user's server and it answers.
func ForeignPCMs(s Snapshot) []PCM {
	var foreign []PCM
	for _, p := range s.Processes.PCMs {
		server, asked := s.Audio.Of(p.UID)
		if answers := asked && server.Known() && server.Running; !answers || !isAudioServer(p.Process) {
			foreign = append(foreign, p)
		}
	}
	return foreign
}

// isAudioServer goes by the command, which is a process's own word: who hides
// that way hides nobody's sound but their own.
func isAudioServer(p Process) bool {
	return p.Command == "pipewire" || p.Command == "pulseaudio" || strings.HasPrefix(p.Command, ".pipewire-wra") // NixOS
}

// grace marks an audio stack that is not there yet, when everybody who lacks one
// has only just logged in: a session is there a moment before its server. end is
// when that is over, zero where nothing is marked.
func (f Facts) grace(p policy.Policy, s Snapshot, at time.Time) (end time.Time) {
	stack := f[AudioStack]
	if stack.Truth == True || f.Is(GraphicalSession) != True {
		return time.Time{}
	}
	for _, uid := range s.Logind.GraphicalUsers() {
		if server, _ := serverOf(s.Audio, uid); server.Known() && server.Running {
			continue
		}
		since := s.Logind.since(uid)
		until := since.Add(p.Audio.Grace.D())
		if since.IsZero() || at.Before(since) || !at.Before(until) {
			return time.Time{}
		}
		if end.IsZero() || until.Before(end) {
			end = until
		}
	}
	stack.Grace = !end.IsZero()
	f[AudioStack] = stack
	return end
}

// since is when the first of a user's graphical sessions began, zero when that of
// any is not known.
func (l Logind) since(uid uint32) (first time.Time) {
	for _, s := range l.Graphical() {
		switch {
		case s.UID != uid:
		case s.Since.IsZero():
			return time.Time{}
		case first.IsZero() || s.Since.Before(first):
			first = s.Since
		}
	}
	return first
}

// freshAudioClause is audioClause without what the grace after a login lets pass.
// Studio-local has none: it is nothing without its sound.
func freshAudioClause(p policy.Policy, f Facts) []clause {
	if f[AudioStack].Grace {
		return nil
	}
	return audioClause(p, f)
}

// audioClause is the part of a desktop's promise that only holds for people who
// are there.
func audioClause(p policy.Policy, f Facts) []clause {
	if !p.Audio.Required || f.Is(GraphicalSession) != True {
		return nil
	}
	return []clause{
		{AudioStack, True, false, "audio-stack-not-running", "the audio stack of the person at the screen does not run"},
	}
}

// AudioEvidence lists all that plays, records or holds the hardware for it.
func AudioEvidence(p policy.Audio, s Snapshot) []string {
	var lines []string
	for _, uid := range s.Logind.GraphicalUsers() {
		server, _ := serverOf(s.Audio, uid)
		if !server.Known() {
			continue
		}
		for _, stream := range server.Streams {
			if stream.active(p) {
				lines = append(lines, stream.text(server))
			}
		}
		for _, client := range server.JACK {
			lines = append(lines, client.text(server))
		}
	}
	for _, daw := range s.Processes.DAWs {
		lines = append(lines, daw.String()+" runs")
	}
	if more := s.Processes.MoreDAWs; more > 0 {
		lines = append(lines, fmt.Sprintf("%d more digital audio workstations run", more))
	}
	for _, pcm := range ForeignPCMs(s) {
		lines = append(lines, fmt.Sprintf("%s has %s open", pcm.Process, pcm.Name))
	}
	return lines
}
