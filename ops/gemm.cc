#include "tenun/ops/gemm.h"

#include <algorithm>

#include "tenun/core/check.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/simd/gemm_kernels.h"
#include "tenun/ops/simd/isa.h"

namespace tenun {
namespace {

using simd::GemmKernel;
using simd::GemmSource;

constexpr int64_t kPackedBytes = 16 << 20;  // of one operand at a time

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One operand, seen as lanes (rows of A, columns of B) by k.
struct Operand {
  const char* p;
  int64_t lanes, k, lane_stride, k_stride;  // in elements
  int64_t width;                            // lanes of a panel
  void (*pack)(const GemmSource&, void*, int64_t);
  int64_t element_bytes, group, group_bytes, panel_bytes;

  Operand(const Tensor& x, int64_t batch, int lane_axis, const GemmKernel& kernel)
      : p(reinterpret_cast<const char*>(x.raw()) +
          batch * x.strides()[0] * static_cast<int64_t>(size_of(x.dtype()))),
        lanes(x.dim(lane_axis)),
        k(x.dim(3 - lane_axis)),
        lane_stride(x.strides()[lane_axis]),
        k_stride(x.strides()[3 - lane_axis]),
        width(lane_axis == 1 ? kernel.rows : kernel.lanes),
        pack(lane_axis == 1 ? kernel.pack_a : kernel.pack_b),
        element_bytes(static_cast<int64_t>(size_of(x.dtype()))),
        group(kernel.group),
        group_bytes(kernel.group_bytes),
        panel_bytes(ceil_div(k, kernel.group) * kernel.group_bytes * width) {}

  [[nodiscard]] int64_t panels() const { return ceil_div(lanes, width); }
  // How many panels are packed at a time.
  [[nodiscard]] int64_t most_panels() const {
    return std::clamp<int64_t>(kPackedBytes / std::max<int64_t>(panel_bytes, 1), 1, panels());
  }
  void pack_panels(int64_t panel, int64_t count, char* to) const {
    pack_part(panel * width, count * width, 0, k, to);
  }
  // Packing as tasks for threads: by stretches of k where the lanes lie side by side in memory, so
  // that a task reads whole rows; else by panels.
  [[nodiscard]] int64_t tasks(int64_t count) const {
    return rowwise() ? ceil_div(count > 0 ? k : 0, kTaskRows) : ceil_div(count, panels_of_task());
  }
  void run_task(int64_t task, int64_t panel, int64_t count, char* to) const {
    if (rowwise()) {
      const int64_t first = task * kTaskRows;
      return pack_part(panel * width, count * width, first, std::min(kTaskRows, k - first),
                       to + first * group_bytes * width / group);
    }
    const int64_t first = task * panels_of_task();
    pack_panels(panel + first, std::min(panels_of_task(), count - first), to + first * panel_bytes);
  }

 private:
  static constexpr int64_t kTaskRows = 64;
  [[nodiscard]] bool rowwise() const { return lane_stride == 1 && k_stride != 1; }
  [[nodiscard]] int64_t panels_of_task() const { return std::max<int64_t>(1, 64 / width); }
  void pack_part(int64_t lane, int64_t count, int64_t first, int64_t rows, char* to) const {
    pack({p + (lane * lane_stride + first * k_stride) * element_bytes,
          std::min(count, lanes - lane), rows, lane_stride, k_stride},
         to, panel_bytes);
  }
};

Tensor scratch(int64_t bytes) { return Tensor({std::max<int64_t>(bytes, 1)}, DType::u8); }
char* bytes_of(Tensor& t) { return reinterpret_cast<char*>(t.raw()); }

// What the epilogue takes, for the first row and column.
struct Side {
  const char* bias = nullptr;
  const int32_t* a_sum = nullptr;
  const float *a_scale = nullptr, *b_scale = nullptr;
};

// One product: operands and where C lies.
struct Product {
  const GemmKernel& kernel;
  Operand a, b;
  char* c;
  int64_t c_bytes;  // of an element
  Side side;

