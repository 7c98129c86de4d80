// The plan of columns.h and the sum over a tile's parts.
#include "tenun/cuda/attention/columns.h"

#include <algorithm>

#include "tenun/cuda/team.h"

namespace tenun::TENUN_BACKEND::attention {
namespace {

constexpr int kPlanThreads = 1024;
/// Of lengths: more than limit / 2, more than limit / 4, ..., the rest.
constexpr int kClasses = 8;
/// Blocks of threads for the sums of a tile: few, since most slots of a plan are not used.
constexpr int kSumBlocks = 4;

constexpr int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }
__host__ __device__ inline int limit_of(int64_t pieces) {
  const int64_t l = (pieces + kMostParts - 1) / kMostParts;
  return static_cast<int>(l > kLeastPieces ? l : kLeastPieces);
}

struct Plan {
  Lists columns;
  int all = 0, tiles = 0, per = 1;  ///< tiles: all of them, of a head, of a column
  int block_q = 1, block_k = 1, nk = 0;
  int room = 0, slots = 0;
  ColumnPart* plan = nullptr;
  ColumnSplit* splits = nullptr;
};

/// Pieces of queries that tile `tile` walks over; 0 for a tile behind the last key.
__device__ __forceinline__ int pieces_of(const Plan& a, int tile) {
  const int head = tile / a.tiles, x = tile - head * a.tiles, i = x / a.per;
  if (i * a.block_k + (x - i * a.per) * kKeys >= a.nk) return 0;
  const int64_t* const start = a.columns.start + int64_t{head} * (a.tiles / a.per) + i;
  return static_cast<int>(((start[1] - start[0]) * a.block_q + kKeys - 1) / kKeys);
}

/// How a tile is cut.
struct Cut {
  int parts, order;  ///< order: the class, 0 for the longest
};
__device__ __forceinline__ Cut cut_of(int pieces, int limit) {
  const int parts = pieces > limit ? (pieces + limit - 1) / limit : 1;
  const int longest = (pieces + parts - 1) / parts;
  int order = 0;
  while (order < kClasses - 1 && int64_t{longest} << (order + 1) <= limit) ++order;
  return {parts, order};
}

/// The sum of v over the threads before this one; `all`: over all of them.
template <class V>
__device__ __forceinline__ V sum_before(V v, V* warps, V& all) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  V sum = v;
  TENUN_UNROLL
  for (int o = 1; o < 32; o <<= 1) {
    const V left = __shfl_sync(kFullWarp, sum, lane >= o ? lane - o : lane);
    if (lane >= o) sum += left;
  }
  if (lane == 31) warps[warp] = sum;
  __syncthreads();
  const V of_warp = warps[lane];  // there are as many warps as lanes
  const V before = warp_reduce(lane < warp ? of_warp : V(0), Plus{});
  all = warp_reduce(of_warp, Plus{});
  __syncthreads();  // the sums are written again
  return before + sum - v;
}

// One block of threads; every thread has some neighbouring tiles. It counts the parts of each class
// that they give; the sums of these counts, by class and then by thread, are the places of the
// parts in the plan.
__global__ void __launch_bounds__(kPlanThreads, 1) plan_kernel(const Plan a) {
  TENUN_SHARED(int64_t, sums, 32);
  TENUN_DYNAMIC_SHARED(int, places);  // (kClasses, kPlanThreads)
  const int t = static_cast<int>(threadIdx.x), own = (a.all + kPlanThreads - 1) / kPlanThreads;
  const int first = t * own < a.all ? t * own : a.all,
            end = first + own < a.all ? first + own : a.all;
  int64_t pieces = 0, total = 0;
  TENUN_NO_UNROLL
  for (int i = first; i < end; ++i) pieces += pieces_of(a, i);
  sum_before(pieces, sums, total);
  const int limit = limit_of(total);

  int64_t more = 0, slots = 0;
  for (int c = 0; c < kClasses; ++c) places[c * kPlanThreads + t] = 0;
  TENUN_NO_UNROLL
  for (int i = first; i < end; ++i) {
    const Cut cut = cut_of(pieces_of(a, i), limit);
    places[cut.order * kPlanThreads + t] += cut.parts;
    more += cut.parts - 1;
  }
  int slot = static_cast<int>(sum_before(more, sums, slots));  // and all counts are there

  int64_t here = 0, parts = 0;
  for (int c = 0; c < kClasses; ++c) here += places[t * kClasses + c];
  auto place = static_cast<int>(sum_before(here, sums, parts));
  for (int c = 0; c < kClasses; ++c) {
    const int count = places[t * kClasses + c];
    places[t * kClasses + c] = place;
    place += count;
  }
  __syncthreads();

  TENUN_NO_UNROLL
  for (int i = first; i < end; ++i) {
    const Cut cut = cut_of(pieces_of(a, i), limit);
    int& at = places[cut.order * kPlanThreads + t];
    TENUN_NO_UNROLL
    for (int part = 0; part < cut.parts; ++part) {
      a.plan[at++] = {i, part, cut.parts, part == 0 ? -1 : slot + part - 1};
      if (part > 0) a.splits[slot + part - 1] = {i, part == 1 ? cut.parts - 1 : 0};
    }
    slot += cut.parts - 1;
  }
  for (auto i = static_cast<int>(parts) + t; i < a.room; i += kPlanThreads)
    a.plan[i] = {0, 0, 0, -1};
  for (auto i = static_cast<int>(slots) + t; i < a.slots; i += kPlanThreads) a.splits[i] = {0, 0};
}

