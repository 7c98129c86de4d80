// Running sums and products along an axis of [A, R, C]. One thread walks one column where there are
// many; a block walks a row where there is one (C = 1), 256 elements at a time.
#include "tenun/cuda/register.h"
#include "tenun/cuda/scratch.h"
#include "tenun/cuda/team.h"
#include "tenun/ops/reduce.h"

namespace tenun::TENUN_BACKEND {
namespace {

// Running sums are kept in double (int64 for whole numbers): rounding errors must not pile up.
template <class T>
using RunningSum = std::conditional_t<is_floating(dtype_of<T>), double, int64_t>;
template <class T>
using Wide = std::conditional_t<is_floating(dtype_of<T>), Compute<T>, int64_t>;

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    cumsum_columns(T* y, const T* x, int64_t outer, int64_t rows, int64_t cols, bool backward) {
  for_each_item(outer * cols, [&](int64_t i) {
    const int64_t first = i / cols * rows * cols + i % cols;
    RunningSum<T> total = 0;
    for (int64_t k = 0; k < rows; ++k) {
      const int64_t at = first + (backward ? rows - 1 - k : k) * cols;
      total += static_cast<RunningSum<T>>(static_cast<Wide<T>>(x[at]));
      y[at] = T(static_cast<Wide<T>>(total));
    }
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    cumsum_rows(T* y, const T* x, int64_t outer, int64_t n, bool backward) {
  using S = RunningSum<T>;
  TENUN_SHARED(S, warps, kBlockWarps);
  const int rank = static_cast<int>(threadIdx.x), lane = rank % 32, warp = rank / 32;
  for (int64_t row = blockIdx.x; row < outer; row += gridDim.x) {
    S before = 0;
    for (int64_t start = 0; start < n; start += kThreads) {
      const int64_t k = start + rank, at = row * n + (backward ? n - 1 - k : k);
      S v = k < n ? static_cast<S>(static_cast<Wide<T>>(x[at])) : S(0);
      for (unsigned by = 1; by < 32; by *= 2) {
        const S left = __shfl_up_sync(kFullWarp, v, by);
        if (lane >= static_cast<int>(by)) v += left;
      }
      __syncthreads();  // the sums of the piece before have been read
      if (lane == 31) warps[warp] = v;
      __syncthreads();
      for (int w = 0; w < kBlockWarps; ++w) {
        if (w < warp) v += warps[w];
      }
      if (k < n) y[at] = T(static_cast<Wide<T>>(before + v));
      for (int w = 0; w < kBlockWarps; ++w) before += warps[w];
    }
  }
}

void cumsum(Tensor& y, const Tensor& x, Direction direction) {
  const int64_t outer = x.dim(0), rows = x.dim(1), cols = x.dim(2);
  if (x.numel() == 0) return;
  const bool backward = direction == Direction::backward;
  visit<DType::f32, DType::f64, DType::bf16, DType::f16, DType::i8, DType::u8, DType::i32,
        DType::i64>(x.dtype(), "cumsum", [&]<class T>() {
    T* const out = y.mutable_data<T>();
    const T* const in = x.data<T>();
    if (cols == 1)
      launch(cumsum_rows<T>, grid_for(outer, 1), kThreads, 0, out, in, outer, rows, backward);
    else
      launch(cumsum_columns<T>, grid_for(outer * cols), kThreads, 0, out, in, outer, rows, cols,
             backward);
  });
}

// dx_i = dy times the product of all others: (those before) x (those after), right at zeros too.
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    prod_gradients(T* dx, double* before, const T* dy, const T* x, int64_t outer, int64_t rows,
                   int64_t cols) {
  using C = Compute<T>;
  for_each_item(outer * cols, [&](int64_t i) {
    const int64_t first = i / cols * rows * cols + i % cols;
    double total = static_cast<double>(static_cast<C>(dy[i]));
    for (int64_t r = 0; r < rows; ++r) {
      before[first + r * cols] = total;
      total *= static_cast<double>(static_cast<C>(x[first + r * cols]));
    }
    total = 1;
    for (int64_t r = rows - 1; r >= 0; --r) {
      const int64_t at = first + r * cols;
      dx[at] = T(static_cast<C>(before[at] * total));
      total *= static_cast<double>(static_cast<C>(x[at]));
    }
  });
}
void prod_backward(Tensor& dx, const Tensor& dy, const Tensor& x) {
  const Scratch<double> before(x.numel());
  if (x.numel() == 0) return;
  visit_float(x.dtype(), "prod", [&]<class T>() {
    launch(prod_gradients<T>, grid_for(x.dim(0) * x.dim(2)), kThreads, 0, dx.mutable_data<T>(),
           before.get(), dy.data<T>(), x.data<T>(), x.dim(0), x.dim(1), x.dim(2));
  });
}

}  // namespace

void register_scans() {
  kernel::cumsum.set(kDevice, cumsum);
  kernel::prod_backward.set(kDevice, prod_backward);
}

}  // namespace tenun::TENUN_BACKEND
