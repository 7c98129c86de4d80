// What a training step owes to its samples: randomness by their numbers, gradients of their loss,
// pictures as if they had been decoded in full.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "tenun/core/io/image_file.h"
#include "tenun/tests/jpeg_util.h"
#include "tenun/tests/train_util.h"
#include "tenun/train/data/dataset.h"
#include "tenun/train/data/transforms.h"

namespace {
using namespace tenun;
using namespace tenun::test;
namespace fs = std::filesystem;

// Four blocks, of which the middle two drop half of everything.
const std::string kDrop = "--model.denoiser.init_args={depth: 4, proj_drop: 0.5, attn_drop: 0.5}";

// Smooth areas, edges and fine texture.
Image photograph(int w, int h) {
  Image im(w, h);
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) {
      const double u = static_cast<double>(x) / w, v = static_cast<double>(y) / h;
      const bool disc = (u - 0.4) * (u - 0.4) + (v - 0.55) * (v - 0.55) < 0.06;
      const double fine = 20 * std::sin(0.9 * x) * std::sin(0.7 * y);
      const auto byte = [](double c) { return static_cast<uint8_t>(std::clamp(c, 0.0, 255.0)); };
      im.at(x, y)[0] = byte(disc ? 220 + fine : 60 + 120 * u);
      im.at(x, y)[1] = byte(disc ? 90 : 80 + 100 * v + fine);
      im.at(x, y)[2] = byte(200 - 150 * u * v);
    }
  return im;
}

struct Distance {
  double mean = 0;
  int most = 0;
};
Distance distance(const Image& a, const Image& b) {
  REQUIRE(a.rgb.size() == b.rgb.size());
  Distance d;
  for (size_t i = 0; i < a.rgb.size(); ++i) {
    const int off = std::abs(a.rgb[i] - b.rgb[i]);
    d.mean += static_cast<double>(off) / static_cast<double>(a.rgb.size());
    d.most = std::max(d.most, off);
  }
  return d;
}

}  // namespace

TEST_SUITE("train_steps") {
  TEST_CASE("dropout does not depend on how samples are put into batches") {
    const Quiet quiet;
    const TempDir dir;
    const std::vector<std::string> common{kDrop, "--trainer.max_steps=40"};
    const auto losses = [&](const std::string& name, std::vector<std::string> more) {
      more.insert(more.begin(), common.begin(), common.end());
      (void)go(dir / name, more);
      std::vector<double> all;
      for (const Json& r : rows(dir / name))
        if (r.find("step") != nullptr) all.push_back(r.at("loss").as_double());
      REQUIRE(all.size() == 40);
      return all;
    };
    const auto whole = losses("whole", {}),
               halves = losses(
                   "halves", {"--data.train_batch_size=2", "--trainer.accumulate_grad_batches=2"}),
               dry = losses("dry", {"--model.denoiser.init_args.proj_drop=0",
                                    "--model.denoiser.init_args.attn_drop=0"});
    double off = 0, effect = 0;
    for (size_t i = 0; i < whole.size(); ++i) {
      off = std::max(off, std::abs(whole[i] - halves[i]));
      effect = std::max(effect, std::abs(whole[i] - dry[i]));
    }
    INFO(effect, " ", off);
    CHECK(effect > 1e-4);  // dropout is at work
    CHECK(off < effect / 20);
  }

  TEST_CASE("monitors see the gradients of the loss, whatever it was scaled by") {
    const Quiet quiet;
    const TempDir dir;
    for (const char* norm : {"2", ".inf"}) {
      CAPTURE(norm);
      const std::string run = dir / (std::string("a") + norm);
      (void)go(run, {"--trainer.max_steps=3", "--trainer.precision=16-mixed",
                     std::string("--trainer.callbacks=[{class_path: GradientMonitor, init_args: "
                                 "{norm_type: ") +
                         norm + "}}]"});
      int seen = 0;
      for (const Json& r : rows(run)) {
        if (r.find("train/grad/total") == nullptr) continue;
        CHECK(r.at("loss_scale").as_double() > 1);
        const double total = r.at("train/grad/total").as_double(),
                     exact = r.at("grad_norm").as_double();
        if (std::string(norm) == "2")
          CHECK(std::abs(total - exact) < 1e-6 * exact);
        else
          CHECK((total > 0 && total <= exact));
        ++seen;
      }
      CHECK(seen == 3);
    }
  }

  TEST_CASE("large photographs are decoded smaller, and look the same") {
    const TempDir dir;
    fs::create_directories(dir / "a");
    write_jpeg(dir / "a/1.jpg", photograph(1200, 900), TJSAMP_420, 92);
    write_jpeg(dir / "a/2.jpg", photograph(230, 250), TJSAMP_420,
               92);  // less than four times the resolution
    ImageFolderOptions o;
    o.root = dir.path(), o.resolution = 64;
    const Image large = read_image(dir / "a/1.jpg"), small = read_image(dir / "a/2.jpg");
    CHECK(read_image(dir / "a/1.jpg", {.min_size = 128}).width == 300);
    const auto centre = make_image_folder(o);
    const Distance d = distance(centre->load(0, {1}).image, adm_center_crop(large, 64));
    CHECK(d.most > 0);  // it is not the full decoding
    CHECK(d.most <= 12);
    CHECK(d.mean < 1.5);
    CHECK(distance(centre->load(1, {1}).image, adm_center_crop(small, 64)).most == 0);
    o.random_crop = true;
    const RandomKey key{3};
    Image want = random_crop(large, 64, key.uniform(0), key.uniform(1));
    if (key.uniform(2) < 0.5f) want = flip_horizontal(want);
    const Distance r = distance(make_image_folder(o)->load(0, key).image, want);
    CHECK(r.most <= 16);
    CHECK(r.mean < 1.5);
  }
}
