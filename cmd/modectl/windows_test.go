package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/cmd/modectl/render"
)

// listening is a compositor's socket on which answer serves each connection.
func listening(t *testing.T, path string, answer func(net.Conn)) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			answer(conn)
			_ = conn.Close()
		}
	}()
}

// What Hyprland answers to j/clients, and sway to GET_TREE, cut down.
const (
	hyprlandClients = `[
		{"address":"0x1","mapped":true,"workspace":{"id":3,"name":"3"},"class":"soffice","title":"budget.ods","pid":7},
		{"address":"0x2","mapped":false,"workspace":{"id":1,"name":"1"},"class":"ghost","title":"","pid":8}]`
	swayTree = `{"type":"root","name":"root","nodes":[{"type":"output","name":"Virtual-1","nodes":[
		{"type":"workspace","name":"1","nodes":[{"type":"con","name":null,"pid":0,"nodes":[
			{"type":"con","name":"~","app_id":"foot","pid":7,"nodes":[],"floating_nodes":[]},
			{"type":"con","name":"gimp","app_id":null,"window_properties":{"class":"Gimp"},"pid":8,
			 "nodes":[],"floating_nodes":[]}]}],
		 "floating_nodes":[{"type":"floating_con","name":"mixer","app_id":"pavucontrol","pid":9,
			"nodes":[],"floating_nodes":[]}]},
		{"type":"workspace","name":"2","nodes":[],"floating_nodes":[]}]}]}`
)

// answerHyprland reads until it has a request of its protocol, which has no end.
func answerHyprland(clients string) func(net.Conn) {
	return func(conn net.Conn) {
		request := make([]byte, len("j/clients"))
		if _, err := io.ReadFull(conn, request); err == nil && string(request) == "j/clients" {
			_, _ = io.WriteString(conn, clients)
		}
	}
}

func answerSway(tree string, kind uint32) func(net.Conn) {
	return func(conn net.Conn) {
		request := make([]byte, 14)
		if _, err := io.ReadFull(conn, request); err != nil ||
			string(request[:6]) != "i3-ipc" || binary.NativeEndian.Uint32(request[10:]) != 4 {
			return
		}
		reply := binary.NativeEndian.AppendUint32([]byte("i3-ipc"), uint32(len(tree)))
		_, _ = conn.Write(append(binary.NativeEndian.AppendUint32(reply, kind), tree...))
	}
}

func env(t *testing.T) (dir string, get func(string) string) {
	dir, err := os.MkdirTemp("", "wl") // a socket's path is short
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir, func(key string) string {
		return map[string]string{"XDG_RUNTIME_DIR": dir, "HYPRLAND_INSTANCE_SIGNATURE": "abc_1"}[key]
	}
}

func swayAt(dir string) func(string) string {
	return func(key string) string { return map[string]string{"SWAYSOCK": filepath.Join(dir, "sway.sock")}[key] }
}

func TestHyprlandTellsItsWindows(t *testing.T) {
	dir, get := env(t)
	listening(t, filepath.Join(dir, "hypr", "abc_1", ".socket.sock"), answerHyprland(hyprlandClients))
	windows, err := compositorOf(get).windows(t.Context())
	require.NoError(t, err)
	require.Equal(t, []render.Window{{Title: "budget.ods", Program: "soffice", Workspace: "3"}}, windows)
}

func TestSwayTellsItsWindows(t *testing.T) {
	dir, _ := env(t)
	listening(t, filepath.Join(dir, "sway.sock"), answerSway(swayTree, 4))
	windows, err := compositorOf(swayAt(dir)).windows(t.Context())
	require.NoError(t, err)
	require.Equal(t, []render.Window{
		{Title: "~", Program: "foot", Workspace: "1"},
		{Title: "gimp", Program: "Gimp", Workspace: "1"},
		{Title: "mixer", Program: "pavucontrol", Workspace: "1"},
	}, windows)
}

func TestNoCompositorIsNamed(t *testing.T) {
	for _, vars := range []map[string]string{
		{}, {"XDG_RUNTIME_DIR": "/run/user/1000"}, {"HYPRLAND_INSTANCE_SIGNATURE": "abc"},
	} {
		require.Nil(t, compositorOf(func(key string) string { return vars[key] }))
	}
}

// TestACompositorThatDoesNotTellIsAnError: what it says is not ours to trust, and a
// dry-run does not hang on it.
func TestACompositorThatDoesNotTellIsAnError(t *testing.T) {
	endless := func(conn net.Conn) {
		block := []byte(strings.Repeat(" ", 1<<20))
		for {
			if _, err := conn.Write(block); err != nil {
				return
			}
		}
	}
	cases := map[string]struct {
		sway bool
		says func(net.Conn)
		text string
	}{
		"it is gone":           {text: "cannot read from Hyprland: /"},
		"it is not JSON":       {says: answerHyprland("unknown request"), text: "the reply of Hyprland is not a list"},
		"it leaves":            {says: func(net.Conn) {}, text: "Hyprland"},
		"it never ends":        {says: endless, text: "more than 16 MiB"},
		"sway is not JSON":     {sway: true, says: answerSway("nonsense", 4), text: "the reply of sway is not a list"},
		"sway answers another": {sway: true, says: answerSway("{}", 7), text: "does not follow the protocol"},
		"sway leaves": {
			sway: true, says: func(conn net.Conn) { _, _ = conn.Read(make([]byte, 14)) },
			text: "cannot read from sway: the connection was closed",
		},
		"sway promises too much": {sway: true, says: func(conn net.Conn) {
			_, _ = io.ReadFull(conn, make([]byte, 14))
			_, _ = conn.Write([]byte("i3-ipc\xff\xff\xff\x7f\x04\x00\x00\x00"))
		}, text: "more than 16 MiB"},
		"sway hangs": {
			sway: true, says: func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) },
			text: "cannot read from sway: no answer in time",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, get := env(t)
			socket := filepath.Join(dir, "hypr", "abc_1", ".socket.sock")
			if c.sway {
				get, socket = swayAt(dir), filepath.Join(dir, "sway.sock")
			}
			if c.says != nil {
				listening(t, socket, c.says)
			}
			begun := time.Now()
			_, err := compositorOf(get).windows(t.Context())
			require.ErrorContains(t, err, c.text, fmt.Sprint(name))
			require.Less(t, time.Since(begun), 10*compositorTimeout)
		})
	}
}