  // Panels [i, i + rows) x [j, j + columns) of C from packed panels.
  void block(const char* pa, const char* pb, int64_t i, int64_t rows, int64_t j,
             int64_t columns) const {
    const int64_t row = i * a.width, column = j * b.width;
    simd::GemmBlock g{};
    g.a = pa, g.b = pb;
    g.a_panel = a.panel_bytes, g.b_panel = b.panel_bytes;
    g.m = std::min(rows * a.width, a.lanes - row);
    g.n = std::min(columns * b.width, b.lanes - column);
    g.k = a.k;
    g.ldc = b.lanes;
    g.c = c + (row * g.ldc + column) * c_bytes;
    if (side.bias != nullptr) g.bias = side.bias + column * c_bytes;
    if (side.a_sum != nullptr)
      g.a_sum = side.a_sum + row, g.a_scale = side.a_scale + row, g.b_scale = side.b_scale + column;
    kernel.block(g);
  }
  [[nodiscard]] int64_t block_rows() const { return simd::kGemmRows / a.width; }
  [[nodiscard]] double flops() const {
    return 2.0 * static_cast<double>(a.lanes) * static_cast<double>(b.lanes) *
           static_cast<double>(a.k);
  }

  // On the calling thread.
  void run_alone() const {
    const int64_t step = b.most_panels();
    Tensor packed_a = scratch(std::min(block_rows(), a.panels()) * a.panel_bytes);
    Tensor packed_b = scratch(step * b.panel_bytes);
    char *const pa = bytes_of(packed_a), *const pb = bytes_of(packed_b);
    for (int64_t j = 0; j < b.panels(); j += step) {
      const int64_t columns = std::min(step, b.panels() - j);
      b.pack_panels(j, columns, pb);
      for (int64_t i = 0; i < a.panels(); i += block_rows()) {
        const int64_t rows = std::min(block_rows(), a.panels() - i);
        a.pack_panels(i, rows, pa);
        block(pa, pb, i, rows, j, columns);
      }
    }
  }

  // All threads together: pack, then blocks.
  void run_together() const {
    if (a.panels() <= block_rows()) return run_columns();
    const int64_t step_a = a.most_panels(), step_b = b.most_panels();
    Tensor packed_a = scratch(step_a * a.panel_bytes), packed_b = scratch(step_b * b.panel_bytes);
    char *const pa = bytes_of(packed_a), *const pb = bytes_of(packed_b);
    for (int64_t j = 0; j < b.panels(); j += step_b)
      for (int64_t i = 0; i < a.panels(); i += step_a) {
        const int64_t columns = std::min(step_b, b.panels() - j);
        const int64_t rows = std::min(step_a, a.panels() - i);
        const bool again = step_a == a.panels() && j > 0;  // A is packed already
        const int64_t packs_a = again ? 0 : rows, packs_b = i == 0 ? columns : 0;
        const int64_t tasks_b = b.tasks(packs_b);
        parallel_tasks(tasks_b + a.tasks(packs_a), [&](int64_t t) {
          if (t < tasks_b)
            b.run_task(t, j, packs_b, pb);
          else
            a.run_task(t - tasks_b, i, packs_a, pa);
        });
        run_blocks(pa, pb, i, rows, j, columns);
      }
  }

  // Few rows: a panel of B is used once, by the thread that packs it, out of its cache.
  void run_columns() const {
    Tensor packed = scratch(a.panels() * a.panel_bytes);
    char* const pa = bytes_of(packed);
    a.pack_panels(0, a.panels(), pa);
    parallel_tasks(b.panels(), [&](int64_t j) {
      Tensor panel = scratch(b.panel_bytes);
      b.pack_panels(j, 1, bytes_of(panel));
      block(pa, bytes_of(panel), 0, a.panels(), j, 1);
    });
  }

