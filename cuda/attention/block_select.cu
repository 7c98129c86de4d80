// Selectors and block lists. A warp works on one row of scores; what the CPU sums in order (the
// prefix sums of the selectors by mass) one lane sums in the same order, so that the choice is the
// same to the bit.
#include "tenun/cuda/attention/launch.h"
#include "tenun/cuda/attention/plain_tile.h"

namespace tenun::TENUN_BACKEND::attention {
namespace {

constexpr int kWarps = kThreads / 32;

template <class T>
__device__ __forceinline__ T lane_sum(T v) {
  TENUN_UNROLL
  for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
  return v;
}
__device__ __forceinline__ int64_t warp_row() {
  return int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
}
__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x) % 32; }

/// The first column of a row that is free.
__device__ __forceinline__ int64_t first_free(const ScoreRows& s, int64_t row) {
  if (row % s.height < s.forced_rows) return s.columns;
  return s.forced_columns < s.columns ? s.forced_columns : s.columns;
}

/// Whole numbers in the order of the scores; NaN is below all, like -inf.
template <class C>
struct Rank;
template <>
struct Rank<float> {
  using Bits = uint32_t;
  static __device__ __forceinline__ Bits of(float v) {
    if (!(v == v)) v = -INFINITY;
    if (v == 0) v = 0;  // -0 equals 0
    const Bits u = std::bit_cast<Bits>(v);
    return u >> 31 != 0 ? ~u : u | 0x80000000u;
  }
};
template <>
struct Rank<double> {
  using Bits = uint64_t;
  static __device__ __forceinline__ Bits of(double v) {
    if (!(v == v)) v = -INFINITY;
    if (v == 0) v = 0;
    const Bits u = std::bit_cast<Bits>(v);
    return u >> 63 != 0 ? ~u : u | 0x8000000000000000u;
  }
};

