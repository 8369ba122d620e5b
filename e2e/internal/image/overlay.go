package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
)

// overlayFile is a file of ours in the image; all belong to root.
type overlayFile struct {
	Path string // without a leading slash
	Mode int64
	Body []byte
	Link string // a symbolic link's target
}

const agentPath = "usr/local/sbin/bed-agent"

// BusLog is the guest's file that bed-bus.service records the system bus in.
const BusLog = "/run/bed-bus.jsonl"

// masked units only cost time here. Without a real-time capable kernel each call to rtkit times out for seconds; timers
// would all fire after a restore, when the clock jumps.
var masked = []string{
	"rtkit-daemon.service", "ldconfig.service", "systemd-hwdb-update.service", "systemd-binfmt.service",
	"proc-sys-fs-binfmt_misc.automount", "proc-sys-fs-binfmt_misc.mount", "e2scrub_reap.service", "e2scrub_all.timer",
	"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer", "man-db.timer",
	"systemd-tmpfiles-clean.timer", "systemd-random-seed.service", "systemd-pstore.service", "systemd-firstboot.service",
	"getty@tty1.service", "getty-static.service", "serial-getty@ttyS0.service", "systemd-machine-id-commit.service",
}

// maskedForUsers are the same for the users' managers.
var maskedForUsers = []string{"filter-chain.service", "ssh-agent.socket", "ssh-agent.service"}

// generators have nothing to generate here, and all of them run at each daemon-reload: without them it takes half.
var generators = []string{
	"debug", "fstab", "getty", "gpt-auto", "hibernate-resume", "rc-local", "run", "ssh", "system-update", "sysv", "tpm2",
	"cryptsetup", "veritysetup", "integritysetup", "bless-boot", "import", "factory-reset",
}

// overlay lists what a recipe puts on top of the packages, in a fixed order.
func overlay(r Recipe, agent []byte) ([]overlayFile, error) {
	list := []overlayFile{
		{Path: agentPath, Mode: 0o755, Body: agent},
		{Path: "etc/systemd/system/sysinit.target.wants/bed-agent.service", Link: "../bed-agent.service"},
		{Path: "etc/systemd/system/basic.target.wants/bed-bus.service", Link: "../bed-bus.service"},
	}
	mask := func(dir, name string) { list = append(list, overlayFile{Path: dir + name, Link: "/dev/null"}) }
	for _, unit := range masked {
		mask("etc/systemd/system/", unit)
	}
	for _, unit := range maskedForUsers {
		mask("etc/systemd/user/", unit)
	}
	for _, name := range generators {
		mask("etc/systemd/system-generators/systemd-", name+"-generator")
	}
	mask("etc/systemd/user-generators/", "systemd-xdg-autostart-generator")
	mask("etc/systemd/user-environment-generators/", "30-systemd-environment-d-generator")
	for _, dir := range []string{"files/common", "files/" + r.Name} {
		embedded, err := embeddedFiles(dir)
		if err != nil {
			return nil, err
		}
		list = append(list, embedded...)
	}
	return list, nil
}

// embeddedFiles turns a folder of ours into files of the image. An embedded file has no mode: programs lie in a bin.
func embeddedFiles(dir string) ([]overlayFile, error) {
	var list []overlayFile
	err := fs.WalkDir(files, dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := files.ReadFile(name)
		f := overlayFile{Path: strings.TrimPrefix(name, dir+"/"), Mode: 0o644, Body: body}
		if path.Base(path.Dir(name)) == "bin" {
			f.Mode = 0o755
		}
		list = append(list, f)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the embedded files: %w", err)
	}
	return list, nil
}

// writeOverlay packs the files as a tar archive.
func writeOverlay(w io.Writer, list []overlayFile) error {
	tw := tar.NewWriter(w)
	for _, f := range list {
		h := &tar.Header{
			Name: f.Path, Mode: f.Mode, Size: int64(len(f.Body)), Typeflag: tar.TypeReg, ModTime: time.Unix(1, 0),
		}
		if f.Link != "" {
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.Link, 0o777
		}
		err := tw.WriteHeader(h)
		if err == nil {
			_, err = io.Copy(tw, bytes.NewReader(f.Body))
		}
		if err != nil {
			return fmt.Errorf("cannot pack %s: %w", f.Path, err)
		}
	}
	return tw.Close()
}
