# Read by tools/quickstart and tools/test: `prepare [TARGET...]` installs what is missing, configures
# build/ with ${setup_options[@]} and builds it (or the targets alone). It needs bash, and apt where
# something is missing.

setup_options=()

say() { printf '\n== %s\n' "$*" >&2; }

# The Debian packages that the build needs and this machine lacks.
missing_packages() {
  local packages=() pair
  command -v g++ >/dev/null || packages+=(g++)
  command -v meson >/dev/null || packages+=(meson)
  command -v ninja >/dev/null || packages+=(ninja-build)
  command -v pkg-config >/dev/null || packages+=(pkg-config)
  for pair in fmt:libfmt-dev yaml-cpp:libyaml-cpp-dev CLI11:libcli11-dev \
    spng:libspng-dev zlib:zlib1g-dev minizip:libminizip-dev libturbojpeg:libturbojpeg0-dev; do
    pkg-config --exists "${pair%%:*}" 2>/dev/null || packages+=("${pair#*:}")
  done
  echo '#include <doctest/doctest.h>' | g++ -E -x c++ - >/dev/null 2>&1 || packages+=(doctest-dev)
  echo "${packages[@]}"
}

# install PACKAGE...: by apt, if that is allowed without a password.
install_packages() {
  local as=()
  if [[ $(id -u) != 0 ]]; then as=(sudo -n); fi
  if command -v apt-get >/dev/null && "${as[@]}" true 2>/dev/null; then
    say "installing $*"
    "${as[@]}" apt-get update -q >&2 &&
      "${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >&2
  else
    return 1
  fi
}

prepare() {
  local missing
  read -ra missing <<<"$(missing_packages)"
  if ((${#missing[@]} > 0)); then
    # ccache makes the next build short; the build does without it.
    install_packages "${missing[@]}" ccache || {
      echo "Some packages are missing, and installing them is not allowed here. Please run" >&2
      echo "  sudo apt-get install ${missing[*]}" >&2
      echo "(Debian 12 names; elsewhere install the same libraries) and start this again." >&2
      exit 2
    }
  fi
  # The last one lets ccache keep objects that were made with a precompiled header.
  export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros
  if [[ ! -f build/build.ninja ]]; then
    say "configuring build/"
    meson setup build "${setup_options[@]}" >build-setup.log 2>&1 || { cat build-setup.log >&2; exit 1; }
    rm -f build-setup.log
  elif ((${#setup_options[@]} > 0)); then
    meson setup --reconfigure build "${setup_options[@]}" >build-setup.log 2>&1 || { cat build-setup.log >&2; exit 1; }
    rm -f build-setup.log
  fi
  say "building build/ with $(nproc) jobs"
  ninja -C build -j "$(nproc)" "$@" >&2
}