// The k-th largest score bit by bit, then all above it and the first ones that equal it.
template <class C>
__global__ void __launch_bounds__(kThreads, 1) top_kernel(const TopBlocks a) {
  using Bits = typename Rank<C>::Bits;
  const int64_t row = warp_row();
  if (row >= a.in.rows) return;
  const int lane = lane_id();
  const int64_t first = first_free(a.in, row), columns = a.in.columns;
  const C* const x = static_cast<const C*>(a.in.scores) + row * columns;
  uint8_t* const mask = a.mask + row * columns;
  for (int64_t j = lane; j < first; j += 32) mask[j] = 1;
  const int64_t take = a.k < columns - first ? a.k : columns - first;
  Bits least = 0;
  for (int bit = static_cast<int>(8 * sizeof(Bits)) - 1; bit >= 0; --bit) {
    const Bits candidate = least | Bits{1} << bit;
    int n = 0;
    for (int64_t j = first + lane; j < columns; j += 32)
      n += Rank<C>::of(x[j]) >= candidate ? 1 : 0;
    if (lane_sum(n) >= take) least = candidate;
  }
  int above = 0;
  for (int64_t j = first + lane; j < columns; j += 32) above += Rank<C>::of(x[j]) > least ? 1 : 0;
  int64_t equal = take - lane_sum(above);
  for (int64_t j0 = first; j0 < columns; j0 += 32) {
    const int64_t j = j0 + lane;
    const Bits v = j < columns ? Rank<C>::of(x[j]) : Bits{0};
    const unsigned ties = __ballot_sync(0xffffffffu, j < columns && v == least);
    const int before = __popc(ties & ((1u << lane) - 1u));
    if (j < columns) mask[j] = take > 0 && (v > least || (v == least && before < equal)) ? 1 : 0;
    equal -= __popc(ties);
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) mass_kernel(const MassBlocks a) {
  const int64_t row = warp_row();
  if (row >= a.in.rows) return;
  const int lane = lane_id();
  const int64_t first = first_free(a.in, row), columns = a.in.columns;
  const C* const x = static_cast<const C*>(a.in.scores) + row * columns;
  uint8_t* const mask = a.mask + row * columns;
  int32_t* const order = a.order + row * columns;
  double* const share = a.share + row * columns;
  for (int64_t j = lane; j < columns; j += 32) mask[j] = j < first ? 1 : 0;
  for (int64_t i = first + lane; i < columns; i += 32) {
    const auto v = Rank<C>::of(x[i]);
    int64_t place = 0;
    for (int64_t j = first; j < columns; ++j) {
      const auto w = Rank<C>::of(x[j]);
      place += w > v || (w == v && j < i) ? 1 : 0;
    }
    order[place] = static_cast<int32_t>(i);
  }
  __syncwarp();
  const int64_t count = columns - first;
  const auto score = [&](int64_t i) {
    const C v = x[order[i]];
    return v == v ? v : static_cast<C>(-INFINITY);
  };
  for (int64_t i = lane; i < count; i += 32)  // where all scores are -inf, all are equal
    share[i] = score(i) == score(0) ? 1.0 : exp(static_cast<double>(score(i) - score(0)));
  __syncwarp();
  if (lane != 0 || count == 0) return;
  double total = 0, sum = 0;
  for (int64_t i = 0; i < count; ++i) total += share[i];
  int64_t take = 0;
  while (take < count) {
    if (!a.cdf && !(sum < a.p)) break;
    sum += share[take] / total;
    if (a.cdf && !(sum <= a.p)) break;
    ++take;
  }
  if (a.cdf && take == 0) take = 1;
  for (int64_t i = 0; i < take; ++i) mask[order[i]] = 1;
}

// m = sigmoid(x / tau + lambda): lambda by Newton steps inside a bracket that is halved where they
// leave it, in double.
template <class C>
__global__ void __launch_bounds__(kThreads, 1) soft_top_kernel(const SoftTop a) {
  const int64_t row = warp_row();
  if (row >= a.in.rows) return;
  const int lane = lane_id();
  const int64_t first = first_free(a.in, row), columns = a.in.columns, count = columns - first;
  const C* const x = static_cast<const C*>(a.in.scores) + row * columns;
  C* const m = static_cast<C*>(a.m) + row * columns;
  const bool all = a.target >= static_cast<double>(count);
  for (int64_t j = lane; j < (all ? columns : first); j += 32) m[j] = C(1);
  if (all) return;
  const auto value = [&](int64_t j) { return static_cast<double>(x[j]) / a.tau; };
  double low = INFINITY, high = -INFINITY;
  for (int64_t j = first + lane; j < columns; j += 32) {
    const double v = value(j);
    low = v < low ? v : low, high = v > high ? v : high;
  }
  TENUN_UNROLL
  for (int o = 16; o > 0; o >>= 1) {
    const double l = __shfl_xor_sync(0xffffffffu, low, o),
                 h = __shfl_xor_sync(0xffffffffu, high, o);
    low = l < low ? l : low, high = h > high ? h : high;
  }
  const double share = a.target / static_cast<double>(count);
  const double c = fabs(log(share / (1 - share))) + 1;
  double lo = -high - c, hi = -low + c, at = (lo + hi) / 2;
  for (int step = 0; step < 200; ++step) {
    double sum = 0, slope = 0;
    for (int64_t j = first + lane; j < columns; j += 32) {
      const double p = 1 / (1 + exp(-(value(j) + at)));
      sum += p, slope += p * (1 - p);
    }
    sum = lane_sum(sum), slope = lane_sum(slope);
    (sum < a.target ? lo : hi) = at;
    double next = slope > 0 ? at - (sum - a.target) / slope : lo;
    if (!(next > lo && next < hi)) next = (lo + hi) / 2;
    const double moved = fabs(next - at);
    at = next;
    if (moved <= 1e-15 * (1 + fabs(at))) break;
  }
  for (int64_t j = first + lane; j < columns; j += 32)
    m[j] = static_cast<C>(1 / (1 + exp(-(value(j) + at))));
}

template <class C>
__global__ void __launch_bounds__(kThreads, 1) soft_top_gradient_kernel(const SoftTopGradient a) {
  const int64_t row = warp_row();
  if (row >= a.rows) return;
  const int64_t at = row * a.columns;
  const C *const m = static_cast<const C*>(a.m) + at, *const dm = static_cast<const C*>(a.dm) + at;
  const auto slope = [&](int64_t j) {
    return static_cast<double>(m[j]) * (1 - static_cast<double>(m[j]));
  };
  double weight = 0, sum = 0;
  for (int64_t j = lane_id(); j < a.columns; j += 32)
    weight += slope(j), sum += slope(j) * static_cast<double>(dm[j]);
  weight = lane_sum(weight), sum = lane_sum(sum);
  const double mean = weight > 0 ? sum / weight : 0;
  for (int64_t j = lane_id(); j < a.columns; j += 32)
    static_cast<C*>(a.dx)[at + j] =
        static_cast<C>(slope(j) / a.tau * (static_cast<double>(dm[j]) - mean));
}

// The lengths of lists, each at the place behind its start: a warp for each list.
template <bool kColumns>
__global__ void __launch_bounds__(kThreads, 1) list_kernel(const MaskLists a, int fill) {
  const int64_t list = warp_row(), per_head = kColumns ? a.tn : a.tm;
  if (list >= a.heads * per_head) return;
  const int lane = lane_id();
  const int64_t head = list / per_head, i = list % per_head, n = kColumns ? a.tm : a.tn;
  const uint8_t* const mask = a.mask + head * a.tm * a.tn + (kColumns ? i : i * a.tn);
  int64_t* const start = kColumns ? a.column_start : a.row_start;
  int32_t* const index = (kColumns ? a.column_index : a.row_index);
  int64_t at = fill != 0 ? start[list] : 0;
  for (int64_t j0 = 0; j0 < n; j0 += 32) {
    const int64_t j = j0 + lane;
    const bool on = j < n && mask[kColumns ? j * a.tn : j] != 0;
    const unsigned all = __ballot_sync(0xffffffffu, on);
    if (on && fill != 0) index[at + __popc(all & ((1u << lane) - 1u))] = static_cast<int32_t>(j);
    at += __popc(all);
  }
  if (fill == 0 && lane == 0) start[list + 1] = at;
}

// Running sums of start[1..n], start[0] = 0: one block of threads, 256 at a time.
__global__ void __launch_bounds__(kThreads, 1) scan_kernel(int64_t* start, int64_t n) {
  TENUN_DYNAMIC_SHARED(int64_t, sums);
  const int t = static_cast<int>(threadIdx.x), lane = t % 32, warp = t / 32;
  int64_t before = 0;
  if (t == 0) start[0] = 0;
  for (int64_t i0 = 1; i0 <= n; i0 += kThreads) {
    int64_t v = i0 + t <= n ? start[i0 + t] : 0;
    TENUN_UNROLL
    for (int o = 1; o < 32; o <<= 1) {
      const int64_t left = __shfl_sync(0xffffffffu, v, lane >= o ? lane - o : lane);
      if (lane >= o) v += left;
    }
    if (lane == 31) sums[warp] = v;
    __syncthreads();
    int64_t all = 0;
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp) v += sums[w];
      all += sums[w];
    }
    if (i0 + t <= n) start[i0 + t] = before + v;
    before += all;
    __syncthreads();  // the sums are written again
  }
}

