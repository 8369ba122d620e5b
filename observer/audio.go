package observer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dubnium/dubnium/policy"
)

// Audio is what the audio servers of the users with a graphical session report. The name, media and
// pid of a client are chosen by the client: they are evidence for people, and no fact depends on
// them.
type Audio struct {
	Reading
	// Servers has one entry for each user with a graphical session, ordered by uid.
	Servers []AudioServer `json:"servers"`
}

// AudioServer is the PipeWire or PulseAudio server of one user.
type AudioServer struct {
	Reading
	UID uint32 `json:"uid"`
	// Running: the server answered. If it is false and the reading is known, the user has
	// no server.
	Running bool `json:"up"`
	// Name is the name that the server reports.
	Name    string        `json:"name,omitempty"`
	Streams []AudioStream `json:"streams"`
	// JACK are the JACK clients. They have no streams, and their nodes run even while the
	// transport is stopped.
	JACK    []JACKClient  `json:"jack"`
	Devices []AudioDevice `json:"devices"`
	// Redacted: the server belongs to another user than the reader, and the names of its
	// clients and devices are left out.
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
	Corked      bool   `json:"corked"` // paused: neither plays nor records
	Application string `json:"application"`
	Media       string `json:"media"`
	PID         int    `json:"pid,omitempty"` // as the client states it
}

// JACKClient is a client with client.api=jack.
type JACKClient struct {
	Application string `json:"application"`
	PID         int    `json:"pid,omitempty"` // pipewire.sec.pid, which PipeWire reads from the socket
}

// AudioDevice is a sink or a source.
type AudioDevice struct {
	Direction string `json:"direction"`
	Name      string `json:"name"`
	State     string `json:"state"` // RUNNING, IDLE, SUSPENDED or UNKNOWN
}

// PCM is an open ALSA device, as the kernel reports it.
type PCM struct {
	Name string `json:"name"` // card0/pcm0p/sub0
	Process
}

// Process identifies a process.
type Process struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	UID     uint32 `json:"uid"`
	Unit    string `json:"unit"`
	Session string `json:"session,omitempty"`
	// Redacted: the process belongs to another user than the reader, who gets only the uid.
	Redacted bool `json:"redacted,omitempty"`
}

// Into implements Part.
func (p Audio) Into(s *Snapshot) { s.Audio = p }

// Of returns the server of one user, and whether there is an entry for it.
func (p Audio) Of(uid uint32) (AudioServer, bool) {
	i := slices.IndexFunc(p.Servers, func(s AudioServer) bool { return s.UID == uid })
	if i < 0 {
		return AudioServer{}, false
	}
	return p.Servers[i], true
}

// GraphicalUsers lists the users with a graphical session, ordered by uid.
func (l Logind) GraphicalUsers() []uint32 {
	var uids []uint32
	for _, s := range l.Graphical() {
		uids = append(uids, s.UID)
	}
	slices.Sort(uids)
	return slices.Compact(uids)
}

// AudioRecheck is the interval at which the audio probes are polled although they report changes by
// themselves. It is long so that an idle desktop is rarely woken.
func AudioRecheck(p policy.Policy) time.Duration { return 10 * p.Timeouts.Recheck.D() }

// strongest returns the first fact with the first truth in order that any of the facts has.
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

// audioStack is True if the audio server of every user with a graphical session answers. Without
// such a user it is the fact of the graphical session.
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

// serverOf returns the server of a user, and an unknown fact with the source, time and reason of
// its reading.
func serverOf(a Audio, uid uint32) (AudioServer, Fact) {
	server, ok := a.Of(uid)
	f := Fact{Source: SourceAudio, At: server.At, Reason: server.Reason}
	if !ok {
		f.At, f.Reason = a.At, cmp.Or(a.Reason, fmt.Sprintf("the audio server of uid %d has not been read yet", uid))
	}
	return server, f
}

