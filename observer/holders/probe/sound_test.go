package probe_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
)

const running = "state: RUNNING\nowner_pid   : 801\ntrigger_time: 90.1\ntstamp      : 0.0\n"

func TestAnOpenSoundDeviceIsNamedWithItsProcess(t *testing.T) {
	tr := newTree(t)
	tr.file("proc/asound/card0/pcm0p/sub0/status", "closed\n")
	tr.file("proc/asound/card0/pcm0c/sub0/status", running)
	tr.file("proc/asound/card1/pcm3p/sub0/status", "state: OPEN\nowner_pid   : 5555\n")
	tr.process(800, "pipewire", 1000, "0::/user.slice/user-1000.slice/user@1000.service/session.slice/pipewire.service\n")
	// A thread is not listed in /proc, but it is there.
	tr.file("proc/801/status", "Name:\tdata-loop.0\nTgid:\t800\nPid:\t801\nUid:\t1000\t1000\t1000\t1000\n")

	d := scan(t, tr)
	require.Equal(t, []observer.PCM{
		{Name: "card0/pcm0c/sub0", Process: observer.Process{PID: 800, Command: "pipewire", UID: 1000, Unit: "user@1000.service/pipewire.service"}},
		{Name: "card1/pcm3p/sub0", Process: observer.Process{PID: 5555, Command: "unknown"}},
	}, d.PCMs, "the thread's process, and an open device whose opener has gone")
}

func TestREAPERIsFoundUnderItsNames(t *testing.T) {
	tr := newTree(t)
	tr.process(810, "reaper", 1000, ofSession)
	tr.process(811, "reaper5", 1001, ofSession)
	tr.process(812, "grim-reaper", 1000, ofSession)
	tr.process(813, ".reaper-wrapped", 1000, ofSession)
	tr.process(814, "REAPER", 1000, ofSession)
	d := scan(t, tr)
	require.Len(t, d.Reapers, 4)
	require.Equal(t, observer.Process{PID: 810, Command: "reaper", UID: 1000, Unit: "session-3.scope", Session: "3"}, d.Reapers[0])
	require.Equal(t, "reaper5", d.Reapers[1].Command)
}
