#!/bin/sh
# Installs what the tests run against: the real mail servers and name servers that mxward
# is compared with. Nothing is started, and nothing of the machine's own mail is touched:
# Postfix and Exim, which Debian installs only one at a time, each get an overlay of the
# root folder below $MXWARD_TEST_CACHE.
#
# Without root, or elsewhere than on Debian, it does nothing: the tests that need these
# programs then say themselves that they were left out, and why.
set -eu

cache=${MXWARD_TEST_CACHE:-/var/cache/mxward-test}
packages="iproute2 bind9 bind9-dnsutils nsd unbound postgresql swaks libnet-ssleay-perl dnsperf procps groff-base opendkim opendkim-tools python3-dkim python3-nacl python3-authres libxml2-utils zonemaster-cli"
mtas="postfix exim4-daemon-light"

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "setup: not root on Debian: no package is installed"
	exit 0
fi

export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# quietly runs a command and shows what it printed only where it fails.
quietly() {
	"$@" >"$log" 2>&1 </dev/null || { cat "$log" >&2; echo "setup: failed: $*" >&2; return 1; }
}

# no_services keeps package scripts below the root folder $1 from starting daemons.
no_services() {
	[ -e "$1/usr/sbin/policy-rc.d" ] && return
	printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
	chmod +x "$1/usr/sbin/policy-rc.d"
}

missing=
for p in $packages; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
if [ -n "$missing" ]; then
	echo "setup: installing$missing"
	had_policy=$([ -e /usr/sbin/policy-rc.d ] && echo yes || echo no)
	no_services /
	quietly apt-get update
	# shellcheck disable=SC2086 # a list of words
	quietly apt-get install -y --no-install-recommends $missing
	[ $had_policy = yes ] || rm -f /usr/sbin/policy-rc.d
fi

# mta installs one package into an overlay of the root folder.
mta() {
	root=$cache/$1
	[ -e "$root/ready" ] && return
	echo "setup: preparing $1 in $root"
	rm -rf "$root"
	mkdir -p "$root/upper" "$root/work" "$root/root"
	quietly apt-get update
	quietly unshare -m sh -ec '
		mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
		mount -t proc proc "$1/root/proc"
		mount --rbind /dev "$1/root/dev"
		printf "#!/bin/sh\nexit 101\n" >"$1/root/usr/sbin/policy-rc.d"
		chmod +x "$1/root/usr/sbin/policy-rc.d"
		chroot "$1/root" apt-get install -y --no-install-recommends "$2"
		chroot "$1/root" apt-get clean
	' sh "$root" "$1" || { echo "setup: the tests with $1 will be left out" >&2; return 0; }
	touch "$root/ready"
}
for p in $mtas; do mta "$p"; done
