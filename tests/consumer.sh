#!/usr/bin/env bash
# Installs the library into an empty folder, moves the folder, and builds and runs examples/consumer
# against it: with Meson and pkg-config, and with CMake where it is installed.
#   consumer.sh SOURCE BUILD
set -euo pipefail
source=$1 build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
DESTDIR=$work/first meson install -C "$build" --no-rebuild --quiet
prefix=$(dirname "$(dirname "$(find "$work/first" -path '*/include/tenun' -type d)")")
mv "$prefix" "$work/moved"  # the package files must not remember the old place
prefix=$work/moved
pc=$(find "$prefix" -name tenun.pc)
export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$pc")
# Quoted includes of other headers must all be installed as well.
missing=$(grep -rhoE '#include "tenun/[^"]+"' "$prefix/include/tenun" | sort -u | cut -d'"' -f2 |
  while read -r h; do [[ -f $prefix/include/$h ]] || echo "$h"; done)
[[ -z $missing ]] || { echo "not installed, but included by installed headers: $missing"; exit 1; }
cp -r "$source/examples/consumer" "$work/consumer"
cd "$work/consumer"
echo "== Meson, pkg-config"
meson setup build-meson >meson.log 2>&1 && ninja -C build-meson >>meson.log 2>&1 || { cat meson.log; exit 1; }
build-meson/consumer
if command -v cmake >/dev/null; then
  echo "== CMake"
  cmake -S . -B build-cmake -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release >cmake.log 2>&1 &&
    cmake --build build-cmake >>cmake.log 2>&1 || { cat cmake.log; exit 1; }
  build-cmake/consumer
else
  echo "== CMake: not installed, not tried"
fi
"$prefix/bin/tenun" --version
