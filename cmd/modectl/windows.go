package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/dubnium/dubnium/cmd/modectl/render"
)

// The windows of a session are its user's business. So modectl asks the compositor
// over its own socket, as that user, and their titles never cross the bus. The
// protocols are spoken here: hyprctl and swaymsg need not be installed.
const (
	// compositorPatience bounds the whole exchange: a compositor that hangs must not
	// keep a dry-run.
	compositorPatience = 2 * time.Second
	// maxWindowList bounds what is read of an answer.
	maxWindowList = 16 << 20
)

// compositor is one that can be asked for its windows.
type compositor struct {
	name, socket string
	ask          func(io.ReadWriter) ([]byte, error)
	read         func([]byte) ([]render.Window, error)
}

// compositorOf is the one that the environment names, nil for none.
func compositorOf(env func(string) string) *compositor {
	if instance, dir := env("HYPRLAND_INSTANCE_SIGNATURE"), env("XDG_RUNTIME_DIR"); instance != "" && dir != "" {
		return &compositor{"Hyprland", filepath.Join(dir, "hypr", instance, ".socket.sock"), askHyprland, readHyprland}
	}
	if socket := env("SWAYSOCK"); socket != "" {
		return &compositor{"sway", socket, askSway, readSway}
	}
	return nil
}

// windows asks for them. Errors say which compositor did not tell, and why.
func (c *compositor) windows(ctx context.Context) ([]render.Window, error) {
	ctx, cancel := context.WithTimeout(ctx, compositorPatience)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, fmt.Errorf("cannot ask %s: %w", c.name, err)
	}
	defer conn.Close()
	if deadline, bounded := ctx.Deadline(); bounded {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, fmt.Errorf("cannot ask %s: %w", c.name, err)
		}
	}
	answer, err := c.ask(conn)
	if err != nil {
		return nil, fmt.Errorf("cannot ask %s: %w", c.name, err)
	}
	windows, err := c.read(answer)
	if err != nil {
		return nil, fmt.Errorf("cannot read what %s says: %w", c.name, err)
	}
	return windows, nil
}

var errTooLong = fmt.Errorf("its answer has more than %d MiB", maxWindowList>>20)

// askHyprland: a request is its words, and the answer ends with the connection
// (https://wiki.hypr.land/IPC; j/ asks for JSON).
func askHyprland(conn io.ReadWriter) ([]byte, error) {
	if _, err := io.WriteString(conn, "j/clients"); err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, maxWindowList+1))
	if err == nil && len(answer) > maxWindowList {
		err = errTooLong
	}
	return answer, err
}

func readHyprland(answer []byte) ([]render.Window, error) {
	var clients []struct {
		Class, Title string
		Mapped       bool
		Workspace    struct{ Name string }
	}
	if err := json.Unmarshal(answer, &clients); err != nil {
		return nil, err
	}
	var windows []render.Window
	for _, c := range clients {
		if c.Mapped {
			windows = append(windows, render.Window{Title: c.Title, Program: c.Class, Workspace: c.Workspace.Name})
		}
	}
	return windows, nil
}

// sway-ipc(7): a header of these bytes, the length and the type of the payload, both
// in the machine's own byte order.
const (
	swayMagic   = "i3-ipc"
	swayGetTree = 4
)

func askSway(conn io.ReadWriter) ([]byte, error) {
	request := binary.NativeEndian.AppendUint32([]byte(swayMagic), 0)
	if _, err := conn.Write(binary.NativeEndian.AppendUint32(request, swayGetTree)); err != nil {
		return nil, err
	}
	header := make([]byte, len(swayMagic)+8)
	if _, err := io.ReadFull(conn, header); err != nil {
		return nil, err
	}
	length, kind := binary.NativeEndian.Uint32(header[len(swayMagic):]), binary.NativeEndian.Uint32(header[len(swayMagic)+4:])
	switch {
	case !bytes.HasPrefix(header, []byte(swayMagic)) || kind != swayGetTree:
		return nil, errors.New("its answer is not one of its protocol's")
	case length > maxWindowList:
		return nil, errTooLong
	}
	answer := make([]byte, length)
	_, err := io.ReadFull(conn, answer)
	return answer, err
}

// swayNode is a container. One with a program in it is a window.
type swayNode struct {
	Type        string
	Name        string
	PID         int
	AppID       *string                `json:"app_id"`
	WindowProps struct{ Class string } `json:"window_properties"`
	Nodes       []swayNode
	Floating    []swayNode `json:"floating_nodes"`
}

func readSway(answer []byte) ([]render.Window, error) {
	var root swayNode
	if err := json.Unmarshal(answer, &root); err != nil {
		return nil, err
	}
	return root.windows("", nil), nil
}

// windows walks the tree; encoding/json bounds its depth.
func (n swayNode) windows(workspace string, found []render.Window) []render.Window {
	if n.Type == "workspace" {
		workspace = n.Name
	}
	children := slices.Concat(n.Nodes, n.Floating)
	if (n.Type == "con" || n.Type == "floating_con") && len(children) == 0 && n.PID > 0 {
		program := n.WindowProps.Class // of X11, through Xwayland
		if n.AppID != nil {
			program = *n.AppID
		}
		return append(found, render.Window{Title: n.Name, Program: program, Workspace: workspace})
	}
	for _, child := range children {
		found = child.windows(workspace, found)
	}
	return found
}
