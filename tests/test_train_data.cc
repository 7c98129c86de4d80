// Training data: transforms, data sets, the loader.
#include <doctest/doctest.h>
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "tenun/core/io/image_file.h"
#include "tenun/core/log.h"
#include "tenun/tests/io_util.h"
#include "tenun/tests/jpeg_util.h"
#include "tenun/train/batik/batik.h"
#include "tenun/train/data/loader.h"
#include "tenun/train/data/transforms.h"

namespace {
using namespace tenun;
using namespace tenun::test;
namespace fs = std::filesystem;

int largest_difference(const Image& a, const Image& b) {
  REQUIRE(a.width == b.width);
  REQUIRE(a.height == b.height);
  int d = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i) d = std::max(d, std::abs(a.rgb[i] - b.rgb[i]));
  return d;
}
double cubic(double x) {
  x = std::abs(x);
  if (x < 1) return 1.5 * x * x * x - 2.5 * x * x + 1;
  return x < 2 ? -0.5 * x * x * x + 2.5 * x * x - 4 * x + 2 : 0;
}
double kernel_of(Filter f, double x) {
  if (f == Filter::box) return x > -0.5 && x <= 0.5 ? 1 : 0;
  return f == Filter::bilinear ? std::max(0.0, 1 - std::abs(x)) : cubic(x);
}
// One pass along x over every source pixel, rounded to 8 bits; the other pass is the transpose.
Image naive_across(const Image& in, int width, Filter f) {
  Image out(width, in.height);
  const double scale = static_cast<double>(in.width) / width, stretch = std::max(1.0, scale);
  for (int y = 0; y < in.height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) {
        double sum = 0, weights = 0;
        for (int j = 0; j < in.width; ++j) {
          const double w = kernel_of(f, (j - (x + 0.5) * scale + 0.5) * (1 / stretch));
          sum += w * in.at(j, y)[c], weights += w;
        }
        out.at(x, y)[c] =
            static_cast<uint8_t>(std::clamp(std::floor(sum / weights + 0.5), 0.0, 255.0));
      }
  return out;
}
Image transposed(const Image& in) {
  Image out(in.height, in.width);
  for (int y = 0; y < in.height; ++y)
    for (int x = 0; x < in.width; ++x) std::copy_n(in.at(x, y), 3, out.at(y, x));
  return out;
}
Image naive_resize(const Image& in, int width, int height, Filter f) {
  return transposed(naive_across(transposed(naive_across(in, width, f)), height, f));
}
/// Smooth, so that rounding of ties cannot hide a shift.
Image ramp(int w, int h) {
  Image im(w, h);
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) {
      im.at(x, y)[0] = static_cast<uint8_t>(255 * x / std::max(w - 1, 1));
      im.at(x, y)[1] = static_cast<uint8_t>(255 * y / std::max(h - 1, 1));
      im.at(x, y)[2] = static_cast<uint8_t>((x * 7 + y * 13) % 256);
    }
  return im;
}
Image exact_colour(uint8_t v) {
  Image im(2, 2);
  std::fill(im.rgb.begin(), im.rgb.end(), v);
  return im;
}

/// Images that tell their index.
class Numbered final : public Dataset {
 public:
  explicit Numbered(int64_t n, int64_t broken = -1) : n_(n), broken_(broken) {}
  int64_t size() const override { return n_; }
  int resolution() const override { return 2; }
  const std::vector<std::string>& class_names() const override { return names_; }
  Item load(int64_t index, RandomKey key) const override {
    if (index == broken_) throw IoError("image 5 is broken");
    Item item{Image(2, 2), index};
    item.image.rgb[0] = static_cast<uint8_t>(index);
    item.image.rgb[1] = static_cast<uint8_t>(key.below(0, 256));
    return item;
  }

