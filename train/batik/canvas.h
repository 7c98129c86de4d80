// Canvas: paints paths with exact area coverage (every pixel holds the mean of the picture over its
// square, so a picture is the same at every size, only finer), and Pen: a canvas together with a
// place, a direction and a scale. Source of the method: signed-area accumulation, one pass per edge
// and one prefix sum per row, as in the FreeType and libart rasterisers.
//
//   Canvas canvas(256, hex(0x3a2212));  Pen pen(canvas);
//   pen.at({.1f, 0}).turned(kPi / 4).scaled(.2f).fill(petal, hex(0xf3e6c8));
#pragma once
#include <memory>
#include <vector>

#include "tenun/train/batik/path.h"

namespace tenun::batik {

/// How the width of a stroke runs along its length.
enum class Taper { none, tail, both };

class Canvas {
 public:
  Canvas(int size, Color ground);

  /// The same picture with half the side; the size must be even.
  [[nodiscard]] Canvas halved() const;

  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] const Color& at(int x, int y) const { return pixels_[index(x, y)]; }
  [[nodiscard]] Color& at(int x, int y) { return pixels_[index(x, y)]; }

  /// `m` maps to pixels; `width` is in pixels.
  void fill(const Path& path, const Affine& m, Color color, float alpha);
  void stroke(const Path& path, const Affine& m, float width, Color color, Taper taper);
  void disc(Vec2 centre, float radius, Color color, float alpha);

  /// Coverage of a region, kept only inside its bounding box.
  struct Mask {
    int x0 = 0, y0 = 0, x1 = 0, y1 = 0;
    std::vector<float> coverage;
  };
  /// Further painting stays inside `path` (and inside the clip so far), until the clip is put back.
  [[nodiscard]] std::shared_ptr<const Mask> clip(const Path& path, const Affine& m);
  void restore(std::shared_ptr<const Mask> clip) { clip_ = std::move(clip); }
  struct Box {
    int x0, y0, x1, y1;
  };
  /// The pixels that painting can reach now: all of them, or the box around the clip.
  [[nodiscard]] Box paintable() const;
  /// Whether a disc in pixel coordinates can touch what may be painted.
  [[nodiscard]] bool visible(Vec2 centre, float radius) const;

 private:
  [[nodiscard]] size_t index(int x, int y) const {
    return static_cast<size_t>(y) * static_cast<size_t>(size_) + static_cast<size_t>(x);
  }
  [[nodiscard]] bool touches(const Path& path, const Affine& m, float margin) const;
  void outline_stroke(float width, Taper taper);
  /// Calls row(y, x0, x1, coverage of those pixels) for the polygons in `lines_`.
  template <class Row>
  void scan(const Box& limit, Row&& row);
  void edge(Vec2 a, Vec2 b, const Box& box, int stride);
  void paint(Color color, float alpha);

  int size_;
  std::vector<Color> pixels_;
  std::vector<float> area_;  // zero between calls
  Polyline lines_, centre_;
  std::shared_ptr<const Mask> clip_;
};

class Pen {
 public:
  explicit Pen(Canvas& canvas);

  [[nodiscard]] Pen at(Vec2 p) const { return placed(Affine::move(p)); }
  [[nodiscard]] Pen turned(float angle) const { return placed(Affine::turn(angle)); }
  [[nodiscard]] Pen scaled(float s) const { return placed(Affine::stretch(s, s)); }
  [[nodiscard]] Pen scaled(float sx, float sy) const { return placed(Affine::stretch(sx, sy)); }
  [[nodiscard]] Pen placed(const Affine& m) const { return Pen(*canvas_, map_ * m); }

  void fill(const Path& path, Color color, float alpha = 1) const {
    canvas_->fill(path, map_, color, alpha);
  }
  void line(const Path& path, float width, Color color, Taper taper = Taper::none) const {
    canvas_->stroke(path, map_, width * map_.scale(), color, taper);
  }
  /// A filled path with a drawn outline.
  void shape(const Path& path, Color inside, float width, Color outline) const {
    fill(path, inside);
    line(path, width, outline);
  }
  void dot(Vec2 p, float radius, Color color, float alpha = 1) const {
    canvas_->disc(map_(p), radius * map_.scale(), color, alpha);
  }
  [[nodiscard]] bool visible(Vec2 p, float radius) const {
    return canvas_->visible(map_(p), radius * map_.scale());
  }
  [[nodiscard]] const Affine& map() const { return map_; }
  [[nodiscard]] Canvas& canvas() const { return *canvas_; }

 private:
  Pen(Canvas& canvas, const Affine& map) : canvas_(&canvas), map_(map) {}
  Canvas* canvas_;
  Affine map_;  // to pixels
};

/// Keeps painting inside a path for as long as it lives.
class Clip {
 public:
  Clip(const Pen& pen, const Path& path)
      : canvas_(pen.canvas()), outer_(canvas_.clip(path, pen.map())) {}
  ~Clip() { canvas_.restore(std::move(outer_)); }
  Clip(const Clip&) = delete;
  Clip& operator=(const Clip&) = delete;

 private:
  Canvas& canvas_;
  std::shared_ptr<const Canvas::Mask> outer_;
};

}  // namespace tenun::batik
