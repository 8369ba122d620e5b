#!/bin/sh
# need.sh COMMAND:PACKAGE[,PACKAGE...] ... - make sure that commands are there.
# What is missing is installed from Debian's packages when this is root on Debian;
# anybody else gets one line that says what to install, and a failure.
set -eu
missing="" packages=""
for pair; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || [ -x "${pair%%:*}" ] || {
		missing="$missing ${pair%%:*}"
		packages="$packages $(echo "${pair#*:}" | tr , ' ')"
	}
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing$packages"
	log=$(mktemp)
	# shellcheck disable=SC2086 # a list of words
	if { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages; } >"$log" 2>&1; then
		rm -f "$log"
		exit 0
	fi
	tail -n 20 "$log" >&2
	rm -f "$log"
fi
echo "missing:$missing. Install Debian's packages$packages, or your system's equivalent." >&2
exit 1
