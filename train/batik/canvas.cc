#include "tenun/train/batik/canvas.h"

#include <algorithm>

namespace tenun::batik {
namespace {

constexpr float kTolerance = 0.1f;  // pixels between a curve and its polyline

}  // namespace

Canvas::Canvas(int size, Color ground)
    : size_(size), pixels_(static_cast<size_t>(size) * static_cast<size_t>(size), ground) {}

Canvas Canvas::halved() const {
  Canvas half(size_ / 2, {});
  for (int y = 0; y < half.size_; ++y)
    for (int x = 0; x < half.size_; ++x)
      half.at(x, y) = mix(mix(at(2 * x, 2 * y), at(2 * x + 1, 2 * y), 0.5f),
                          mix(at(2 * x, 2 * y + 1), at(2 * x + 1, 2 * y + 1), 0.5f), 0.5f);
  return half;
}

Canvas::Box Canvas::paintable() const {
  return clip_ ? Box{clip_->x0, clip_->y0, clip_->x1, clip_->y1} : Box{0, 0, size_, size_};
}

bool Canvas::visible(Vec2 p, float r) const {
  const Box b = paintable();
  return p.x + r > static_cast<float>(b.x0) && p.x - r < static_cast<float>(b.x1) &&
         p.y + r > static_cast<float>(b.y0) && p.y - r < static_cast<float>(b.y1);
}

bool Canvas::touches(const Path& path, const Affine& m, float margin) const {
  if (path.empty()) return false;
  Vec2 lo{1e30f, 1e30f}, hi{-1e30f, -1e30f};
  for (const Vec2 c : path.controls()) {
    const Vec2 p = m(c);
    lo = {std::min(lo.x, p.x), std::min(lo.y, p.y)};
    hi = {std::max(hi.x, p.x), std::max(hi.y, p.y)};
  }
  const Box b = paintable();
  return hi.x + margin > static_cast<float>(b.x0) && lo.x - margin < static_cast<float>(b.x1) &&
         hi.y + margin > static_cast<float>(b.y0) && lo.y - margin < static_cast<float>(b.y1);
}

// Adds the signed area between the edge and the right side of its row, pixel by pixel.
void Canvas::edge(Vec2 a, Vec2 b, const Box& box, int stride) {
  const float direction = a.y < b.y ? 1.f : -1.f;
  if (a.y > b.y) std::swap(a, b);
  const float top = static_cast<float>(box.y0), bottom = static_cast<float>(box.y1);
  const float left = static_cast<float>(box.x0);
  const float width = static_cast<float>(box.x1 - box.x0);
  if (b.y <= top || a.y >= bottom || b.y - a.y < 1e-7f) return;
  // Most edges of small pictures stay within one pixel.
  const Vec2 p{a.x - left, a.y - top}, q{b.x - left, b.y - top};
  const int px = static_cast<int>(p.x), py = static_cast<int>(p.y);
  if (p.x >= 0 && p.y >= 0 && px == static_cast<int>(q.x) && py == static_cast<int>(q.y) &&
      q.x >= 0 && p.x < width && b.y < bottom) {
    float* const cell = area_.data() + static_cast<ptrdiff_t>(py) * stride + px;
    const float d = direction * (q.y - p.y);
    const float covered = d * (1 - (0.5f * (p.x + q.x) - static_cast<float>(px)));
    cell[0] += covered;
    cell[1] += d - covered;
    return;
  }
  const float slope = (b.x - a.x) / (b.y - a.y);
  float y = std::max(a.y, top), x = a.x + (y - a.y) * slope - left;
  const float y_end = std::min(b.y, bottom);
  for (int row = static_cast<int>(y); y < y_end; ++row) {
    const float y_next = std::min(static_cast<float>(row + 1), y_end), dy = y_next - y;
    const float x_next = x + slope * dy;
    float* const line = area_.data() + static_cast<ptrdiff_t>(row - box.y0) * stride;
    const float x0 = std::clamp(std::min(x, x_next), 0.f, width);
    const float x1 = std::clamp(std::max(x, x_next), 0.f, width);
    const float d = direction * dy;
    const int i0 = static_cast<int>(x0), i1 = static_cast<int>(std::ceil(x1));
    if (i1 <= i0 + 1) {
      const float covered = d * (1 - (0.5f * (x0 + x1) - static_cast<float>(i0)));
      line[i0] += covered;
      line[i0 + 1] += d - covered;
    } else {
      const float s = 1 / (x1 - x0), f0 = x0 - static_cast<float>(i0);
      const float first = 0.5f * s * (1 - f0) * (1 - f0);
      const float f1 = x1 - static_cast<float>(i1) + 1, tail = 0.5f * s * f1 * f1;
      line[i0] += d * first;
      if (i1 == i0 + 2) {
        line[i0 + 1] += d * (1 - first - tail);
      } else {
        const float second = s * (1.5f - f0);
        line[i0 + 1] += d * (second - first);
        for (int i = i0 + 2; i < i1 - 1; ++i) line[i] += d * s;
        const float before = second + static_cast<float>(i1 - i0 - 3) * s;
        line[i1 - 1] += d * (1 - before - tail);
      }
      line[i1] += d * tail;
    }
    y = y_next;
    x = x_next;
  }
}

template <class Row>
void Canvas::scan(const Box& limit, Row&& row) {
  Vec2 lo{1e30f, 1e30f}, hi{-1e30f, -1e30f};
  for (const Vec2 p : lines_.points) {
    lo = {std::min(lo.x, p.x), std::min(lo.y, p.y)};
    hi = {std::max(hi.x, p.x), std::max(hi.y, p.y)};
  }
  const auto floor_in = [](float v, int from, int to) {
    return static_cast<int>(
        std::floor(std::clamp(v, static_cast<float>(from), static_cast<float>(to))));
  };
  const Box box{floor_in(lo.x, limit.x0, limit.x1), floor_in(lo.y, limit.y0, limit.y1),
                floor_in(hi.x + 1, limit.x0, limit.x1), floor_in(hi.y + 1, limit.y0, limit.y1)};
  if (box.x0 >= box.x1 || box.y0 >= box.y1) return;
  const int width = box.x1 - box.x0, stride = width + 2;
  const size_t need = static_cast<size_t>(stride) * static_cast<size_t>(box.y1 - box.y0);
  if (area_.size() < need) area_.resize(need);
  for (size_t c = 0; c + 1 < lines_.starts.size(); ++c) {
    const auto first = static_cast<size_t>(lines_.starts[c]);
    const auto end = static_cast<size_t>(lines_.starts[c + 1]);
    for (size_t i = first, j = end - 1; i < end; j = i++)
      edge(lines_.points[j], lines_.points[i], box, stride);
  }
  for (int y = box.y0; y < box.y1; ++y) {
    float* const line = area_.data() + static_cast<ptrdiff_t>(y - box.y0) * stride;
    float sum = 0;
    for (int i = 0; i < width; ++i) {
      sum += line[i];
      line[i] = std::min(std::abs(sum), 1.f);
    }
    row(y, box.x0, box.x1, line);
    std::fill_n(line, stride, 0.f);
  }
}

void Canvas::paint(Color color, float alpha) {
  scan(paintable(), [&](int y, int x0, int x1, const float* coverage) {
    Color* const out = &at(0, y);
    const float* mask = nullptr;
    if (clip_)
      mask = clip_->coverage.data() +
             static_cast<ptrdiff_t>(y - clip_->y0) * (clip_->x1 - clip_->x0) - clip_->x0;
    for (int x = x0; x < x1; ++x) {
      float k = coverage[x - x0];
      if (k <= 0) continue;
      k *= mask != nullptr ? mask[x] * alpha : alpha;
      out[x] = mix(out[x], color, k);
    }
  });
}

void Canvas::fill(const Path& path, const Affine& m, Color color, float alpha) {
  if (!touches(path, m, 0)) return;
  path.flatten(m, kTolerance, lines_);
  paint(color, alpha);
}

// Replaces the polylines of `centre_` by the outlines of a brush that follows them: for an open
// line its two sides, for a ring the outer and the (reversed) inner side.
void Canvas::outline_stroke(float width, Taper taper) {
  lines_.clear();
  for (size_t c = 0; c + 1 < centre_.starts.size(); ++c) {
    std::vector<Vec2>& out = lines_.points;
    auto* p = centre_.points.data() + centre_.starts[c];
    int n = centre_.starts[c + 1] - centre_.starts[c];
    // Repeated points have no direction.
    n = static_cast<int>(std::unique(p, p + n,
                                     [](Vec2 u, Vec2 v) {
                                       return std::abs(u.x - v.x) + std::abs(u.y - v.y) < 1e-4f;
                                     }) -
                         p);
    const bool ring = centre_.closed[c] != 0;
    if (ring && n > 1 && length(p[0] - p[n - 1]) < 1e-3f) --n;
    if (n < 2) continue;
    const auto side = [&](int i) {
      const int before = i > 0 ? i - 1 : ring ? n - 1 : 0;
      const int after = i + 1 < n ? i + 1 : ring ? 0 : n - 1;
      const Vec2 u = p[i] - p[before], v = p[after] - p[i];
      const float lu = length(u), lv = length(v);
      if (lu == 0) return perp(v) * (1 / lv);
      if (lv == 0) return perp(u) * (1 / lu);
      const Vec2 sum = perp(u) * (1 / lu) + perp(v) * (1 / lv);
      return sum * (2 / std::max(dot(sum, sum), 1.2f));  // a mitre of at most 1.8 widths
    };
    const float half = 0.5f * width;
    lines_.starts.push_back(static_cast<int>(out.size()));
    lines_.closed.push_back(1);
    if (ring) {
      for (int i = 0; i < n; ++i) out.push_back(p[i] + side(i) * half);
      lines_.starts.push_back(static_cast<int>(out.size()));
      lines_.closed.push_back(1);
      for (int i = n - 1; i >= 0; --i) out.push_back(p[i] - side(i) * half);
      continue;
    }
    float total = 0;
    for (int i = 1; i < n; ++i) total += length(p[i] - p[i - 1]);
    const auto tail = [](float u) { return std::sqrt(u * std::sqrt(u)); };
    const auto profile = [&](float s) {
      const float t = clamp01(s / total);
      if (taper == Taper::none) return half;
      return half * (taper == Taper::tail ? tail(1 - 0.97f * t)
                                          : 0.06f + 0.94f * std::sqrt(4 * t * (1 - t)));
    };
    const auto cap = [&](int end, float radius, Vec2 from) {
      const int steps = std::clamp(static_cast<int>(radius * 3), 2, 12);
      const float turn = -kPi / static_cast<float>(steps);
      for (int k = 1; k < steps; ++k) {
        const float angle = turn * static_cast<float>(k);
        const float s = std::sin(angle), q = std::cos(angle);
        out.push_back(p[end] + Vec2{from.x * q - from.y * s, from.x * s + from.y * q});
      }
    };
    float s = 0;
    for (int i = 0; i < n; ++i) {
      if (i > 0) s += length(p[i] - p[i - 1]);
      out.push_back(p[i] + side(i) * profile(s));
    }
    cap(n - 1, profile(total), side(n - 1) * profile(total));
    for (int i = n - 1; i >= 0; --i) {
      out.push_back(p[i] - side(i) * profile(s));
      if (i > 0) s -= length(p[i] - p[i - 1]);
    }
    cap(0, profile(0), side(0) * -profile(0));
  }
  lines_.starts.push_back(static_cast<int>(lines_.points.size()));
}

void Canvas::stroke(const Path& path, const Affine& m, float width, Color color, Taper taper) {
  if (!touches(path, m, width)) return;
  path.flatten(m, kTolerance, centre_);
  outline_stroke(width, taper);
  paint(color, 1);
}

void Canvas::disc(Vec2 o, float radius, Color color, float alpha) {
  if (!visible(o, radius + 1)) return;
  // Below half a pixel the disc becomes fainter, not smaller: the ink stays the same.
  const float r = std::max(radius, 0.5f);
  alpha *= radius * radius / (r * r);
  const Box b = paintable();
  const int x0 = std::max(b.x0, static_cast<int>(std::floor(o.x - r - 0.5f)));
  const int x1 = std::min(b.x1, static_cast<int>(std::ceil(o.x + r + 0.5f)));
  const int y0 = std::max(b.y0, static_cast<int>(std::floor(o.y - r - 0.5f)));
  const int y1 = std::min(b.y1, static_cast<int>(std::ceil(o.y + r + 0.5f)));
  for (int y = y0; y < y1; ++y)
    for (int x = x0; x < x1; ++x) {
      const Vec2 d{static_cast<float>(x) + 0.5f - o.x, static_cast<float>(y) + 0.5f - o.y};
      float k = clamp01(r + 0.5f - length(d)) * alpha;
      if (k <= 0) continue;
      if (clip_)
        k *= clip_->coverage[static_cast<size_t>((y - clip_->y0) * (clip_->x1 - clip_->x0) + x -
                                                 clip_->x0)];
      at(x, y) = mix(at(x, y), color, k);
    }
}

std::shared_ptr<const Canvas::Mask> Canvas::clip(const Path& path, const Affine& m) {
  auto mask = std::make_shared<Mask>();
  lines_.clear();
  if (touches(path, m, 0)) path.flatten(m, kTolerance, lines_);
  if (!lines_.points.empty()) {
    scan(paintable(), [&](int y, int x0, int x1, const float* coverage) {
      if (mask->coverage.empty()) *mask = {x0, y, x1, y, {}};
      mask->coverage.insert(mask->coverage.end(), coverage, coverage + (x1 - x0));
      if (clip_) {
        float* const out = mask->coverage.data() + mask->coverage.size() - (x1 - x0);
        const float* const outer = clip_->coverage.data() +
                                   static_cast<ptrdiff_t>(y - clip_->y0) * (clip_->x1 - clip_->x0);
        for (int x = x0; x < x1; ++x) out[x - x0] *= outer[x - clip_->x0];
      }
      mask->y1 = y + 1;
    });
  }
  std::shared_ptr<const Mask> outer = std::move(clip_);
  clip_ = std::move(mask);
  return outer;
}

Pen::Pen(Canvas& canvas) : canvas_(&canvas) {
  const auto n = static_cast<float>(canvas.size());
  map_ = {n, 0, 0, n, 0.5f * n, 0.5f * n};
}

}  // namespace tenun::batik