// dk (z = 0) and dv (z = 1) of a tile, two numbers at a time.
__global__ void __launch_bounds__(kThreads, 1)
    add_parts_kernel(const FlashBackward a, const ColumnParts columns) {
  const FlashProblem& p = a.in;
  auto* const result = static_cast<float*>(blockIdx.z == 0 ? a.dk : a.dv);
  const float* const more = blockIdx.z == 0 ? columns.more_dk : columns.more_dv;
  if (result == nullptr) return;
  const int number = static_cast<int>(blockIdx.x);
  const bool planned = columns.plan != nullptr;
  const ColumnSplit split =
      planned ? columns.splits[number] : ColumnSplit{number, columns.each - 1};
  if (split.more == 0) return;
  const int slot = planned ? number : number * split.more;
  const int bh = split.tile / columns.tiles;
  const auto rows =
      TensorRows<kKeys>::at(p.columns, bh, static_cast<unsigned>(split.tile - bh * columns.tiles),
                            p.nk, p.block_k, p.weight != nullptr);
  auto* const to = reinterpret_cast<float2*>(result + (bh * p.nk + rows.first) * p.d);
  const auto* const from = reinterpret_cast<const float2*>(more + int64_t{slot} * kKeys * p.d);
  const int count = rows.end - rows.first < kKeys ? rows.end - rows.first : kKeys;  // of the tile
  const auto pairs = static_cast<int>(count * p.d / 2), of_part = static_cast<int>(kKeys * p.d / 2);
  TENUN_NO_UNROLL
  for (auto i = static_cast<int>(blockIdx.y * kThreads + threadIdx.x); i < pairs;
       i += kSumBlocks * kThreads) {
    float2 sum = to[i];
    for (int part = 0; part < split.more; ++part) {
      const float2 v = from[int64_t{part} * of_part + i];
      sum.x += v.x, sum.y += v.y;
    }
    to[i] = sum;
  }
}

}  // namespace

ColumnWork::ColumnWork(const FlashBackward& a) {
  const FlashProblem& p = a.in;
  const bool listed = p.columns.start != nullptr;
  const int64_t per = up(listed && p.block_k < p.nk ? p.block_k : p.nk, kKeys);
  parts_.tiles =
      static_cast<int>(tensor_tiles<kKeys>(p.columns, p.nk, p.block_k, p.weight != nullptr));
  const int64_t all = p.heads * parts_.tiles;
  if (listed) {
    const int64_t longest = up(up(p.nq, p.block_q) * p.block_q, kKeys);
    const int64_t by_lengths = all * ((longest - 1) / kLeastPieces),
                  by_room = per * p.columns.room * p.block_q / kKeys / kLeastPieces;
    slots_ = static_cast<int>(std::min({int64_t{kMostParts}, by_lengths, by_room}));
    room_ = static_cast<int>(all) + slots_;
    plan_.emplace(room_);
    parts_.plan = plan_->get();
    if (slots_ > 0) splits_.emplace(slots_), parts_.splits = splits_->get();
    launch(plan_kernel, dim3(1), dim3(kPlanThreads), kClasses * kPlanThreads * sizeof(int),
           Plan{p.columns, static_cast<int>(all), parts_.tiles, static_cast<int>(per),
                static_cast<int>(p.block_q), static_cast<int>(p.block_k), static_cast<int>(p.nk),
                room_, slots_, plan_->get(), splits_ ? splits_->get() : nullptr});
  } else {
    const int64_t pieces = up(p.nq, kKeys);
    parts_.each = static_cast<int>(up(pieces, limit_of(all * pieces)));
    room_ = static_cast<int>(all) * parts_.each;
    slots_ = room_ - static_cast<int>(all);
  }
  if (slots_ > 0 && a.dk != nullptr)
    more_dk_.emplace(int64_t{slots_} * kKeys * p.d), parts_.more_dk = more_dk_->get();
  if (slots_ > 0 && a.dv != nullptr)
    more_dv_.emplace(int64_t{slots_} * kKeys * p.d), parts_.more_dv = more_dv_->get();
}

void ColumnWork::add_up(const FlashBackward& a) const {
  if (slots_ == 0) return;
  const int tiles = parts_.plan != nullptr ? slots_ : slots_ / (parts_.each - 1);
  launch(add_parts_kernel, dim3(static_cast<unsigned>(tiles), kSumBlocks, 2), dim3(kThreads), 0, a,
         parts_);
}

}  // namespace tenun::TENUN_BACKEND::attention
