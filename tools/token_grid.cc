#include "tenun/tools/token_grid.h"

namespace tenun::tools {

int64_t TokenGrid::cell(int64_t token) const {
  const int64_t t = token - prefix;
  if (t < 0) return -1;
  const int64_t area = tile * tile, tiles = side / tile, at = t / area, inside = t % area;
  return (at / tiles * tile + inside / tile) * side + at % tiles * tile + inside % tile;
}

int64_t TokenGrid::token(int64_t cell) const {
  const int64_t row = cell / side, column = cell % side, tiles = side / tile;
  return prefix + (row / tile * tiles + column / tile) * tile * tile + row % tile * tile +
         column % tile;
}

TokenGrid token_grid(const AttentionLayers& all, const AttentionLayer& l) {
  const int64_t n = l.q.dim(2), image = all.grid * all.grid;
  if (all.grid == 0 || image > n || n != l.k.dim(2)) return {};
  return {all.grid, all.tile, n - image};
}

}  // namespace tenun::tools