void scan(int64_t* start, int64_t n) {
  launch(scan_kernel, dim3(1), dim3(kThreads), kWarps * sizeof(int64_t), start, n);
}
dim3 for_rows(int64_t rows) { return dim3(static_cast<unsigned>((rows + kWarps - 1) / kWarps)); }

template <class A>
void by_rows(void (*f)(A), void (*d)(A), DType compute, int64_t rows, const A& args) {
  if (rows > 0) launch(compute == DType::f64 ? d : f, for_rows(rows), dim3(kThreads), 0, args);
}

}  // namespace

void top_blocks(const TopBlocks& a, DType type) {
  by_rows(top_kernel<float>, top_kernel<double>, type, a.in.rows, a);
}
void mass_blocks(const MassBlocks& a, DType type) {
  by_rows(mass_kernel<float>, mass_kernel<double>, type, a.in.rows, a);
}
void soft_top(const SoftTop& a, DType type) {
  by_rows(soft_top_kernel<float>, soft_top_kernel<double>, type, a.in.rows, a);
}
void soft_top_gradient(const SoftTopGradient& a, DType type) {
  by_rows(soft_top_gradient_kernel<float>, soft_top_gradient_kernel<double>, type, a.rows, a);
}
void list_starts(const MaskLists& a) {
  const int64_t rows = a.heads * a.tm, columns = a.heads * a.tn;
  if (rows > 0) launch(list_kernel<false>, for_rows(rows), dim3(kThreads), 0, a, 0);
  scan(a.row_start, rows);
  if (columns > 0) launch(list_kernel<true>, for_rows(columns), dim3(kThreads), 0, a, 0);
  scan(a.column_start, columns);
}
void list_indices(const MaskLists& a) {
  const int64_t rows = a.heads * a.tm, columns = a.heads * a.tn;
  if (rows == 0 || columns == 0) return;
  launch(list_kernel<false>, for_rows(rows), dim3(kThreads), 0, a, 1);
  launch(list_kernel<true>, for_rows(columns), dim3(kThreads), 0, a, 1);
}

}  // namespace tenun::TENUN_BACKEND::attention
