#!/bin/sh
# The package that cpack makes installs, runs and goes away cleanly.
# usage: deb_test.sh BUILD-FOLDER [--chroot FOLDER]
#   without --chroot: as root, dpkg installs into an empty folder with a database of its own; else dpkg -x unpacks it. The libraries
#     are this system's. Some seconds; CI runs this.
#   --chroot FOLDER: debootstrap makes a fresh system there (root, network), apt installs the package with what it depends on,
#     and the tools run inside. An existing system in FOLDER is used again. Minutes.
set -eu
build=$(cd "$1" && pwd)
chroot=
[ "${2-}" != --chroot ] || chroot=$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
for program in cpack dpkg-deb dpkg-shlibdeps file; do
  command -v $program >/dev/null 2>&1 || { echo "skipped: $program is not installed"; exit 77; }
done

compression=none  # packing well takes as long as all the rest
[ -z "$chroot" ] || compression=xz
(cd "$build" && cpack -B "$scratch/made" -D CPACK_DEBIAN_COMPRESSION_TYPE=$compression >"$scratch/log" 2>&1) || { cat "$scratch/log"; fail cpack; }
package=$(find "$scratch/made" -maxdepth 1 -name 'qwb_*.deb')
[ -s "$package" ] || fail "no package"

# What the package says of itself.
field() { dpkg-deb -f "$package" "$1"; }
for library in libc6 libdnnl libhwy libicu libpcre2-8-0 libcurl libssl3; do
  field Depends | grep -q "$library" || fail "it does not depend on $library"
done
[ "$(field Section)" = science ] || fail "section"
dpkg-deb -c "$package" >"$scratch/content"
awk '{print $2}' "$scratch/content" | grep -vx 'root/root' && fail "files of other owners"
grep -Eq '(\.a|\.h|\.cmake)$' "$scratch/content" && fail "it holds what only developers need"
grep -q 'man1/qwb-eval\.1$' "$scratch/content" && fail "an uncompressed manual page"
for file in doc/qwb/copyright doc/qwb/changelog.Debian.gz man/man1/qwb-eval.1.gz bash-completion/completions/qwb-eval \
  zsh/vendor-completions/_qwb-eval fish/vendor_completions.d/qwb-eval.fish qwb/demo/llama/model.safetensors; do
  grep -q " \./usr/share/$file\$" "$scratch/content" || fail "it lacks $file"
done
if command -v lintian >/dev/null 2>&1 && [ -n "$chroot" ]; then
  lintian --fail-on error,warning --allow-root "$package" || fail lintian
fi

# The tools below $1, run by the command $2 ("": directly). The folder $3, as the tools see it, is theirs to write in.
try_tools() {
  root=$1 in=$2 work=$3 bin=$1/usr/bin
  [ -z "$in" ] || bin=/usr/bin
  artifact=$($in env QWB_CACHE="$work/cache" QWB_MODEL= "$bin/qwb-quantize" -q --method rtn)
  seen=${in:+$root}
  grep -q '"path": *"[^"]*/usr/share/qwb/demo/llama"' "$seen$artifact/qwb.json" || fail "not the package's demo model"
  $in env QWB_CACHE="$work/cache" "$bin/qwb-eval" -q "$artifact" --windows 1 --no-baseline | grep -q rtn || fail "qwb-eval"
  for tool in "$root"/usr/bin/qwb-*; do
    $in "$bin/${tool##*/}" --version | grep -q "^${tool##*/} " || fail "$tool --version"
  done
  if command -v readelf >/dev/null 2>&1; then
    readelf -S "$root/usr/bin/qwb-eval" | grep -q '\.symtab' && fail "not stripped"
    readelf -d "$root/usr/bin/qwb-eval" | grep -Eq 'RPATH|RUNPATH' && fail "a path of the build in the tools"
  fi
  zcat "$root/usr/share/man/man1/qwb-quantize.1.gz" | grep -q '^\.SH OPTIONS' || fail "the manual page"
  # shellcheck disable=SC2016
  bash -c '. "$1"; complete -p qwb-quantize >/dev/null; COMP_WORDS=(qwb-quantize --method gp); COMP_CWORD=2
    _qwb_quantize; [ "${COMPREPLY[*]}" = gptq ]' bash "$root/usr/share/bash-completion/completions/qwb-quantize" ||
    fail "completion"
}

# Nothing of the package is left below $1.
gone() {
  left=$(find "$1/usr" -iname '*qwb*' 2>/dev/null) || true  # usr itself may be gone
  [ -z "$left" ] || fail "left behind: $left"
}

if [ -n "$chroot" ]; then
  codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  [ -x "$chroot/usr/bin/apt-get" ] || debootstrap --variant=minbase "$codename" "$chroot" >"$scratch/log" 2>&1 || { tail "$scratch/log"; fail debootstrap; }
  mount -t proc proc "$chroot/proc" 2>/dev/null || echo "without /proc inside"
  trap 'umount "$chroot/proc" 2>/dev/null; rm -rf "$scratch"' EXIT
  cp "$package" "$chroot/tmp/qwb.deb"
  in="chroot $chroot"
  $in sh -c 'ls /usr/bin >/tmp/before; apt-get -qq update && apt-get -qq -y --no-install-recommends install /tmp/qwb.deb' >"$scratch/log" 2>&1 ||
    { tail -20 "$scratch/log"; fail "apt-get install"; }
  try_tools "$chroot" "$in" /tmp/work
  $in sh -c 'rm -rf /tmp/work; apt-get -qq -y purge qwb' >"$scratch/log" 2>&1 || { cat "$scratch/log"; fail "apt-get purge"; }
  gone "$chroot"
  echo "the package was installed by apt in a fresh $codename, ran and was removed"
elif [ "$(id -u)" = 0 ]; then
  root=$scratch/root
  mkdir -p "$root/var/lib/dpkg/updates" "$root/var/lib/dpkg/info"
  : >"$root/var/lib/dpkg/status"
  dpkg --root="$root" --force-depends --log="$scratch/dpkg.log" -i "$package" >"$scratch/log" 2>&1 || { cat "$scratch/log"; fail "dpkg -i"; }
  try_tools "$root" "" "$scratch"
  dpkg --root="$root" --log="$scratch/dpkg.log" -P qwb >"$scratch/log" 2>&1 || { cat "$scratch/log"; fail "dpkg -P"; }
  gone "$root"
  echo "the package was installed by dpkg into a folder, ran with this system's libraries and was removed"
else
  dpkg-deb -x "$package" "$scratch/root"
  try_tools "$scratch/root" "" "$scratch"
  echo "the package was unpacked and ran with this system's libraries (installing needs root)"
fi
