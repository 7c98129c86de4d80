#include "tenun/train/data/dataset.h"

#include <algorithm>
#include <filesystem>
#include <mutex>
#include <set>

#include "tenun/core/check.h"
#include "tenun/core/io/image_file.h"
#include "tenun/core/log.h"
#include "tenun/train/batik/batik.h"
#include "tenun/train/config/config.h"
#include "tenun/train/data/transforms.h"

namespace tenun {
namespace {

namespace fs = std::filesystem;

bool is_image(const fs::path& p) {
  std::string e = p.extension().string();
  std::transform(e.begin(), e.end(), e.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  static const std::set<std::string> known = {".jpg", ".jpeg", ".png",  ".ppm", ".bmp",
                                              ".pgm", ".tif",  ".tiff", ".webp"};
  return known.contains(e);
}

class ImageFolder final : public Dataset {
 public:
  explicit ImageFolder(const ImageFolderOptions& o) : o_(o) {
    const fs::path root = expand_home(o.root);
    check<IoError>(fs::is_directory(root), o.root,
                   "no such folder; PixImageNet needs a folder with one subfolder for each class");
    std::vector<fs::path> classes;
    for (const auto& e : fs::directory_iterator(root))
      if (e.is_directory()) classes.push_back(e.path());
    std::sort(classes.begin(), classes.end());
    for (size_t c = 0; c < classes.size(); ++c) {
      names_.push_back(classes[c].filename().string());
      std::vector<std::string> files;
      for (const auto& e : fs::recursive_directory_iterator(classes[c]))
        if (e.is_regular_file() && is_image(e.path())) files.push_back(e.path().string());
      std::sort(files.begin(), files.end());
      for (std::string& f : files) files_.push_back({std::move(f), static_cast<int64_t>(c)});
    }
    check<IoError>(!files_.empty(), o.root,
                   "holds no images; expected class folders with JPEG or PNG files");
  }

  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  int resolution() const override { return static_cast<int>(o_.resolution); }
  const std::vector<std::string>& class_names() const override { return names_; }

  Item load(int64_t index, RandomKey key) const override {
    for (int64_t tries = 0; tries < size(); ++tries) {
      const File& f = files_[static_cast<size_t>((index + tries) % size())];
      Image im;
      try {
        im = read_image(f.path, {.min_size = 2 * std::min(resolution(), 1 << 29)});
      } catch (const IoError& e) {
        logging::warn_once(fmt::format("{}; skipped, the next image takes its place", e.what()));
        continue;
      }
      im = o_.random_crop ? random_crop(im, resolution(), key.uniform(0), key.uniform(1))
                          : adm_center_crop(im, resolution());
      if ((o_.random_flip || o_.random_crop) && key.uniform(2) < 0.5f) im = flip_horizontal(im);
      return {std::move(im), f.label};
    }
    fail<IoError>(o_.root, "none of the {} images can be read", size());
  }

 private:
  struct File {
    std::string path;
    int64_t label;
  };
  ImageFolderOptions o_;
  std::vector<std::string> names_;
  std::vector<File> files_;
};

class BatikDataset final : public Dataset {
 public:
  explicit BatikDataset(const BatikDatasetOptions& o) : o_(o) {
    if (o.classes.empty()) {
      for (int64_t c = 0; c < o.num_classes; ++c) classes_.push_back(static_cast<int>(c));
    } else {
      for (const std::string& n : o.classes) classes_.push_back(batik_class(n));
    }
    for (const int c : classes_) names_.push_back(batik_class_names()[static_cast<size_t>(c)]);
    cache_.resize(static_cast<size_t>(size()));
  }
  int64_t size() const override { return static_cast<int64_t>(classes_.size()) * o_.num_per_class; }
  int resolution() const override { return static_cast<int>(o_.resolution); }
  const std::vector<std::string>& class_names() const override { return names_; }

  Item load(int64_t index, RandomKey key) const override {
    const int64_t label = index / o_.num_per_class;
    Image im;
    {
      const std::lock_guard lock(mutex_);
      im = cache_[static_cast<size_t>(index)];
    }
    if (im.width == 0) {
      im = draw(label, index % o_.num_per_class);
      // Small pictures are kept: drawing one costs more than a step of a small network on it.
      const std::lock_guard lock(mutex_);
      if (cached_ + im.rgb.size() <= kCacheBytes && cache_[static_cast<size_t>(index)].width == 0) {
        cache_[static_cast<size_t>(index)] = im;
        cached_ += im.rgb.size();
      }
    }
    if (o_.random_flip && key.uniform(2) < 0.5f) im = flip_horizontal(im);
    return {std::move(im), label};
  }

 private:
  [[nodiscard]] Image draw(int64_t label, int64_t number) const {
    const int zoom = static_cast<int>(o_.zoom);
    Image whole = draw_batik(classes_[static_cast<size_t>(label)], resolution() * zoom,
                             static_cast<uint64_t>(o_.seed), static_cast<uint64_t>(number));
    if (zoom == 1) return whole;
    const RandomKey key =
        RandomKey::derive(static_cast<uint64_t>(o_.seed), Purpose::data,
                          static_cast<uint64_t>(label), static_cast<uint64_t>(number));
    return cut_window(whole, resolution(), key.uniform(0), key.uniform(1));
  }
  static constexpr size_t kCacheBytes = size_t{256} << 20;
  BatikDatasetOptions o_;
  std::vector<int> classes_;
  std::vector<std::string> names_;
  mutable std::mutex mutex_;
  mutable std::vector<Image> cache_;
  mutable size_t cached_ = 0;
};

}  // namespace

std::unique_ptr<Dataset> make_image_folder(const ImageFolderOptions& o) {
  return std::make_unique<ImageFolder>(o);
}
std::unique_ptr<Dataset> make_batik_dataset(const BatikDatasetOptions& o) {
  return std::make_unique<BatikDataset>(o);
}

std::unique_ptr<Dataset> make_dataset(const Object& config) {
  if (config.is<ImageFolderOptions>()) return make_image_folder(config.as<ImageFolderOptions>());
  if (config.is<BatikDatasetOptions>()) return make_batik_dataset(config.as<BatikDatasetOptions>());
  check<ConfigError>(!config.empty(), "data.train_dataset",
                     "is missing; use PixImageNet (a folder of class folders) or BatikDataset");
  fail<ConfigError>("data.train_dataset", "'{}' yields no images; use PixImageNet or BatikDataset",
                    config.class_path());
}

}  // namespace tenun