  // Blocks of kGemmRows rows, and as many columns that each thread gets about twelve of them.
  void run_blocks(const char* pa, const char* pb, int64_t i, int64_t rows, int64_t j,
                  int64_t columns) const {
    const int64_t high = block_rows(), row_blocks = ceil_div(rows, high);
    const int64_t wanted = ceil_div(12L * num_threads(), row_blocks);
    const int64_t wide = std::max<int64_t>(1, columns / wanted);
    parallel_tasks(row_blocks * ceil_div(columns, wide), [&](int64_t t) {
      const int64_t r = t % row_blocks * high, q = t / row_blocks * wide;
      block(pa + r * a.panel_bytes, pb + q * b.panel_bytes, i + r, std::min(high, rows - r), j + q,
            std::min(wide, columns - q));
    });
  }
};

// `product(batch)` makes the product of one matrix of the batch.
template <class F>
void run_batch(int64_t batch, const F& product) {
  const double flops = product(0).flops();
  constexpr double kTask = 1e6;  // worth waking a thread
  if (flops * static_cast<double>(batch) < kTask) {
    for (int64_t i = 0; i < batch; ++i) product(i).run_alone();
  } else if (batch >= 4L * num_threads() || flops < 4 * kTask) {
    const auto grain = static_cast<int64_t>(kTask / std::max(flops, 1.0)) + 1;
    parallel_for(0, batch, grain, [&](int64_t s, int64_t e) {
      for (int64_t i = s; i < e; ++i) product(i).run_alone();
    });
  } else {
    for (int64_t i = 0; i < batch; ++i) product(i).run_together();
  }
}

const GemmKernel& kernel_for(DType dtype) {
  const simd::GemmKernels& all = simd::gemm_kernels();
  switch (dtype) {
    case DType::f32: return all.f32;
    case DType::f64: return all.f64;
    case DType::bf16: return all.bf16;
    case DType::f16: return all.f16;
    default:
      throw DTypeError(
          fmt::format("matmul: does not take {}; it takes f32, f64, bf16, f16", name(dtype)));
  }
}

}  // namespace

void gemm_cpu(Tensor& c, const Tensor& a, const Tensor& b, const Tensor& bias) {
  check<DTypeError>(a.dtype() == b.dtype() && (!bias.defined() || bias.dtype() == a.dtype()),
                    "matmul", "operands of different types: {} x {}", a, b);
  const GemmKernel& kernel = kernel_for(a.dtype());
  if (c.numel() == 0) return;
  const auto size = static_cast<int64_t>(size_of(c.dtype()));
  char* const out = reinterpret_cast<char*>(c.raw());
  const Tensor side = bias.defined() ? bias.contiguous() : bias;
  run_batch(c.dim(0), [&](int64_t i) {
    Product p{kernel,
              Operand(a, i, 1, kernel),
              Operand(b, i, 2, kernel),
              out + i * c.dim(1) * c.dim(2) * size,
              size,
              {}};
    if (side.defined()) p.side.bias = reinterpret_cast<const char*>(side.raw());
    return p;
  });
}

void gemm_int8_cpu(Tensor& c, const Tensor& a, const Tensor& b, const Tensor& a_scale,
                   const Tensor& b_scale) {
  if (c.numel() == 0) return;
  const int64_t batch = c.dim(0), m = c.dim(1), n = c.dim(2), k = a.dim(2);
  // 128 is added to B while it is packed; these sums take it out again.
  Tensor sums({batch, m}, DType::i32);
  int32_t* const sum = sums.mutable_data<int32_t>();
  const int8_t* const pa = a.data<int8_t>();
  parallel_for(0, batch * m, std::max<int64_t>(1, (1 << 16) / (k + 1)), [&](int64_t s, int64_t e) {
    for (int64_t i = s; i < e; ++i) {
      const int8_t* const row = pa + i / m * a.strides()[0] + i % m * a.strides()[1];
      const int64_t stride = a.strides()[2];
      int32_t t = 0;
      if (stride == 1)
        for (int64_t q = 0; q < k; ++q) t += row[q];
      else
        for (int64_t q = 0; q < k; ++q) t += row[q * stride];
      sum[i] = t;
    }
  });
  const GemmKernel& kernel = simd::gemm_kernels().s8;
  float* const out = c.mutable_data<float>();
  run_batch(batch, [&](int64_t i) {
    Product p{kernel,
              Operand(a, i, 1, kernel),
              Operand(b, i, 2, kernel),
              reinterpret_cast<char*>(out + i * m * n),
              sizeof(float),
              {}};
    p.side.a_sum = sum + i * m;
    p.side.a_scale = a_scale.data<float>() + i * m;
    p.side.b_scale = b_scale.data<float>() + i * n;
    return p;
  });
}

}  // namespace tenun
