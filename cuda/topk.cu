// Top-k and sorting (ops/index.h) of rows of any length. Entries (key and index, ops/order.h) are
// all different, so every step has one right result:
//   1. a block sorts a tile of a row in shared memory (bitonic network);
//   2. passes merge pairs of runs: an entry's place is its place in its own run plus the number of
//      smaller entries in the other one, found by bisection. Entries past the k-th are left behind;
//   3. the first k entries of the row give indices and values.
#include <algorithm>
#include <bit>

#include "tenun/cuda/elements.h"
#include "tenun/cuda/register.h"
#include "tenun/cuda/scratch.h"
#include "tenun/ops/index.h"
#include "tenun/ops/order.h"

namespace tenun::TENUN_BACKEND {
namespace {

constexpr int kTile = 1024;

__device__ inline void set_last(uint64_t& e) { e = ~uint64_t{0}; }
__device__ inline void set_last(WideEntry& e) { e = {~uint64_t{0}, ~uint64_t{0}}; }
__device__ inline uint64_t by_index(uint64_t e) { return e & 0xffffffffu; }
__device__ inline WideEntry by_index(WideEntry e) { return {0, e.index}; }

/// Where the entries of a row come from: values, or entries that shall be ordered by their index.
template <class T>
struct ValuesOf {
  const T* x;
  int64_t n;
  bool largest;
  __device__ OrderEntry<T> operator()(int64_t row, int64_t i) const {
    return order_entry(x[row * n + i], i, largest);
  }
};
template <class Entry>
struct IndicesOf {
  const Entry* entries;
  int64_t stride;
  __device__ Entry operator()(int64_t row, int64_t i) const {
    return by_index(entries[row * stride + i]);
  }
};

/// Tile t of a row takes elements t size ... of it; `size` is a power of two, at most kTile. What
/// lies beyond the row sorts last.
template <class Entry, class Source>
__global__ void __launch_bounds__(kThreads, 1)
    sort_tiles(Entry* out, const Source source, int64_t rows, int64_t n, int64_t tiles, int size) {
  TENUN_SHARED(Entry, tile, kTile);
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  for (int64_t t = blockIdx.x; t < rows * tiles; t += gridDim.x) {
    const int64_t row = t / tiles, first = t % tiles * size;
    for (int i = thread; i < size; i += threads) {
      if (first + i < n)
        tile[i] = source(row, first + i);
      else
        set_last(tile[i]);
    }
    __syncthreads();
    for (int run = 2; run <= size; run *= 2)
      for (int apart = run / 2; apart > 0; apart /= 2) {
        for (int i = thread; i < size / 2; i += threads) {
          const int low = i / apart * apart * 2 + i % apart, high = low + apart;
          const bool ascending = (low & run) == 0;
          const Entry a = tile[low], b = tile[high];
          if ((b < a) == ascending) tile[low] = b, tile[high] = a;
        }
        __syncthreads();
      }
    for (int i = thread; i < size; i += threads) out[t * size + i] = tile[i];
    __syncthreads();
  }
}

/// Runs of `run` entries become runs of twice as many, of which the first `keep` are wanted.
template <class Entry>
__global__ void __launch_bounds__(kThreads, 1)
    merge_runs(Entry* out, const Entry* in, int64_t rows, int64_t stride, int64_t run,
               int64_t keep) {
  const int64_t used = keep < run ? keep : run, runs = (stride + run - 1) / run;
  for_each_item(rows * runs * used, [&](int64_t i) {
    const int64_t at = i % used, r = i / used % runs, row = i / (used * runs);
    const Entry* const from = in + row * stride;
    const auto length = [&](int64_t first) {  // the last run may be short, or not there
      const int64_t left = stride - first;
      return left < 0 ? 0 : left < used ? left : used;
    };
    if (at >= length(r * run)) return;
    const int64_t other = (r ^ 1) * run;
    const Entry e = from[r * run + at];
    int64_t smaller = 0, end = length(other);
    while (smaller < end) {
      const int64_t middle = (smaller + end) / 2;
      if (from[other + middle] < e)
        smaller = middle + 1;
      else
        end = middle;
    }
    if (at + smaller < keep) out[row * stride + r / 2 * 2 * run + at + smaller] = e;
  });
}

template <class T, class Entry>
__global__ void __launch_bounds__(kThreads, 1)
    write_best(T* values, int64_t* indices, const Entry* entries, const T* x, int64_t rows,
               int64_t k, int64_t n, int64_t stride) {
  for_each_item(rows * k, [&](int64_t i) {
    const int64_t row = i / k, at = index_of(entries[row * stride + i - row * k]);
    indices[i] = at;
    values[i] = x[row * n + at];
  });
}

/// Leaves the first `keep` of the n entries of each row, in order, in one of the two buffers.
template <class Entry, class Source>
Entry* first_of(const Source& source, int64_t rows, int64_t n, int64_t keep, Entry* here,
                Entry* there, int64_t tiles, int size) {
  launch(sort_tiles<Entry, Source>, grid_for(rows * tiles, 1),
         dim3(std::clamp(size / 2, 32, kThreads)), 0, here, source, rows, n, tiles, size);
  for (int64_t run = size; run < tiles * size; run *= 2) {
    const int64_t used = std::min(keep, run) * ((tiles * size + run - 1) / run);
    launch(merge_runs<Entry>, grid_for(rows * used), kThreads, 0, there, here, rows, tiles * size,
           run, keep);
    std::swap(here, there);
  }
  return here;
}

void topk(Tensor& values, Tensor& indices, const Tensor& x, TopKOptions o) {
  const int64_t rows = x.dim(0), n = x.dim(1), k = values.dim(1);
  if (rows == 0 || k == 0) return;
  const auto shape = [](int64_t count) {  // of the tiles over `count` entries
    const auto size =
        static_cast<int>(std::bit_ceil(static_cast<uint64_t>(std::min<int64_t>(count, kTile))));
    return std::pair((count + size - 1) / size, size);
  };
  visit_all(x.dtype(), "topk", [&]<class T>() {
    using Entry = OrderEntry<T>;
    const auto [tiles, size] = shape(n);
    int64_t stride = tiles * size;
    const Scratch<Entry> a(rows * stride), b(rows * stride);
    Entry* best = first_of<Entry>(ValuesOf<T>{x.data<T>(), n, o.largest}, rows, n, k, a.get(),
                                  b.get(), tiles, size);
    if (o.sorted)
      return launch(write_best<T, Entry>, grid_for(rows * k), kThreads, 0, values.mutable_data<T>(),
                    indices.mutable_data<int64_t>(), best, x.data<T>(), rows, k, n, stride);
    const auto [few, width] = shape(k);
    const Scratch<Entry> c(rows * few * width), d(rows * few * width);
    best =
        first_of<Entry>(IndicesOf<Entry>{best, stride}, rows, k, k, c.get(), d.get(), few, width);
    stride = few * width;
    launch(write_best<T, Entry>, grid_for(rows * k), kThreads, 0, values.mutable_data<T>(),
           indices.mutable_data<int64_t>(), best, x.data<T>(), rows, k, n, stride);
  });
}

}  // namespace

void register_topk() { kernel::topk.set(kDevice, topk); }

}  // namespace tenun::TENUN_BACKEND
