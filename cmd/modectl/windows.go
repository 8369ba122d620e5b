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
	"github.com/dubnium/dubnium/internal/errtext"
)

// The titles of windows are private. So modectl reads them itself, as the user of the
// session, over the socket of the compositor, and they never cross the bus. The
// protocols are implemented here: hyprctl and swaymsg need not be installed.
const (
	// compositorTimeout bounds the whole exchange: a compositor that hangs must not
	// block a dry-run.
	compositorTimeout = 2 * time.Second
	// maxWindowList bounds a reply, in bytes.
	maxWindowList = 16 << 20
)

// compositor is one whose windows can be read.
type compositor struct {
	name, socket string
	request      func(io.ReadWriter) ([]byte, error)
	parse        func([]byte) ([]render.Window, error)
}

// compositorOf is the compositor that the environment names; nil for none.
func compositorOf(env func(string) string) *compositor {
	if instance, dir := env("HYPRLAND_INSTANCE_SIGNATURE"), env("XDG_RUNTIME_DIR"); instance != "" && dir != "" {
		return &compositor{"Hyprland", filepath.Join(dir, "hypr", instance, ".socket.sock"), requestHyprland, parseHyprland}
	}
	if socket := env("SWAYSOCK"); socket != "" {
		return &compositor{"sway", socket, requestSway, parseSway}
	}
	return nil
}

// windows reads the windows. Errors name the compositor and the cause.
func (c *compositor) windows(ctx context.Context) ([]render.Window, error) {
	ctx, cancel := context.WithTimeout(ctx, compositorTimeout)
	defer cancel()
	reply, err := c.exchange(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot read from %s: %s", c.name, errtext.Of(err))
	}
	windows, err := c.parse(reply)
	if err != nil {
		return nil, fmt.Errorf("the reply of %s is not a list of windows in JSON", c.name)
	}
	return windows, nil
}

// exchange sends the request and returns the reply; ctx has a deadline.
func (c *compositor) exchange(ctx context.Context) ([]byte, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	return c.request(conn)
}

var errTooLong = fmt.Errorf("its reply has more than %d MiB", maxWindowList>>20)

// requestHyprland: a request is plain text, and the reply ends with the connection
// (https://wiki.hypr.land/IPC; j/ selects JSON).
func requestHyprland(conn io.ReadWriter) ([]byte, error) {
	if _, err := io.WriteString(conn, "j/clients"); err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, maxWindowList+1))
	if err == nil && len(answer) > maxWindowList {
		err = errTooLong
	}
	return answer, err
}

func parseHyprland(answer []byte) ([]render.Window, error) {
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

// sway-ipc(7): a header of the magic bytes, the length and the type of the payload,
// both in native byte order.
const (
	swayMagic   = "i3-ipc"
	swayGetTree = 4
)

func requestSway(conn io.ReadWriter) ([]byte, error) {
	request := binary.NativeEndian.AppendUint32([]byte(swayMagic), 0)
	if _, err := conn.Write(binary.NativeEndian.AppendUint32(request, swayGetTree)); err != nil {
		return nil, err
	}
	header := make([]byte, len(swayMagic)+8)
	if _, err := io.ReadFull(conn, header); err != nil {
		return nil, err
	}
	numbers := header[len(swayMagic):]
	length, kind := binary.NativeEndian.Uint32(numbers), binary.NativeEndian.Uint32(numbers[4:])
	switch {
	case !bytes.HasPrefix(header, []byte(swayMagic)) || kind != swayGetTree:
		return nil, errors.New("its reply does not follow the protocol")
	case length > maxWindowList:
		return nil, errTooLong
	}
	answer := make([]byte, length)
	_, err := io.ReadFull(conn, answer)
	return answer, err
}

// swayNode is a container. One that has a process is a window.
type swayNode struct {
	Type        string
	Name        string
	PID         int
	AppID       *string                `json:"app_id"`
	WindowProps struct{ Class string } `json:"window_properties"`
	Nodes       []swayNode
	Floating    []swayNode `json:"floating_nodes"`
}

func parseSway(answer []byte) ([]render.Window, error) {
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
		program := n.WindowProps.Class // an X11 window, through Xwayland
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
