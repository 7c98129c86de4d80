#!/usr/bin/env bash
# Every public header compiles alone, with no flag but the language version: without the library's
# -march, too, as in other people's projects.
#   headers.sh SOURCE BUILD [HEADER...]
# The kernels' own headers, which are compiled once for each instruction set (ops/simd/isa.h), are not public.
set -euo pipefail
source=$1 build=$2
shift 2
cd "$source"
(($# > 0)) || set -- *.h $(find core autograd ops nn models train cuda -name '*.h' ! -path 'ops/cases/*' | sort |
  xargs grep -L 'namespace tenun::simd::TENUN_ISA')
try() {
  "${CXX:-g++}" -std=c++20 -fsyntax-only -Wall -Wextra -Werror -I"$1/include" -include "tenun/$2" -x c++ /dev/null ||
    { echo "does not compile alone: $2"; return 1; }
}
export -f try
printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} bash -c 'try "$0" "$1"' "$build" {}
echo "$# headers compile alone"
