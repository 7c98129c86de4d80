#include "tenun/train/batik/batik.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "tenun/core/check.h"
#include "tenun/core/font.h"
#include "tenun/train/batik/finish.h"
#include "tenun/train/batik/motifs.h"
#include "tenun/train/batik/palettes.h"

namespace tenun {
namespace {

struct Motif {
  const char* name;
  batik::DrawMotif draw;
  float crackle, waver;
};

constexpr std::array<Motif, 20> kMotifs = {{
    {"bali", batik::draw_bali, 0.7f, 1},
    {"betawi", batik::draw_betawi, 0.5f, 1},
    {"celup", batik::draw_celup, 0, 2.5f},
    {"cendrawasih", batik::draw_cendrawasih, 0.6f, 1},
    {"ceplok", batik::draw_ceplok, 1, 1},
    {"ciamis", batik::draw_ciamis, 0.6f, 1},
    {"garutan", batik::draw_garutan, 0.5f, 1},
    {"gentongan", batik::draw_gentongan, 1, 1},
    {"kawung", batik::draw_kawung, 1.2f, 1},
    {"keraton", batik::draw_keraton, 0.7f, 1},
    {"lasem", batik::draw_lasem, 0.8f, 1},
    {"megamendung", batik::draw_megamendung, 1, 1},
    {"parang", batik::draw_parang, 1, 1},
    {"pekalongan", batik::draw_pekalongan, 0.5f, 1},
    {"priangan", batik::draw_priangan, 0.5f, 1},
    {"sekar", batik::draw_sekar, 0.8f, 1},
    {"sidoluhur", batik::draw_sidoluhur, 0.9f, 1},
    {"sidomukti", batik::draw_sidomukti, 0.9f, 1},
    {"sogan", batik::draw_sogan, 1, 1},
    {"tambal", batik::draw_tambal, 0.8f, 1},
}};

}  // namespace

const std::vector<std::string>& batik_class_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Motif& m : kMotifs) list.emplace_back(m.name);
    return list;
  }();
  return names;
}

int batik_class(std::string_view name) {
  const auto& names = batik_class_names();
  const auto found = std::lower_bound(names.begin(), names.end(), name);
  check(found != names.end() && *found == name, "batik",
        "no class is named '{}'; the classes are {}", name, fmt::join(names, ", "));
  return static_cast<int>(found - names.begin());
}

const std::vector<int>& batik_quickstart_classes() {
  static const std::vector<int> four = {batik_class("ceplok"), batik_class("kawung"),
                                        batik_class("megamendung"), batik_class("parang")};
  return four;
}

Image draw_batik(int cls, int size, uint64_t seed, uint64_t index) {
  check(cls >= 0 && cls < static_cast<int>(kMotifs.size()), "draw_batik",
        "class {} is not in 0..{}", cls, kMotifs.size() - 1);
  check(size >= 8 && size <= 4096, "draw_batik", "size {} is not in 8..4096 pixels", size);
  const Motif& motif = kMotifs[static_cast<size_t>(cls)];
  const batik::Rng rng(seed, cls, index);
  batik::Rng vat = rng.fork(1);
  const auto families = batik::dye_families(cls);
  const auto family = static_cast<size_t>(vat.below(static_cast<int>(families.size())));
  const batik::Dyes dyes = batik::another_vat(families[family], vat);
  // Outlines that lie over each other mix slightly wrong within one pixel. Where motifs are only a
  // few pixels wide that would show, so small pictures are drawn at twice their size.
  const bool small = size < 128;
  batik::Canvas canvas(small ? 2 * size : size, dyes.ground);
  motif.draw(batik::Pen(canvas), rng.fork(2), dyes);
  if (small) canvas = canvas.halved();
  return batik::finish(canvas, rng.fork(3),
                       {.crack = batik::mix(dyes.line, dyes.ground, 0.3f),
                        .crackle = motif.crackle,
                        .waver = motif.waver});
}

Image batik_contact_sheet(std::span<const int> classes, int per_class, int size, uint64_t seed,
                          int columns) {
  check(!classes.empty() && per_class > 0 && columns > 0, "batik_contact_sheet",
        "needs at least one class, one picture of each and one column");
  const int gap = std::max(2, size / 16), scale = std::max(1, size / 64);
  const int count = static_cast<int>(classes.size()), rows = (count + columns - 1) / columns;
  int label = 0;
  for (const int cls : classes)
    label = std::max(label, text_width(batik_class_names().at(static_cast<size_t>(cls)), scale));
  const int column_width = 2 * gap + label + per_class * (size + gap);
  Image sheet(columns * column_width, gap + rows * (size + gap));
  std::fill(sheet.rgb.begin(), sheet.rgb.end(), uint8_t{250});
  for (int i = 0; i < count; ++i) {
    const int cls = classes[static_cast<size_t>(i)];
    const int left = i / rows * column_width + gap, top = gap + i % rows * (size + gap);
    draw_text(sheet, left, top + (size - kGlyphHeight * scale) / 2,
              batik_class_names()[static_cast<size_t>(cls)], {40, 32, 28}, scale);
    for (int k = 0; k < per_class; ++k) {
      const Image picture = draw_batik(cls, size, seed, static_cast<uint64_t>(k));
      const int x = left + label + gap + k * (size + gap);
      for (int line = 0; line < size; ++line)
        std::copy_n(picture.at(0, line), 3 * size, sheet.at(x, top + line));
    }
  }
  return sheet;
}

}  // namespace tenun
