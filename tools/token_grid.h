// Where the tokens of an image lie in the sequence: behind others (JiT's in-context tokens), row by
// row or in square tiles.
//
//   TokenGrid g{.side = 16, .tile = 8, .prefix = 32};
//   g.cell(32)   // 0: the first image token is the top left one
//   g.token(8)   // 96: the first token of the second tile
#pragma once
#include "tenun/tools/attention_inputs.h"

namespace tenun::tools {

struct TokenGrid {
  int64_t side = 0;    ///< tokens in a row of the image; 0: the tokens are no image
  int64_t tile = 1;    ///< a divisor of side
  int64_t prefix = 0;  ///< tokens in front of those of the image
  /// The cell (row-major) of a token; -1: it is none of the image.
  [[nodiscard]] int64_t cell(int64_t token) const;
  /// The token of a cell.
  [[nodiscard]] int64_t token(int64_t cell) const;
};
/// That of a block's queries and keys.
[[nodiscard]] TokenGrid token_grid(const AttentionLayers& all, const AttentionLayer& l);

}  // namespace tenun::tools
