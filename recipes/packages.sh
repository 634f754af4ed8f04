# The packages of Debian 12 and Ubuntu 24.04 that qwb needs, and their installation. Sourced by recipes
# and tests (POSIX sh):
#   . recipes/packages.sh; need_packages $build_packages
# shellcheck shell=sh disable=SC2034

build_packages="g++ cmake ninja-build make pkg-config nlohmann-json3-dev libcli11-dev libfmt-dev libxxhash-dev libpcre2-dev
  libicu-dev libhwy-dev libdnnl-dev ocl-icd-opencl-dev libcurl4-openssl-dev libssl-dev libzip-dev zlib1g-dev
  libboost-dev"
# Optional: draws the plots of qwb-report.
plot_packages="gnuplot-nox"
# Optional: edits the lines of qwb-chat.
edit_packages="libedit-dev"
test_packages="$plot_packages $edit_packages libgtest-dev libgmock-dev libbenchmark-dev libcpp-httplib-dev ccache
  dpkg-dev file"
# Drive the page of qwb-serve in its tests, where apt has them (real_browser_packages).
browser_packages="chromium chromium-driver"
fuzz_packages="clang libomp-dev"
format_packages="clang-format-14"
tidy_packages="clang-tidy-14 libomp-dev"

# Installs those of the named packages that are missing; if none is, it needs neither root nor network.
# On systems other than Debian's it names them and continues: CMake will report what it does not find.
need_packages() {
  if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "This is not Debian or Ubuntu: make sure that you have what these packages hold: $*" >&2
    return 0
  fi
  missing=
  for package in "$@"; do
    has_package "$package" || missing="$missing $package"
  done
  [ -n "$missing" ] || return 0
  echo "Installing:$missing" >&2
  # shellcheck disable=SC2086
  if as_root apt-get -qq update && as_root apt-get -qq -y --no-install-recommends install $missing >&2; then
    return 0
  fi
  echo "These packages are missing and could not be installed:$missing" >&2
  return 1
}

# $browser_packages where apt can install them; nothing where they are missing, or would only fetch a
# snap, as Ubuntu's do.
real_browser_packages() {
  command -v apt-cache >/dev/null 2>&1 || return 0
  for package in $browser_packages; do
    apt-cache show "$package" 2>/dev/null | grep -q '^Filename: .*chromium' || return 0
    ! apt-cache show "$package" 2>/dev/null | grep -Eqi '^(Version: .*snap|Pre-Depends: .*snapd|Depends: .*snapd)' || return 0
  done
  echo "$browser_packages"
}

# A tool may also have been installed without a package.
has_package() {
  case $1 in
    ninja-build) command -v ninja ;;
    clang) command -v clang++ ;;
    gnuplot-nox) command -v gnuplot ;;
    g++ | cmake | make | pkg-config | ccache | clang-format-14 | clang-tidy-14) command -v "$1" ;;
    *) dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep 'ok installed' ;;
  esac >/dev/null
}

# Runs a command as root: directly, or by sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    env DEBIAN_FRONTEND=noninteractive "$@" </dev/null
  elif command -v sudo >/dev/null 2>&1; then
    sudo env DEBIAN_FRONTEND=noninteractive "$@"
  else
    echo "Neither root nor sudo: cannot run $*" >&2
    return 1
  fi
}

# "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache" where ccache is installed.
launcher() {
  command -v ccache >/dev/null 2>&1 && echo -DCMAKE_CXX_COMPILER_LAUNCHER=ccache
  true
}
