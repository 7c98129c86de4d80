// What `tenun viz` draws: pictures in memory and the lines that go with them, from operands of
// attention. Nothing is written before every flag has been judged; UsageError names the flag.
#pragma once
#include <string>
#include <vector>

#include "tenun/core/image.h"
#include "tenun/tools/attention_inputs.h"
#include "tenun/tools/commands.h"
#include "tenun/tools/panels.h"
#include "tenun/tools/token_grid.h"

namespace tenun::tools {

struct NamedImage {
  std::string file;  ///< "block_03_map.png"
  Image image;
};
struct Drawing {
  std::vector<NamedImage> images;
  std::string text;  ///< for stdout
};

/// sigmoid(alpha) of each head, the mean over its blocks; empty: the method has none.
[[nodiscard]] std::vector<double> exact_shares(const AttentionLayer& l);

/// Which key blocks every query block selects.
[[nodiscard]] Drawing draw_routing(const VizOptions& o, const AttentionLayers& all);
/// Heat maps of what chosen query tokens attend to.
[[nodiscard]] Drawing draw_attention(const VizOptions& o, const AttentionLayers& all);

}  // namespace tenun::tools