// audioActive is True if anything plays, records or holds a sound device: active streams and JACK
// clients of each graphical user's server, digital audio workstations, and foreign PCMs. It is
// False only if all of them are, and then as old as the oldest.
func audioActive(p policy.Audio, s Snapshot) Fact {
	facts := []Fact{heldPCM(s), dawRuns(s)}
	for _, uid := range s.Logind.GraphicalUsers() {
		facts = append(facts, serverActive(p, s.Audio, uid))
	}
	if users := session(s.Logind, KindGraphical); users.Truth == Unknown {
		users.Reason = "the users with a graphical session are unknown: " + users.Reason
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

// active reports whether a stream counts as playing or recording. The stream of a digital audio
// workstation counts while it is corked too, because the scan of processes misses one that runs in
// a container under another name.
func (a AudioStream) active(p policy.Audio) bool { return !a.Corked || p.IsDAW(a.Application) }

// text describes a stream in messages. Every message about a stream contains it, because redaction
// replaces it.
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

// String describes a process in messages. Every message about a process contains it, because
// redaction replaces it.
func (p Process) String() string {
	if p.Redacted {
		return fmt.Sprintf("a process of uid %d", p.UID)
	}
	return fmt.Sprintf("%s (pid %d, uid %d)", p.Command, p.PID, p.UID)
}

// dawRuns is True if a digital audio workstation runs. It counts while it is silent too: a
// transition between two takes would lose the project.
func dawRuns(s Snapshot) Fact {
	f, known := soundFact(s.Processes)
	if !known {
		return f
	}
	f.Truth, f.Reason = False, "no digital audio workstation runs"
	if len(s.Processes.DAWs) > 0 {
		f.Truth, f.Reason = True, s.Processes.DAWs[0].String()+" runs"
	}
	return f
}

// heldPCM is True if there is a foreign PCM, Unknown if not all are listed.
func heldPCM(s Snapshot) Fact {
	f, known := soundFact(s.Processes)
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

// soundFact returns an unknown fact with the source, time and reason of the read of the sound
// devices, and whether that read succeeded.
func soundFact(h ProcessScan) (f Fact, known bool) {
	f = Fact{Source: SourceHolders, At: h.At, Reason: h.Reason}
	if h.Known() && !h.SoundComplete {
		f.Reason = "the holders probe does not report the sound devices"
	}
	return f, h.Known() && h.SoundComplete
}

// ForeignPCMs lists the open sound devices whose use is not covered by the streams of a known
// server. A device that PipeWire or PulseAudio has open is covered if it is the server of a user
// with a graphical session, and answers.
func ForeignPCMs(s Snapshot) []PCM {
	var foreign []PCM
	for _, p := range s.Processes.PCMs {
		server, ok := s.Audio.Of(p.UID)
		if answers := ok && server.Known() && server.Running; !answers || !isAudioServer(p.Process) {
			foreign = append(foreign, p)
		}
	}
	return foreign
}

// isAudioServer compares the command, which a process chooses itself. So a user can hide a device,
// but only one that they use themselves.
func isAudioServer(p Process) bool {
	return p.Command == "pipewire" || p.Command == "pulseaudio" || strings.HasPrefix(p.Command, ".pipewire-wra") // NixOS
}

// grace sets Fact.Grace of the audio stack if all users without a server have logged in within
// audio.grace, since a server starts after the session. end is when the grace period ends, zero if
// it does not apply.
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

// since is when the first graphical session of a user began, zero if the start of any of them is
// unknown.
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

// freshAudioClause is audioClause, except during the grace period after a login. It is for desktop:
// studio-local has no grace period.
func freshAudioClause(p policy.Policy, f Facts) []clause {
	if f[AudioStack].Grace {
		return nil
	}
	return audioClause(p, f)
}

// audioClause requires the audio stack, but only while there is a graphical session.
func audioClause(p policy.Policy, f Facts) []clause {
	if !p.Audio.Required || f.Is(GraphicalSession) != True {
		return nil
	}
	return []clause{
		{AudioStack, True, false, "audio-stack-not-running", "the audio stack of the graphical session does not run"},
	}
}

// AudioEvidence lists everything that plays, records or holds a sound device.
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
