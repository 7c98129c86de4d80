// Rotary position embedding for images (arXiv 2104.09864, two axes): each adjacent pair of channels
// (x[2m], x[2m+1]) is turned by an angle. Token (row i, column j) of a G x G grid: the pairs of the
// first D/2 channels by i theta^(-4m/D), those of the rest by j theta^(-4m/D), m counted from 0 in
// each half. L prefix tokens stand before the grid and are not turned. Backward turns by minus the
// angle and saves nothing.
//
//   q = rope_2d(q, {.grid = 16, .prefix = 32});         // q [B, H, 32 + 256, D]
//
// Angles are computed in f64; the tables are f64 for f64 inputs and f32 otherwise, made once for
// each (options, D, dtype, device) and shared by all threads. Errors: ShapeError, ValueError,
// DTypeError.
#pragma once
#include "tenun/autograd/var.h"
#include "tenun/core/kernel.h"

namespace tenun {

struct RopeOptions {
  int64_t grid = 0;    ///< G
  int64_t prefix = 0;  ///< L
  double theta = 10000;
  int64_t tile = 1;  ///< tokens come in raster order (1), or in square tiles of this side
  [[nodiscard]] int64_t tokens() const { return prefix + grid * grid; }
};

/// ValueError if an option is out of its domain.
void check_rope(const char* op, const RopeOptions& options);

/// x [B, H, L + G*G, D] with D divisible by 4; any strides.
[[nodiscard]] Var rope_2d(const Var& x, const RopeOptions& options);

/// cos and sin of the angles, each [L + G*G, D/2], one number for each pair of channels.
struct RopeTable {
  Tensor cos, sin;
};
[[nodiscard]] RopeTable rope_table(const RopeOptions& options, int64_t d, DType dtype,
                                   Device device);

enum class Turn : uint8_t { forward, back };

namespace kernel {
/// y contiguous [B, H, N, D]; x of that shape with unit stride along D.
extern Kernel<void(Tensor& y, const Tensor& x, const RopeTable& table, Turn turn)> rope;
}  // namespace kernel

namespace detail {
/// Turns one token's D channels; `sign` is 1 or -1. y may be x.
template <class C>
inline void turn_row(C* y, const C* x, const C* cos, const C* sin, C sign, int64_t d) {
  for (int64_t m = 0; m < d / 2; ++m) {
    const C a = x[2 * m], b = x[2 * m + 1], c = cos[m], s = sign * sin[m];
    y[2 * m] = a * c - b * s;
    y[2 * m + 1] = b * c + a * s;
  }
}
}  // namespace detail

}  // namespace tenun
