#!/usr/bin/env bash
# The objects that are compiled for newer processors must not define inline functions that callers
# elsewhere could be linked to: every weak symbol lies in its level's namespace.
#   isa_symbols.sh LIBRARY...   (libtenun_LEVEL.a, from the build)
set -euo pipefail
bad=0 seen=0
for lib in "$@"; do
  level=$(basename "$lib" .a)
  level=${level#libtenun_}
  symbols=$(nm --defined-only "$lib")
  grep -q " $level" <<<"$(nm -C --defined-only "$lib" | grep -o "simd::$level::" | sort -u | sed 's/simd::/ /')" ||
    { echo "$lib defines nothing in tenun::simd::$level"; exit 1; }
  seen=$((seen + 1))
  # Upper-case letters are global; all of them, weak (W, V, u) or strong, belong to the level.
  others=$(awk 'NF == 3 && $2 ~ /^[A-Zu]$/ { print $3 }' <<<"$symbols" | sort -u |
    grep -v "5tenun4simd${#level}${level}" || true)
  [[ -z $others ]] || { echo "$lib: outside of tenun::simd::$level:"; c++filt <<<"$others"; bad=1; }
done
[[ $seen -gt 0 ]] && exit $bad
