#!/bin/sh
# build.sh WORK ROOTFS OVERLAY DISK: unpacks both archives and makes a file system image of them. It runs as root, or as
# what looks like root in a user namespace. The disk is sparse. It has no journal: nobody will repair it.
set -eu
root=$1/root
trap 'rm -rf "$root"' EXIT
mkdir "$root"
tar --extract --file="$2" --directory="$root" --numeric-owner --same-permissions --exclude='./dev/*'
tar --extract --file="$3" --directory="$root" --numeric-owner --same-permissions --keep-directory-symlink
rm -rf "$root"/boot/* # the kernel lies beside the disk
# Newer than /usr, so that systemd finds nothing to update at boot.
touch "$root/etc/.updated" "$root/var/.updated"
truncate --size=4G "$4"
mkfs.ext4 -q -F -O ^has_journal,^metadata_csum -m 0 -d "$root" "$4"
