package image

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path"
	"strings"
)

// bootModules are what the kernel needs before it sees its root file system; dependencies are added.
var bootModules = []string{"virtio_blk", "crc32c_generic", "ext4"}

// node is an entry of an initial RAM disk.
type node struct {
	name         string
	mode         uint32 // as in stat
	major, minor uint32
	body         []byte
}

// cpio writes the "newc" archive that the kernel unpacks. Nothing in it depends on who writes it, or when.
func cpio(w io.Writer, nodes []node) error {
	var buf bytes.Buffer
	for i, n := range append(nodes, node{name: "TRAILER!!!"}) {
		fields := []uint32{
			uint32(i + 1), n.mode, 0, 0, 1, 0, uint32(len(n.body)), 0, 0, n.major, n.minor, uint32(len(n.name) + 1), 0,
		}
		buf.WriteString("070701")
		for _, field := range fields {
			fmt.Fprintf(&buf, "%08X", field)
		}
		buf.WriteString(n.name + "\x00")
		pad(&buf)
		buf.Write(n.body)
		pad(&buf)
	}
	_, err := w.Write(buf.Bytes())
	return err
}

func pad(buf *bytes.Buffer) {
	for buf.Len()%4 != 0 {
		buf.WriteByte(0)
	}
}

const (
	modeDir  = 0o040755
	modeFile = 0o100755
	modeChar = 0o020600
)

// initrd lays out the initial RAM disk. The kernel opens /dev/console for init before anything is mounted.
func initrd(init []byte, modules [][]byte) []node {
	nodes := []node{
		{name: "dev", mode: modeDir},
		{name: "dev/console", mode: modeChar, major: 5, minor: 1},
		{name: "root", mode: modeDir},
		{name: "modules", mode: modeDir},
		{name: "init", mode: modeFile, body: init},
	}
	for i, m := range modules {
		nodes = append(nodes, node{name: fmt.Sprintf("modules/%02d.ko", i), mode: modeFile, body: m})
	}
	return nodes
}

// loadOrder returns the files of the wanted modules and of all they depend on, in the order to load them. deps is the
// text of modules.dep. A module that is missing there is built into the kernel, or gone from it.
func loadOrder(deps string, wanted []string) []string {
	needs, files := map[string][]string{}, map[string]string{}
	for line := range strings.Lines(deps) {
		file, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		needs[file] = strings.Fields(rest)
		files[moduleName(file)] = file
	}
	var order []string
	seen := map[string]bool{}
	var add func(file string)
	add = func(file string) {
		if file == "" || seen[file] {
			return
		}
		seen[file] = true
		for _, need := range needs[file] {
			add(need)
		}
		order = append(order, file)
	}
	for _, name := range wanted {
		add(files[name])
	}
	return order
}

// moduleName is what the kernel calls the module in a file: "kernel/fs/ext4/ext4.ko.xz" is "ext4".
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".")
	return strings.ReplaceAll(name, "-", "_")
}

// decompress unpacks a module here, once, and not at each boot under emulation.
func decompress(ctx context.Context, file string, body []byte) ([]byte, error) {
	if !strings.HasSuffix(file, ".xz") {
		return body, nil
	}
	cmd := exec.CommandContext(ctx, "xz", "--decompress", "--stdout")
	cmd.Stdin = bytes.NewReader(body)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("cannot decompress %s: %w", file, err)
	}
	return out, nil
}
