// The procedural batik set: same bits everywhere, the same picture at every size, and classes that
// a very simple classifier tells apart.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <thread>

#include "tenun/core/error.h"
#include "tenun/core/font.h"
#include "tenun/train/batik/batik.h"

using namespace tenun;

namespace {

constexpr int kClasses = 20;

/// Means of k x k blocks.
Image shrink(const Image& image, int k) {
  Image out(image.width / k, image.height / k);
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x)
      for (int c = 0; c < 3; ++c) {
        int sum = 0;
        for (int j = 0; j < k; ++j)
          for (int i = 0; i < k; ++i) sum += image.at(x * k + i, y * k + j)[c];
        out.at(x, y)[c] = static_cast<uint8_t>(sum / (k * k));
      }
  return out;
}

double mean_difference(const Image& a, const Image& b) {
  double sum = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i) sum += std::abs(int{a.rgb[i]} - int{b.rgb[i]});
  return sum / static_cast<double>(a.rgb.size());
}

struct Tone {
  double mean, deviation;
};
Tone tone(const Image& image) {
  double sum = 0, squares = 0;
  const auto n = static_cast<double>(image.rgb.size() / 3);
  for (size_t i = 0; i < image.rgb.size(); i += 3) {
    const double l = 0.299 * image.rgb[i] + 0.587 * image.rgb[i + 1] + 0.114 * image.rgb[i + 2];
    sum += l;
    squares += l * l;
  }
  return {sum / n, std::sqrt(std::max(0.0, squares / n - sum * sum / (n * n)))};
}

/// 27 colour bins and 8 gradient directions, the latter without regard to sign.
std::vector<double> features(const Image& image) {
  std::vector<double> f(35, 0);
  const auto level = [&](int x, int y) {
    const uint8_t* p = image.at(x, y);
    return 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2];
  };
  double strength = 1e-9;
  for (int y = 0; y < image.height; ++y)
    for (int x = 0; x < image.width; ++x) {
      const uint8_t* p = image.at(x, y);
      f[static_cast<size_t>(p[0] / 86 * 9 + p[1] / 86 * 3 + p[2] / 86)] +=
          1.0 / (image.width * image.height);
      if (x == 0 || y == 0 || x + 1 == image.width || y + 1 == image.height) continue;
      const double gx = level(x + 1, y) - level(x - 1, y), gy = level(x, y + 1) - level(x, y - 1);
      const double angle = std::atan2(gy, gx) + 3.14159265358979;
      const auto bin = static_cast<size_t>(angle / 3.14159265358979 * 8 + 0.5) % 8;
      f[27 + bin] += std::hypot(gx, gy);
      strength += std::hypot(gx, gy);
    }
  for (size_t i = 27; i < 35; ++i) f[i] /= strength;
  return f;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

/// The share of held-out pictures whose nearest class centroid is their own.
double centroid_accuracy(const std::vector<int>& classes, int train, int held_out) {
  std::vector<std::vector<double>> centroids;
  for (const int cls : classes) {
    std::vector<double> mean(35, 0);
    for (int i = 0; i < train; ++i) {
      const auto f = features(draw_batik(cls, 64, 11, static_cast<uint64_t>(i)));
      for (size_t k = 0; k < f.size(); ++k) mean[k] += f[k] / train;
    }
    centroids.push_back(mean);
  }
  int right = 0;
  for (size_t c = 0; c < classes.size(); ++c)
    for (int i = 0; i < held_out; ++i) {
      const auto f = features(draw_batik(classes[c], 64, 12, static_cast<uint64_t>(i)));
      const auto nearest = std::min_element(
          centroids.begin(), centroids.end(),
          [&](const auto& a, const auto& b) { return distance(a, f) < distance(b, f); });
      right += static_cast<size_t>(nearest - centroids.begin()) == c;
    }
  return static_cast<double>(right) /
         static_cast<double>(classes.size() * static_cast<size_t>(held_out));
}

}  // namespace

