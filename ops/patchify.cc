#include "tenun/ops/patchify.h"

#include <cmath>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"

namespace tenun {
namespace {

struct Grid {
  int64_t batch = 0, channels = 0, rows = 0, columns = 0, patch = 0;
  PatchOrder order = PatchOrder::channels_last;

  // Tokens seen in the image's order [B, C, i, py, j, px]: copies run along px, the longest run.
  [[nodiscard]] Tensor in_image_order(const Tensor& tokens) const {
    const bool last = order == PatchOrder::channels_last;
    const Shape shape = last ? Shape{batch, rows, columns, patch, patch, channels}
                             : Shape{batch, rows, columns, channels, patch, patch};
    return tokens.reshape(shape).permute(last ? Dims{0, 5, 1, 3, 2, 4} : Dims{0, 3, 1, 4, 2, 5});
  }
  [[nodiscard]] Tensor to_tokens(const Tensor& image) const {
    Tensor tokens({batch, rows * columns, patch * patch * channels}, image.dtype(), image.device());
    in_image_order(tokens).copy_(image.reshape({batch, channels, rows, patch, columns, patch}));
    return tokens;
  }
  [[nodiscard]] Tensor to_image(const Tensor& tokens) const {
    return in_image_order(tokens).clone().view({batch, channels, rows * patch, columns * patch});
  }
};

struct Patchify {
  static constexpr const char* name = "patchify";
  Grid grid{};
  Tensor forward(const Ctx&, const Tensor& x) { return grid.to_tokens(x); }
  Grads<1> backward(const Ctx&, const Tensor& dy) { return {grid.to_image(dy)}; }
};
struct Unpatchify {
  static constexpr const char* name = "unpatchify";
  Grid grid{};
  Tensor forward(const Ctx&, const Tensor& x) { return grid.to_image(x); }
  Grads<1> backward(const Ctx&, const Tensor& dy) { return {grid.to_tokens(dy)}; }
};

}  // namespace

Var patchify(const Var& x, int64_t patch, PatchOrder order) {
  check<ShapeError>(
      x.rank() == 4 && patch >= 1 && x.dim(2) % patch == 0 && x.dim(3) % patch == 0, "patchify",
      "x {} must be [B, C, H, W] with H and W divisible by the patch size {}", x.value(), patch);
  return apply(Patchify{{x.dim(0), x.dim(1), x.dim(2) / patch, x.dim(3) / patch, patch, order}}, x);
}

Var unpatchify(const Var& tokens, int64_t patch, int64_t channels) {
  const char* const op = "unpatchify";
  check<ShapeError>(tokens.rank() == 3 && patch >= 1 && channels >= 1 &&
                        tokens.dim(2) == patch * patch * channels,
                    op, "tokens {} must be [B, T, {} * {} * {}] for patch {} and {} channels",
                    tokens.value(), patch, patch, channels, patch, channels);
  const auto side = static_cast<int64_t>(std::llround(std::sqrt(tokens.dim(1))));
  check<ShapeError>(side * side == tokens.dim(1), op, "{} tokens are no square grid",
                    tokens.dim(1));
  return apply(Unpatchify{{tokens.dim(0), channels, side, side, patch, PatchOrder::channels_last}},
               tokens);
}

}  // namespace tenun
