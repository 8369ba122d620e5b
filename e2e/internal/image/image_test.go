package image

import (
	"archive/tar"
	"bytes"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheKeyOfThePackagesIsTheRecipeAndNotTheMirror(t *testing.T) {
	sway, err := Sway().rootfsEntry()
	require.NoError(t, err)
	assert.Equal(t, "rootfs-sway", sway.Kind)
	changes := map[string]func(*Recipe){
		"suite":   func(r *Recipe) { r.Suite = "sid" },
		"package": func(r *Recipe) { r.Packages = append(r.Packages, "htop") },
		"expired": func(r *Recipe) { r.Expired = true },
	}
	for name, change := range changes {
		r := Sway()
		change(&r)
		changed, err := r.rootfsEntry()
		require.NoError(t, err)
		assert.NotEqual(t, sway, changed, name)
	}
	again, err := Sway().rootfsEntry()
	require.NoError(t, err)
	assert.Equal(t, sway, again)
}

func TestMmdebstrapGetsTheMirrorOnlyWhenThereIsOne(t *testing.T) {
	args := mmdebstrapArgs(Hyprland(), "out.tar", "")
	assert.Equal(t, []string{"forky", "out.tar"}, args[len(args)-2:])
	assert.Contains(t, args, `--aptopt=Acquire::Check-Valid-Until "false"`)
	args = mmdebstrapArgs(Sway(), "out.tar", "http://mirror/debian")
	assert.Equal(t, []string{"trixie", "out.tar", "http://mirror/debian"}, args[len(args)-3:])
	assert.NotContains(t, args, `--aptopt=Acquire::Check-Valid-Until "false"`)
}

// The hook passes through mmdebstrap's shell and the one in the new root.
func TestTheSetupSurvivesTwoShells(t *testing.T) {
	var hook string
	for _, arg := range mmdebstrapArgs(Sway(), "", "") {
		if h, ok := strings.CutPrefix(arg, "--customize-hook="); ok {
			hook = h
		}
	}
	show := strings.Replace(hook, `chroot "$1" /bin/sh -euc`, "printf %s", 1)
	out, err := exec.Command("sh", "-c", show, "sh", "root").Output()
	require.NoError(t, err)
	assert.Equal(t, setup, string(out))
}

func TestTheMirrorIsDebiansMainArchive(t *testing.T) {
	const targets = "Debian|Debian-Security|http://m/security/\nOther|Other|http://x/\nDebian|Debian|http://m/debian/\n"
	assert.Equal(t, "http://m/debian", pickMirror(targets))
	assert.Empty(t, pickMirror("Ubuntu|Ubuntu|http://u/\n"))
	assert.Empty(t, pickMirror(""))
}

func TestModulesAreLoadedAfterWhatTheyNeed(t *testing.T) {
	const deps = `kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz kernel/fs/mbcache.ko.xz kernel/fs/jbd2/jbd2.ko.xz
kernel/fs/jbd2/jbd2.ko.xz: kernel/lib/crc16.ko.xz
kernel/fs/mbcache.ko.xz:
kernel/lib/crc16.ko.xz:
kernel/drivers/block/virtio_blk.ko.xz:
kernel/other/other-thing.ko.xz:
`
	order := loadOrder(deps, []string{"virtio_blk", "built_in", "ext4", "other_thing"})
	assert.ElementsMatch(t, []string{
		"kernel/drivers/block/virtio_blk.ko.xz", "kernel/lib/crc16.ko.xz", "kernel/fs/mbcache.ko.xz",
		"kernel/fs/jbd2/jbd2.ko.xz", "kernel/fs/ext4/ext4.ko.xz", "kernel/other/other-thing.ko.xz",
	}, order)
	before := func(a, b string) {
		assert.Less(t, slices.Index(order, a), slices.Index(order, b))
	}
	before("kernel/lib/crc16.ko.xz", "kernel/fs/jbd2/jbd2.ko.xz")
	before("kernel/fs/jbd2/jbd2.ko.xz", "kernel/fs/ext4/ext4.ko.xz")
}

func TestTheInitialRAMDiskIsAnArchiveThatOthersCanRead(t *testing.T) {
	var buf bytes.Buffer
	require.NoError(t, cpio(&buf, initrd([]byte("init"), [][]byte{[]byte("one"), []byte("two!")})))
	assert.Zero(t, buf.Len()%4)
	text := buf.String()
	assert.True(t, strings.HasPrefix(text, "070701"))
	for _, name := range []string{"dev/console", "init", "modules/00.ko", "modules/01.ko", "TRAILER!!!"} {
		assert.Equal(t, 1, strings.Count(text, name+"\x00"), name)
	}
	if cpio, err := exec.LookPath("cpio"); err == nil { // a second opinion where there is one
		cmd := exec.Command(cpio, "--list", "--quiet")
		cmd.Stdin = bytes.NewReader(buf.Bytes())
		out, err := cmd.Output()
		require.NoError(t, err)
		assert.Equal(t, "dev\ndev/console\nroot\nmodules\ninit\nmodules/00.ko\nmodules/01.ko\n", string(out))
	}
}

func TestTheOverlayHoldsTheAgentTheSessionAndNothingTwice(t *testing.T) {
	for _, r := range []Recipe{Sway(), Hyprland()} {
		list, err := overlay(r, []byte("agent"))
		require.NoError(t, err)
		var buf bytes.Buffer
		require.NoError(t, writeOverlay(&buf, list))

		found := map[string]*tar.Header{}
		for tr := tar.NewReader(&buf); ; {
			h, err := tr.Next()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			require.NotContains(t, found, h.Name)
			found[h.Name] = h
		}
		assert.EqualValues(t, 0o755, found[agentPath].Mode)
		assert.EqualValues(t, 0o755, found["usr/local/bin/desktop-session"].Mode)
		assert.EqualValues(t, 0o644, found["etc/greetd/config.toml"].Mode)
		assert.Equal(t, "/dev/null", found["etc/systemd/system/rtkit-daemon.service"].Linkname)
		for name := range found {
			assert.NotContains(t, name, "dubnium", "the image knows nothing of what is tested in it")
		}
	}
}

func TestMissingToolsAreNamedTogether(t *testing.T) {
	assert.Empty(t, missingTools(func(string) bool { return true }))
	missing := missingTools(func(tool string) bool { return tool != "gcc" && tool != "qemu-img" })
	assert.Equal(t, []string{"gcc", "qemu-img"}, missing)
}