TEST_SUITE("train_batik") {
  TEST_CASE("names are sorted and found again") {
    const auto& names = batik_class_names();
    REQUIRE(names.size() == kClasses);
    CHECK(std::is_sorted(names.begin(), names.end()));
    CHECK(names.front() == "bali");
    CHECK(names.back() == "tambal");
    for (int i = 0; i < kClasses; ++i) CHECK(batik_class(names[static_cast<size_t>(i)]) == i);
    CHECK_THROWS_AS((void)batik_class("plaid"), ValueError);
    CHECK(batik_quickstart_classes().size() == 4);
  }

  TEST_CASE("wrong classes and sizes are refused") {
    CHECK_THROWS_AS((void)draw_batik(-1, 64, 0, 0), ValueError);
    CHECK_THROWS_AS((void)draw_batik(20, 64, 0, 0), ValueError);
    CHECK_THROWS_AS((void)draw_batik(0, 0, 0, 0), ValueError);
    CHECK_THROWS_AS((void)draw_batik(0, 1 << 20, 0, 0), ValueError);
  }

  TEST_CASE("the same picture has the same bits, drawn twice and in several threads") {
    std::array<Image, kClasses> first, again;
    for (int c = 0; c < kClasses; ++c) first[static_cast<size_t>(c)] = draw_batik(c, 48, 5, 9);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        for (int c = t; c < kClasses; c += 4)
          again[static_cast<size_t>(c)] = draw_batik(c, 48, 5, 9);
      });
    for (auto& t : threads) t.join();
    for (size_t c = 0; c < kClasses; ++c) {
      CHECK(first[c].width == 48);
      CHECK(first[c].height == 48);
      CHECK(first[c].rgb.size() == 48u * 48u * 3u);
      CHECK(first[c].rgb == again[c].rgb);
    }
  }

  TEST_CASE("seed, class and index each change the picture") {
    for (int c = 0; c < kClasses; ++c) {
      const Image base = draw_batik(c, 64, 3, 4);
      CHECK(mean_difference(base, draw_batik(c, 64, 3, 5)) > 4);
      CHECK(mean_difference(base, draw_batik(c, 64, 4, 4)) > 4);
      CHECK(mean_difference(base, draw_batik(c, 64, 3, 4 + (uint64_t{1} << 40))) > 4);
      CHECK(mean_difference(base, draw_batik((c + 1) % kClasses, 64, 3, 4)) > 4);
    }
  }

  TEST_CASE("a picture is the same at every size") {
    for (int c = 0; c < kClasses; ++c) {
      const Image small = draw_batik(c, 64, 7, 2);
      const double apart = mean_difference(small, shrink(draw_batik(c, 256, 7, 2), 4));
      const double other = mean_difference(small, shrink(draw_batik(c, 256, 7, 3), 4));
      CAPTURE(batik_class_names()[static_cast<size_t>(c)]);
      CAPTURE(other);
      CHECK(apart < 11);
      CHECK(apart < 0.2 * other);
    }
  }

  TEST_CASE("no picture is flat, too dark or too light") {
    for (int c = 0; c < kClasses; ++c)
      for (uint64_t i = 0; i < 6; ++i) {
        const Tone t = tone(draw_batik(c, 64, 21, i));
        CAPTURE(batik_class_names()[static_cast<size_t>(c)]);
        CAPTURE(i);
        CHECK(t.mean > 25);
        CHECK(t.mean < 235);
        CHECK(t.deviation > 8);
      }
  }

  TEST_CASE("a nearest centroid tells the four quickstart classes apart") {
    CHECK(centroid_accuracy(batik_quickstart_classes(), 40, 30) >= 0.95);
  }

  TEST_CASE("a nearest centroid tells most of the twenty classes apart") {
    std::vector<int> all(kClasses);
    for (int c = 0; c < kClasses; ++c) all[static_cast<size_t>(c)] = c;
    CHECK(centroid_accuracy(all, 20, 15) >= 0.75);  // chance is 0.05
  }

  TEST_CASE("a contact sheet holds every picture") {
    const std::vector<int> classes = {0, 8};
    const Image sheet = batik_contact_sheet(classes, 3, 32, 1);
    CHECK(sheet.height == 2 + 2 * 34);
    CHECK(sheet.width == 4 + text_width("kawung") + 3 * 34);
    const Image picture = draw_batik(8, 32, 1, 2);
    const uint8_t* corner = sheet.at(sheet.width - 34, sheet.height - 34);
    CHECK(std::equal(picture.at(0, 0), picture.at(0, 0) + 32 * 3, corner));
    CHECK_THROWS_AS((void)batik_contact_sheet({}, 3, 32, 1), ValueError);
  }
}
