#include "tenun/ops/conv_cpu.h"

#include <algorithm>
#include <vector>

#include "tenun/core/parallel.h"
#include "tenun/ops/conv_runs.h"
#include "tenun/ops/matmul.h"

namespace tenun {
namespace {

constexpr int64_t kBlockBytes = 768 << 10;  // columns of one block: they stay in the cache

// The output positions, cut into blocks for column matrices with `rows` rows.
struct Blocks {
  int64_t step, count;
  Blocks(int64_t positions, int64_t rows, int64_t element) {
    const int64_t fit = std::max<int64_t>(128, kBlockBytes / std::max<int64_t>(rows * element, 1));
    step = ceil_div(ceil_div(positions, ceil_div(positions, fit)), 8) * 8;
    count = ceil_div(positions, step);
  }
};

// Input channels, cut so that the taps of one piece give matrix products of a decent size. Pieces
// are the unit of work where the result is laid out by channels: no two tasks share an element.
struct Pieces {
  int64_t step, count;
  explicit Pieces(const ConvShape& s) {
    step = std::min(s.in_group(), std::max<int64_t>(1, 256 / s.taps()));
    count = ceil_div(s.in_group(), step);
  }
};

// cols[(c, r, q), p] for `channels` planes from x on and the positions [p0, p1).
template <class T, class C>
void gather_columns(C* cols, const T* x, const ConvShape& s, int64_t channels, int64_t p0,
                    int64_t p1) {
  const int64_t stride = s.windows.stride.w;
  for (int64_t c = 0; c < channels; ++c, x += s.image.h * s.image.w)
    for (int64_t r = 0; r < s.windows.kernel.h; ++r)
      for (int64_t q = 0; q < s.windows.kernel.w; ++q, cols += p1 - p0)
        for_runs(s, p0, p1, r, q, [&](const Run& run) {
          std::fill(cols + run.begin, cols + run.at, C(0));
          C* __restrict to = cols + run.at;
          const T* __restrict from = x + run.from;
          if (stride == 1)
            for (int64_t i = 0; i < run.count; ++i) to[i] = static_cast<C>(from[i]);
          else
            for (int64_t i = 0; i < run.count; ++i) to[i] = static_cast<C>(from[i * stride]);
          std::fill(to + run.count, cols + run.end, C(0));
        });
}

// The adjoint: adds the columns to the pixels that they were read from.
template <class C>
void scatter_columns(C* x, const C* cols, const ConvShape& s, int64_t channels, int64_t p0,
                     int64_t p1) {
  const int64_t stride = s.windows.stride.w;
  for (int64_t c = 0; c < channels; ++c, x += s.image.h * s.image.w)
    for (int64_t r = 0; r < s.windows.kernel.h; ++r)
      for (int64_t q = 0; q < s.windows.kernel.w; ++q, cols += p1 - p0)
        for_runs(s, p0, p1, r, q, [&](const Run& run) {
          const C* __restrict from = cols + run.at;
          C* __restrict to = x + run.from;
          if (stride == 1)
            for (int64_t i = 0; i < run.count; ++i) to[i] += from[i];
          else
            for (int64_t i = 0; i < run.count; ++i) to[i * stride] += from[i];
        });
}

// Scratch for matrices of up to n elements, seen as contiguous [1, rows, cols].
class Scratch {
 public:
  Scratch(int64_t n, DType d) : memory_({n}, d) {}
  [[nodiscard]] Tensor matrix(int64_t rows, int64_t cols) const {
    return memory_.slice(0, 0, rows * cols).view({1, rows, cols});
  }

