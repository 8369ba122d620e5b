package probe_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer"
	"github.com/dubnium/dubnium/observer/holders"
	"github.com/dubnium/dubnium/observer/holders/probe"
	"github.com/dubnium/dubnium/policy"
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
		{
			Name:    "card0/pcm0c/sub0",
			Process: observer.Process{PID: 800, Command: "pipewire", UID: 1000, Unit: "user@1000.service/pipewire.service"},
		},
		{Name: "card1/pcm3p/sub0", Process: observer.Process{PID: 5555, Command: "unknown"}},
	}, d.PCMs, "the thread's process, and an open device whose opener has gone")
}

func TestADAWIsFoundByThePolicysNames(t *testing.T) {
	tr := newTree(t)
	tr.process(810, "reaper", 1000, ofSession)
	tr.process(811, "reaper5", 1001, ofSession)
	tr.process(812, "grim-reaper", 1000, ofSession)
	tr.process(813, ".reaper-wrapped", 1000, ofSession)
	tr.process(814, "REAPER", 1000, ofSession)
	tr.process(815, "ardour-8.6", 1000, ofSession)
	commands := func(a policy.Audio) []string {
		found, more := probe.New(tr.roots()).DAWs(a)
		require.Zero(t, more)
		require.NotNil(t, found)
		names := []string{}
		for _, p := range found {
			names = append(names, p.Command)
		}
		return names
	}
	require.Equal(t, []string{"reaper", "reaper5", ".reaper-wrapped", "REAPER"}, commands(policy.Default().Audio))
	require.Equal(t, []string{"ardour-8.6"}, commands(policy.Audio{DAWs: []policy.Pattern{"ardour-*"}}))
	require.Empty(t, commands(policy.Audio{}))
	found, _ := probe.New(tr.roots()).DAWs(policy.Default().Audio)
	first := observer.Process{PID: 810, Command: "reaper", UID: 1000, Unit: "session-3.scope", Session: "3"}
	require.Equal(t, first, found[0])
}

// TestMoreDAWsThanTheDocumentHasRoomFor: anybody may start processes of any name.
func TestMoreDAWsThanTheDocumentHasRoomFor(t *testing.T) {
	tr := newTree(t)
	for pid := range holders.MaxDAWs + 3 {
		tr.process(1000+pid, "reaper", 1000, ofSession)
	}
	found, more := probe.New(tr.roots()).DAWs(policy.Default().Audio)
	require.Len(t, found, holders.MaxDAWs)
	require.Equal(t, 3, more)
}
