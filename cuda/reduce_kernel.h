// The skeleton of all reductions of x [A, R, C] over its middle axis. A reduction says what it
// accumulates and how:
//
//   struct R {
//     using Value = ...;                                      // trivial, of whole words
//     __device__ Value identity() const;
//     __device__ Value take(int64_t at, int64_t r, int64_t out) const;   // element x[at]
//     __device__ Value combine(Value a, Value b) const;       // in any order
//     __device__ void finish(Value v, int64_t out) const;     // writes y[out]
//   };
//
// Rows (C = 1) are read by teams, columns by one thread each; both are cut into chunks whose bounds
// depend on the sizes alone. The results of the chunks are rows again, for the same kernel: a fixed
// tree, the same bits in every run.
#pragma once
#include "tenun/cuda/scratch.h"
#include "tenun/cuda/team.h"

namespace tenun::TENUN_BACKEND {

/// Where the results of chunks go, those of an output side by side; null: there is one chunk, which
/// finishes its output.
template <class R>
struct Chunks {
  typename R::Value* parts = nullptr;
  int64_t count = 1, length = 0;

  __device__ void finish(const R& reduction, typename R::Value v, int64_t out) const {
    if (parts == nullptr)
      reduction.finish(v, out);
    else
      parts[out * count + blockIdx.y] = v;
  }
};

/// Combines the results of chunks.
template <class R>
struct OfChunks : R {
  const typename R::Value* parts;
  OfChunks(const R& reduction, const typename R::Value* results) : R(reduction), parts(results) {}
  __device__ typename R::Value take(int64_t at, int64_t, int64_t) const { return parts[at]; }
};

// The chunk is blockIdx.y and the outer index of columns blockIdx.z: no division by sizes, which in
// 64 bits is a subroutine.
template <class R, int kWarps>
__global__ void __launch_bounds__(kThreads, 1)
    reduce_rows(const R reduction, int64_t outer, int64_t rows, const Chunks<R> chunks) {
  const Team<kWarps> team;
  const auto combine = [&](auto a, auto b) { return reduction.combine(a, b); };
  const int64_t first = blockIdx.y * chunks.length;
  const int64_t n = rows - first < chunks.length ? rows - first : chunks.length;
  team.each_row(outer, [&](int64_t out) {
    auto v = reduction.identity();
    team.each(n, [&](int64_t r) {
      v = reduction.combine(v, reduction.take(out * rows + first + r, first + r, out));
    });
    v = team.reduce(v, combine);
    if (team.first()) chunks.finish(reduction, v, out);
  });
}

template <class R>
__global__ void __launch_bounds__(kThreads, 1)
    reduce_columns(const R reduction, int64_t outer, int64_t rows, int64_t cols,
                   const Chunks<R> chunks) {
  const int64_t first = blockIdx.y * chunks.length;
  const int64_t last = rows < first + chunks.length ? rows : first + chunks.length;
  for (int64_t a = blockIdx.z; a < outer; a += gridDim.z)
    for_each_item(cols, [&](int64_t c) {
      const int64_t out = a * cols + c;
      auto v = reduction.identity();
      for (int64_t r = first; r < last; ++r)
        v = reduction.combine(v, reduction.take((a * rows + r) * cols + c, r, out));
      chunks.finish(reduction, v, out);
    });
}

template <class R>
void launch_reduce_rows(const R& reduction, int64_t outer, int64_t rows, const Chunks<R>& chunks) {
  rows_launch(outer, std::min(rows, chunks.length), [&]<int kWarps>(dim3 grid) {
    launch(reduce_rows<R, kWarps>, grid_deep(grid, chunks.count), kThreads, 0, reduction, outer,
           rows, chunks);
  });
}

template <class R>
void reduce_middle(const R& reduction, int64_t outer, int64_t rows, int64_t cols) {
  if (outer * cols == 0) return;
  const int64_t shortest = cols == 1 ? 4096 : 64, most = 1024;
  Chunks<R> chunks;
  chunks.length = std::max({shortest, (rows + most - 1) / most, int64_t{1}});
  chunks.count = std::max<int64_t>(1, (rows + chunks.length - 1) / chunks.length);
  const Scratch<typename R::Value> parts(chunks.count == 1 ? 0 : outer * chunks.count * cols);
  if (chunks.count > 1) chunks.parts = parts.get();
  if (cols == 1)
    launch_reduce_rows(reduction, outer, rows, chunks);
  else
    launch(reduce_columns<R>, grid_deep(grid_for(cols), chunks.count, outer), kThreads, 0,
           reduction, outer, rows, cols, chunks);
  if (chunks.count > 1) {
    using All = OfChunks<R>;
    launch_reduce_rows(All(reduction, parts.get()), outer * cols, chunks.count,
                       Chunks<All>{.length = chunks.count});
  }
}

}  // namespace tenun::TENUN_BACKEND