 private:
  Tensor memory_;
};

// Rows [row, row + rows) of group g of the weight (O, K), and columns [col, col + cols).
Tensor weight_block(const Tensor& w, const ConvShape& s, int64_t g, int64_t col, int64_t cols) {
  return w.slice(0, g * s.out_group(), (g + 1) * s.out_group())
      .slice(1, col, col + cols)
      .unsqueeze(0);
}

int64_t grain_for(double flops) {  // tasks in one piece of parallel work
  return std::max<int64_t>(1, static_cast<int64_t>(1e6 / std::max(flops, 1.0)));
}

template <class T>
void add_bias(Tensor& y, const Tensor& bias, const ConvShape& s) {
  T* const out = y.mutable_data<T>();
  const T* const b = bias.data<T>();
  const int64_t n = s.positions();
  parallel_for(0, s.batch * s.out_channels, grain_for(static_cast<double>(n) * 16),
               [&](int64_t first, int64_t last) {
                 for (int64_t i = first; i < last; ++i) {
                   const auto v = static_cast<Compute<T>>(b[i % s.out_channels]);
                   T* const row = out + i * n;
                   for (int64_t p = 0; p < n; ++p) row[p] = T(static_cast<Compute<T>>(row[p]) + v);
                 }
               });
}

// The tiles of an image as rows: (B, C, H, W) -> a view (B, OH, OW, C, kh, kw) of it.
Tensor tiles_of(const Tensor& x, const ConvShape& s) {
  const Pair k = s.windows.kernel, n = s.out;
  return x.slice(2, 0, n.h * k.h)
      .slice(3, 0, n.w * k.w)
      .view({s.batch, s.in_channels, n.h, k.h, n.w, k.w})
      .permute({0, 2, 4, 1, 3, 5});
}

template <class T>
void forward(Tensor& y, const Tensor& x, const Tensor& w, const Tensor& bias, const ConvShape& s) {
  using C = Compute<T>;
  const int64_t rows = s.in_group() * s.taps(), outs = s.out_group(), n = s.positions();
  if (s.tiles()) {
    const Tensor columns = s.taps() == 1
                               ? x.view({s.batch, rows, n})
                               : tiles_of(x, s).reshape({s.batch, n, rows}).transpose(1, 2);
    Tensor c = y.view({s.batch, s.out_channels, n});
    kernel::gemm(cpu(), c, w.view({1, outs, rows}).expand({s.batch, outs, rows}), columns, {});
    if (bias.defined()) add_bias<T>(y, bias, s);
    return;
  }
  const Tensor wide = w.to(dtype_of<C>).view({s.out_channels, rows});
  const T *const px = x.data<T>(), *const pb = bias.defined() ? bias.data<T>() : nullptr;
  T* const py = y.mutable_data<T>();
  const Blocks blocks(n, rows, sizeof(C));
  const double flops = 2.0 * static_cast<double>(rows * outs) * static_cast<double>(blocks.step);
  parallel_for(
      0, s.batch * s.groups * blocks.count, grain_for(flops), [&](int64_t first, int64_t last) {
        const Scratch column_memory(rows * blocks.step, dtype_of<C>),
            out_memory(outs * blocks.step, dtype_of<C>);
        for (int64_t i = first; i < last; ++i) {
          const int64_t at = i / blocks.count, g = at % s.groups;  // at: image and group
          const int64_t p0 = i % blocks.count * blocks.step, p1 = std::min(n, p0 + blocks.step);
          Tensor cols = column_memory.matrix(rows, p1 - p0), out = out_memory.matrix(outs, p1 - p0);
          gather_columns(cols.mutable_data<C>(), px + at * s.in_group() * s.image.h * s.image.w, s,
                         s.in_group(), p0, p1);
          kernel::gemm(cpu(), out, weight_block(wide, s, g, 0, rows), cols, {});
          const C* from = out.data<C>();
          for (int64_t o = 0; o < outs; ++o, from += p1 - p0) {
            const C b = pb == nullptr ? C(0) : static_cast<C>(pb[g * outs + o]);
            T* const to = py + (at * outs + o) * n + p0;
            for (int64_t p = 0; p < p1 - p0; ++p) to[p] = T(from[p] + b);
          }
        }
      });
}

// dcols = W^T dy, block by block; each task owns some channels of one image.
template <class T>
void grad_x(Tensor& dx, const Tensor& dy, const Tensor& w, const ConvShape& s) {
  using C = Compute<T>;
  const int64_t rows = s.in_group() * s.taps(), outs = s.out_group(), n = s.positions();
  if (s.tiles()) {
    const Tensor d = dy.view({s.batch, outs, n}), m = w.view({1, outs, rows});
    if (s.taps() == 1) {
      Tensor c = dx.view({s.batch, rows, n});
      kernel::gemm(cpu(), c, m.transpose(1, 2).expand({s.batch, rows, outs}), d, {});
      return;
    }
    Tensor c({s.batch, n, rows}, dx.dtype());
    kernel::gemm(cpu(), c, d.transpose(1, 2), m.expand({s.batch, outs, rows}), {});
    if (s.out.h * s.windows.kernel.h != s.image.h || s.out.w * s.windows.kernel.w != s.image.w)
      dx.fill_(0);  // pixels that no window covers
    Tensor tiles = tiles_of(dx, s);
    tiles.copy_(c.view(tiles.shape()));
    return;
  }
  const Tensor wide = w.to(dtype_of<C>).view({s.out_channels, rows}),
               upstream = dy.to(dtype_of<C>).view({s.batch * s.groups, outs, n});
  T* const out = dx.mutable_data<T>();
  const int64_t plane = s.image.h * s.image.w;
  const Pieces pieces(s);
  const Blocks blocks(n, pieces.step * s.taps(), sizeof(C));
  const double flops =
      2.0 * static_cast<double>(pieces.step * s.taps() * outs) * static_cast<double>(n);
  parallel_for(
      0, s.batch * s.groups * pieces.count, grain_for(flops), [&](int64_t first, int64_t last) {
        const Scratch memory(pieces.step * s.taps() * blocks.step, dtype_of<C>);
        std::vector<C> sum(static_cast<size_t>(pieces.step * plane));
        for (int64_t i = first; i < last; ++i) {
          const int64_t at = i / pieces.count, c0 = i % pieces.count * pieces.step;
          const int64_t channels = std::min(pieces.step, s.in_group() - c0);
          const Tensor m = weight_block(wide, s, at % s.groups, c0 * s.taps(), channels * s.taps())
                               .transpose(1, 2);
          std::fill(sum.begin(), sum.end(), C(0));
          for (int64_t p0 = 0; p0 < n; p0 += blocks.step) {
            const int64_t p1 = std::min(n, p0 + blocks.step);
            Tensor cols = memory.matrix(channels * s.taps(), p1 - p0);
            kernel::gemm(cpu(), cols, m, upstream.slice(0, at, at + 1).slice(2, p0, p1), {});
            scatter_columns(sum.data(), cols.data<C>(), s, channels, p0, p1);
          }
          T* const to = out + (at * s.in_group() + c0) * plane;
          for (int64_t p = 0; p < channels * plane; ++p) to[p] = T(sum[static_cast<size_t>(p)]);
        }
      });
}

// dW = sum over images and blocks of dy cols^T. A task owns the taps of some channels; where that
// gives few tasks, the sum is cut into segments that are added in order.
template <class T>
void grad_w(Tensor& dw, const Tensor& dy, const Tensor& x, const ConvShape& s) {
  using C = Compute<T>;
  const int64_t rows = s.in_group() * s.taps(), outs = s.out_group(), n = s.positions();
  const Tensor upstream = dy.to(dtype_of<C>).view({s.batch * s.groups, outs, n});
  const T* const px = x.data<T>();
  const int64_t plane = s.image.h * s.image.w;
  const Pieces pieces(s);
  const Blocks blocks(n, pieces.step * s.taps(), sizeof(C));
  const int64_t terms = s.batch * blocks.count, owners = s.groups * pieces.count;
  const int64_t length =
      ceil_div(terms, std::clamp<int64_t>(16 / owners, 1, std::max<int64_t>(terms, 1)));
  const int64_t segments = std::max<int64_t>(1, ceil_div(terms, std::max<int64_t>(length, 1)));
  Tensor parts = Tensor::zeros({segments, s.out_channels, rows}, dtype_of<C>);
  C* const sums = parts.mutable_data<C>();
  const double flops = 2.0 * static_cast<double>(pieces.step * s.taps() * outs) *
                       static_cast<double>(length * blocks.step);
  parallel_for(0, owners * segments, grain_for(flops), [&](int64_t first, int64_t last) {
    const Scratch column_memory(pieces.step * s.taps() * blocks.step, dtype_of<C>),
        product_memory(outs * pieces.step * s.taps(), dtype_of<C>);
    for (int64_t i = first; i < last; ++i) {
      const int64_t segment = i / owners, g = i % owners / pieces.count;
      const int64_t c0 = i % pieces.count * pieces.step;
      const int64_t channels = std::min(pieces.step, s.in_group() - c0), k = channels * s.taps();
      C* const sum = sums + (segment * s.out_channels + g * outs) * rows + c0 * s.taps();
      for (int64_t t = segment * length; t < std::min(terms, (segment + 1) * length); ++t) {
        const int64_t at = t / blocks.count * s.groups + g;  // image and group
        const int64_t p0 = t % blocks.count * blocks.step, p1 = std::min(n, p0 + blocks.step);
        Tensor cols = column_memory.matrix(k, p1 - p0), product = product_memory.matrix(outs, k);
        gather_columns(cols.mutable_data<C>(), px + (at * s.in_group() + c0) * plane, s, channels,
                       p0, p1);
        kernel::gemm(cpu(), product, upstream.slice(0, at, at + 1).slice(2, p0, p1),
                     cols.transpose(1, 2), {});
        const C* from = product.data<C>();
        for (int64_t o = 0; o < outs; ++o, from += k)
          for (int64_t j = 0; j < k; ++j) sum[o * rows + j] += from[j];
      }
    }
  });
  T* const out = dw.mutable_data<T>();
  const int64_t size = s.out_channels * rows;
  parallel_for(0, size, 4096, [&](int64_t first, int64_t last) {
    for (int64_t j = first; j < last; ++j) {
      C total = 0;
      for (int64_t k = 0; k < segments; ++k) total += sums[k * size + j];
      out[j] = T(total);
    }
  });
}

}  // namespace

void conv2d_cpu(Tensor& y, const Tensor& x, const Tensor& w, const Tensor& bias,
                const ConvShape& s) {
  if (s.in_group() == 1 && !s.tiles()) return conv2d_planes_cpu(y, x, w, bias, s);
  visit_float(x.dtype(), "conv2d", [&]<class T>() { forward<T>(y, x, w, bias, s); });
}
void conv2d_dx_cpu(Tensor& dx, const Tensor& dy, const Tensor& w, const ConvShape& s) {
  if (s.in_group() == 1 && !s.tiles()) return conv2d_planes_dx_cpu(dx, dy, w, s);
  visit_float(dy.dtype(), "conv2d", [&]<class T>() { grad_x<T>(dx, dy, w, s); });
}
void conv2d_dw_cpu(Tensor& dw, const Tensor& dy, const Tensor& x, const ConvShape& s) {
  if (s.in_group() == 1 && !s.tiles()) return conv2d_planes_dw_cpu(dw, dy, x, s);
  visit_float(dy.dtype(), "conv2d", [&]<class T>() { grad_w<T>(dw, dy, x, s); });
}

}  // namespace tenun
