#include "tenun/ops/resample.h"

#include <algorithm>

#include "tenun/core/parallel.h"

namespace tenun {
namespace {

template <class T>
void run(Tensor& y, const Tensor& x, const AxisTable& rows, const AxisTable& columns) {
  using C = Compute<T>;
  const std::vector<C> wr(rows.weight.begin(), rows.weight.end()),
      wc(columns.weight.begin(), columns.weight.end());
  const int64_t h = rows.inputs, w = columns.inputs, oh = rows.outputs(), ow = columns.outputs();
  const T* const in = x.data<T>();
  T* const out = y.mutable_data<T>();
  const int64_t per_row = static_cast<int64_t>(wr.size()) * w / std::max<int64_t>(oh, 1) +
                          static_cast<int64_t>(wc.size());
  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 16) / std::max<int64_t>(per_row, 1));
  // For each output row: the weighted sum of input rows, then the columns of that one row.
  parallel_for(0, x.dim(0) * oh, grain, [&](int64_t begin, int64_t end) {
    std::vector<C> mixed(static_cast<size_t>(w));
    for (int64_t i = begin; i < end; ++i) {
      const auto r = static_cast<size_t>(i % oh);
      const T* from = in + (i / oh * h + rows.first[r]) * w;
      C* __restrict row = mixed.data();
      std::fill(mixed.begin(), mixed.end(), C(0));
      for (int64_t k = rows.offset[r]; k < rows.offset[r + 1]; ++k, from += w) {
        const C weight = wr[static_cast<size_t>(k)];
        for (int64_t j = 0; j < w; ++j) row[j] += weight * static_cast<C>(from[j]);
      }
      T* const to = out + i * ow;
      for (int64_t j = 0; j < ow; ++j) {
        const auto c = static_cast<size_t>(j);
        const C* const a = row + columns.first[c];
        const C* const weight = wc.data() + columns.offset[c];
        const int64_t n = columns.offset[c + 1] - columns.offset[c];
        C sum = 0;
        for (int64_t k = 0; k < n; ++k) sum += weight[k] * a[k];
        to[j] = T(sum);
      }
    }
  });
}

void resample_cpu(Tensor& y, const Tensor& x, const AxisTable& rows, const AxisTable& columns) {
  visit_float(x.dtype(), "resample", [&]<class T>() { run<T>(y, x, rows, columns); });
}

}  // namespace

constinit Kernel<void(Tensor& y, const Tensor& x, const AxisTable& rows, const AxisTable& columns)>
    kernel::resample{"resample", resample_cpu};

void AxisTable::add(int64_t from, const std::vector<double>& weights) {
  first.push_back(from);
  weight.insert(weight.end(), weights.begin(), weights.end());
  offset.push_back(static_cast<int64_t>(weight.size()));
}

AxisTable AxisTable::transposed() const {
  // Input j is read by outputs low[j]..high[j]; those of them that do not read it weigh 0.
  const auto n = static_cast<size_t>(inputs);
  std::vector<int64_t> low(n, outputs()), high(n, -1);
  for (int64_t i = 0; i < outputs(); ++i) {
    const auto u = static_cast<size_t>(i);
    for (int64_t k = 0; k < offset[u + 1] - offset[u]; ++k) {
      const auto j = static_cast<size_t>(first[u] + k);
      low[j] = std::min(low[j], i), high[j] = i;
    }
  }
  AxisTable t;
  t.inputs = outputs();
  std::vector<double> w;
  for (int64_t j = 0; j < inputs; ++j) {
    w.clear();
    const auto v = static_cast<size_t>(j);
    for (int64_t i = low[v]; i <= high[v]; ++i) {
      const auto u = static_cast<size_t>(i);
      const int64_t k = offset[u] + j - first[u];
      w.push_back(k >= offset[u] && k < offset[u + 1] ? weight[static_cast<size_t>(k)] : 0.0);
    }
    t.add(w.empty() ? 0 : low[v], w);
  }
  return t;
}

Tensor resample(const Tensor& x, const AxisTable& rows, const AxisTable& columns) {
  Shape shape = x.shape();
  const int r = x.rank();
  int64_t planes = 1;
  for (int i = 0; i < r - 2; ++i) planes *= shape[i];
  shape[r - 2] = rows.outputs(), shape[r - 1] = columns.outputs();
  Tensor y(shape, x.dtype(), x.device());
  if (y.numel() == 0) return y;
  Tensor y3 = y.view({planes, rows.outputs(), columns.outputs()});
  kernel::resample(x.device(), y3, x.reshape({planes, x.dim(-2), x.dim(-1)}).contiguous(), rows,
                   columns);
  return y;
}

}  // namespace tenun