 private:
  int64_t n_, broken_;
  std::vector<std::string> names_{"all"};
};
bool same(const Batch& a, const Batch& b) {
  return a.x.values<float>() == b.x.values<float>() &&
         a.y.values<int64_t>() == b.y.values<int64_t>() && a.samples == b.samples &&
         a.epoch == b.epoch && a.index == b.index && a.last_of_epoch == b.last_of_epoch;
}

struct Log {
  std::vector<std::string> lines;
  Log() {
    logging::set_sink([this](logging::Level, std::string_view s) { lines.emplace_back(s); });
  }
  ~Log() { logging::set_sink({}); }
  [[nodiscard]] int64_t count(std::string_view part) const {
    return std::count_if(lines.begin(), lines.end(),
                         [&](const std::string& s) { return contains(s, part); });
  }
};

}  // namespace

TEST_SUITE("train_data") {
  TEST_CASE("resizing is the filter's definition") {
    const Image im = ramp(37, 23);
    for (const Filter f : {Filter::bilinear, Filter::bicubic})
      for (const auto& [w, h] : {std::pair{37, 23}, {16, 16}, {80, 11}, {5, 60}, {1, 1}}) {
        CAPTURE(w);
        CAPTURE(h);
        CHECK(largest_difference(resize_image(im, w, h, f), naive_resize(im, w, h, f)) <= 1);
      }
    // A box that halves is the mean of four.
    const Image even = ramp(20, 14), half = resize_image(even, 10, 7, Filter::box);
    for (int y = 0; y < 7; ++y)
      for (int x = 0; x < 10; ++x) {
        const int a = even.at(2 * x, 2 * y)[2], b = even.at(2 * x + 1, 2 * y)[2],
                  c = even.at(2 * x, 2 * y + 1)[2], d = even.at(2 * x + 1, 2 * y + 1)[2];
        CHECK(std::abs(half.at(x, y)[2] - (a + b + c + d) / 4.0) <= 1);
      }
    CHECK(largest_difference(resize_image(im, 37, 23, Filter::bicubic), im) == 0);
    CHECK_THROWS_AS((void)resize_image(im, 0, 4, Filter::box), const Error&);
    CHECK_THROWS_AS((void)resize_image(Image(), 4, 4, Filter::box), const Error&);
  }

  TEST_CASE("ADM's centre crop") {
    for (const auto& [w, h] : {std::pair{64, 64},
                               {100, 70},
                               {71, 134},
                               {31, 40},
                               {256, 300},
                               {63, 65},
                               {1, 9},
                               {1000, 17}}) {
      CAPTURE(w);
      CAPTURE(h);
      const Image im = ramp(w, h);
      const Image out = adm_center_crop(im, 32);
      CHECK(out.width == 32);
      CHECK(out.height == 32);
      Image in = im;
      while (std::min(in.width, in.height) >= 64)
        in = naive_resize(in, in.width / 2, in.height / 2, Filter::box);
      const double scale = 32.0 / std::min(in.width, in.height);
      const int cw = static_cast<int>(std::nearbyint(in.width * scale)),
                ch = static_cast<int>(std::nearbyint(in.height * scale));
      if (cw * ch > 32 * 400) continue;  // the naive filter takes too long
      in = naive_resize(in, cw, ch, Filter::bicubic);
      Image expected(32, 32);
      for (int y = 0; y < 32; ++y)
        for (int x = 0; x < 32; ++x)
          std::copy_n(in.at(x + (cw - 32) / 2, y + (ch - 32) / 2), 3, expected.at(x, y));
      CHECK(largest_difference(out, expected) <= 2);
    }
    const Image exact = ramp(32, 32);
    CHECK(largest_difference(adm_center_crop(exact, 32), exact) == 0);
    CHECK_THROWS_AS((void)adm_center_crop(exact, 0), const Error&);
    CHECK_THROWS_AS((void)adm_center_crop(Image(), 8), const Error&);
  }

  TEST_CASE("random crop, flip, grid") {
    const Image wide = ramp(64, 32);
    CHECK(random_crop(wide, 32, 0, 0).at(0, 0)[0] == wide.at(0, 0)[0]);
    CHECK(random_crop(wide, 32, 0.9999, 0).at(31, 5)[0] == wide.at(63, 5)[0]);
    const Image middle = random_crop(wide, 32, 0.5, 0.3);
    CHECK(middle.at(0, 9)[0] == wide.at(16, 9)[0]);
    for (const double u : {0.0, 0.3, 0.999999}) {
      const Image out = random_crop(ramp(33, 77), 24, u, u);
      CHECK((out.width == 24 && out.height == 24));
    }
    const Image f = flip_horizontal(wide);
    CHECK(f.at(0, 3)[0] == 255);
    CHECK(f.at(3, 7)[2] == wide.at(60, 7)[2]);
    CHECK(largest_difference(flip_horizontal(f), wide) == 0);
    const Image g = image_grid({exact_colour(1), exact_colour(2), exact_colour(3)}, 2, 1);
    CHECK((g.width == 5 && g.height == 5));
    CHECK((g.at(0, 0)[0] == 1 && g.at(3, 1)[0] == 2 && g.at(1, 4)[0] == 3));
    CHECK((g.at(2, 0)[0] == 255 && g.at(4, 4)[0] == 255));
    CHECK_THROWS_AS((void)image_grid({}, 2), const Error&);
    CHECK_THROWS_AS((void)image_grid({wide, f, exact_colour(1)}, 2), const ShapeError&);
  }

  TEST_CASE("tensors and back") {
    const Image im = picture(16, 16);
    Tensor t({3, 16, 16}, DType::f32);
    image_to_tensor(im, t);
    const auto v = t.values<float>();
    CHECK(v[0] == doctest::Approx(im.at(0, 0)[0] / 127.5 - 1).epsilon(1e-6));
    CHECK(v[2 * 256 + 16 * 3 + 5] == doctest::Approx(im.at(5, 3)[2] / 127.5 - 1).epsilon(1e-6));
    CHECK(*std::max_element(v.begin(), v.end()) <= 1);
    CHECK(*std::min_element(v.begin(), v.end()) >= -1);
    CHECK(largest_difference(tensor_to_image(t), im) == 0);
    CHECK(largest_difference(tensor_to_image(t.to(DType::f64)), im) == 0);
    // Rounded, clipped; what is no number is black.
    const Tensor odd = Tensor::from<float>(
        {-3.0f, 9.0f, NAN, -1 + 99.6f / 127.5f, -1 + 99.4f / 127.5f, INFINITY}, {3, 1, 2});
    const Image o = tensor_to_image(odd);
    CHECK((o.at(0, 0)[0] == 0 && o.at(1, 0)[0] == 255));
    CHECK((o.at(0, 0)[1] == 0 && o.at(1, 0)[1] == 100));
    CHECK((o.at(0, 0)[2] == 99 && o.at(1, 0)[2] == 255));
    Tensor wrong({3, 8, 8}, DType::f32);
    CHECK_THROWS_AS(image_to_tensor(im, wrong), const ShapeError&);
    CHECK_THROWS_AS((void)tensor_to_image(Tensor::zeros({1, 8, 8})), const ShapeError&);
  }

  TEST_CASE("a folder of photographs") {
    const TempDir dir;
    for (const char* c : {"zebra", "ant", "empty"}) fs::create_directories(dir / c);
    fs::create_directories(dir / "ant/deep");
    write_png(dir / "zebra/b.png", picture(40, 50));
    write_jpeg(dir / "zebra/a.JPG", picture(90, 33), TJSAMP_444, 95);
    write_png(dir / "ant/deep/x.png", picture(16, 16, 9));
    write_png(dir / "ant/y.png", picture(200, 20));
    spill(dir / "ant/notes.txt", "no picture");
    ImageFolderOptions o;
    o.root = dir.path(), o.resolution = 16;
    const auto data = make_image_folder(o);
    CHECK(data->size() == 4);
    CHECK(data->resolution() == 16);
    CHECK(data->class_names() == std::vector<std::string>{"ant", "empty", "zebra"});
    const RandomKey key{3};
    CHECK(largest_difference(data->load(0, key).image, picture(16, 16, 9)) == 0);
    for (int64_t i = 0; i < 4; ++i) {
      const auto item = data->load(i, key);
      CHECK((item.image.width == 16 && item.image.height == 16));
      CHECK(item.label == (i < 2 ? 0 : 2));
    }
    CHECK(largest_difference(data->load(2, key).image,
                             adm_center_crop(read_image(dir / "zebra/a.JPG"), 16)) == 0);
    // Flips are decided by the key alone.
    o.random_flip = true;
    const auto flipped = make_image_folder(o);
    int flips = 0;
    for (uint64_t k = 0; k < 40; ++k) {
      const Image im = flipped->load(0, {k * 7919}).image;
      const bool straight = largest_difference(im, picture(16, 16, 9)) == 0;
      CHECK((straight || largest_difference(flip_horizontal(im), picture(16, 16, 9)) == 0));
      flips += straight ? 0 : 1;
      CHECK(largest_difference(im, flipped->load(0, {k * 7919}).image) == 0);
    }
    CHECK((flips > 8 && flips < 32));
    o.random_crop = true, o.resolution = 8;
    CHECK(make_image_folder(o)->load(3, key).image.width == 8);
  }

  TEST_CASE("broken files are named once and replaced by the next") {
    const TempDir dir;
    fs::create_directories(dir / "a");
    fs::create_directories(dir / "b");
    spill(dir / "a/1.png", "broken");
    write_png(dir / "a/2.png", picture(16, 16, 1));
    write_png(dir / "b/3.png", picture(16, 16, 2));
    const std::string whole = slurp(dir / "b/3.png");
    spill(dir / "b/4.png", whole.substr(0, whole.size() / 2));
    ImageFolderOptions o;
    o.root = dir.path(), o.resolution = 16;
    const auto data = make_image_folder(o);
    const Log log;
    for (int k = 0; k < 3; ++k) {
      const auto first = data->load(0, {1}), last = data->load(3, {1});
      CHECK(largest_difference(first.image, picture(16, 16, 1)) == 0);
      CHECK(first.label == 0);
      // After the last comes the first, which is broken, too.
      CHECK(largest_difference(last.image, picture(16, 16, 1)) == 0);
      CHECK(last.label == 0);
    }
    CHECK(log.count("1.png") == 1);
    CHECK(log.count("4.png") == 1);
    spill(dir / "a/2.png", ""), spill(dir / "b/3.png", "");
    CHECK(contains(error_of([&] { (void)data->load(0, {1}); }), "none of the 4 images"));
    const TempDir empty;
    o.root = empty.path();
    CHECK(contains(error_of([&] { (void)make_image_folder(o); }), "holds no images"));
    o.root = empty / "missing";
    CHECK(contains(error_of([&] { (void)make_image_folder(o); }), "no such folder"));
  }

  TEST_CASE("the batik data set") {
    BatikDatasetOptions o;
    o.classes = {"parang", "kawung"}, o.num_per_class = 3, o.resolution = 32, o.seed = 4;
    const auto data = make_batik_dataset(o);
    CHECK(data->size() == 6);
    CHECK(data->class_names() == o.classes);
    for (int64_t i = 0; i < 6; ++i) {
      const auto item = data->load(i, {1});
      CHECK(item.label == i / 3);
      CHECK(largest_difference(item.image,
                               draw_batik(batik_class(o.classes[static_cast<size_t>(i / 3)]), 32, 4,
                                          static_cast<uint64_t>(i % 3))) == 0);
      CHECK(largest_difference(item.image, data->load(i, {2}).image) == 0);  // drawn once
    }
    o.classes.clear(), o.num_classes = 5;
    CHECK(make_batik_dataset(o)->class_names().size() == 5);
    Object config = make_object("data.BatikDataset", ClassKind::dataset);
    config.as<BatikDatasetOptions>().num_per_class = 2;
    CHECK(make_dataset(config)->size() == 40);
    CHECK_THROWS_AS((void)make_dataset(Object{}), const ConfigError&);
  }

  TEST_CASE("batches: a permutation of each epoch, for any number of workers") {
    const Numbered data(23);
    const auto batches = [&](int64_t workers, int64_t n) {
      BatchLoader loader(data, {.batch_size = 5, .workers = workers, .prefetch = 2, .seed = 3});
      CHECK(loader.batches_per_epoch() == 5);
      std::vector<Batch> all;
      for (int64_t i = 0; i < n; ++i) all.push_back(loader.next());
      return all;
    };
    const auto one = batches(1, 12);
    for (const int64_t workers : {0, 2, 4}) {
      const auto other = batches(workers, 12);
      for (size_t i = 0; i < 12; ++i) CHECK(same(one[i], other[i]));
    }
    std::vector<std::vector<int64_t>> epochs;
    for (size_t e = 0; e < 2; ++e) {
      std::vector<int64_t> seen;
      for (size_t i = 0; i < 5; ++i) {
        const Batch& b = one[5 * e + i];
        CHECK(b.epoch == static_cast<int64_t>(e));
        CHECK(b.index == static_cast<int64_t>(i));
        CHECK(b.last_of_epoch == (i == 4));
        CHECK(b.x.shape() == Shape{i == 4 ? 3 : 5, 3, 2, 2});  // the last one is what is left
        for (size_t k = 0; k < b.samples.size(); ++k) CHECK(b.samples[k] == 23 * e + 5 * i + k);
        const auto y = b.y.values<int64_t>();
        const auto x = b.x.values<float>();
        for (size_t k = 0; k < y.size(); ++k) {
          CHECK(std::abs(x[k * 12] - (static_cast<float>(y[k]) / 127.5f - 1)) < 1e-6f);
          seen.push_back(y[k]);
        }
      }
      epochs.push_back(seen);
      std::sort(seen.begin(), seen.end());
      for (int64_t i = 0; i < 23; ++i) CHECK(seen[static_cast<size_t>(i)] == i);
    }
    CHECK(epochs[0] != epochs[1]);
    CHECK_FALSE(std::is_sorted(epochs[0].begin(), epochs[0].end()));
    // Seek, before the start and later.
    BatchLoader loader(data, {.batch_size = 5, .workers = 2, .seed = 3});
    loader.seek(1, 3);
    CHECK(same(loader.next(), one[8]));
    CHECK(same(loader.next(), one[9]));
    loader.seek(0, 1);
    CHECK(same(loader.next(), one[1]));
    loader.seek(2, 0);
    CHECK(same(loader.next(), one[10]));
    BatchLoader seeded(data, {.batch_size = 5, .seed = 4});
    CHECK_FALSE(same(seeded.next(), one[0]));
    CHECK_THROWS_AS(BatchLoader(data, {.batch_size = 0}), const Error&);
    BatchLoader large(data, {.batch_size = 100, .seed = 3});
    CHECK(large.batches_per_epoch() == 1);
    CHECK(large.next().x.dim(0) == 23);
  }

  TEST_CASE("an exception of a worker reaches next()") {
    const Numbered data(8, 5);
    for (const int64_t workers : {1, 3}) {
      BatchLoader loader(data, {.batch_size = 2, .workers = workers, .seed = 1});
      CHECK(contains(error_of([&] {
                       for (int i = 0; i < 4; ++i) (void)loader.next();
                     }),
                     "image 5 is broken"));
      CHECK(contains(error_of([&] { (void)loader.next(); }), "image 5 is broken"));
      loader.seek(0, 0);  // and the threads can be started anew
      CHECK(contains(error_of([&] {
                       for (int i = 0; i < 4; ++i) (void)loader.next();
                     }),
                     "image 5 is broken"));
    }
  }
}
