#include "tenun/train/batik/palettes.h"

namespace tenun::batik {
namespace {

constexpr Dyes set(uint32_t ground, uint32_t wax, uint32_t line, uint32_t main, uint32_t second,
                   uint32_t third) {
  return {hex(ground), hex(wax), hex(line), hex(main), hex(second), hex(third)};
}

constexpr std::array kBali = {set(0x1d2b33, 0xfbf3e2, 0x101a20, 0xd9662a, 0xe9a23b, 0x2f8f83),
                              set(0x3b1f4a, 0xfaf0e6, 0x1f0f2a, 0xc8357a, 0xee9a4d, 0x6a4fa3),
                              set(0x0f4f54, 0xfdf4df, 0x072a2e, 0xe2762f, 0xf2c14e, 0x1f9a8a)};
constexpr std::array kBetawi = {set(0xee7a1d, 0xfff4d6, 0x3a1a3a, 0xd62f52, 0x1f9c6b, 0xffd23f),
                                set(0x169a74, 0xfff6dc, 0x16324a, 0xe8452f, 0xf08a24, 0xffd84a),
                                set(0xe23d76, 0xfff3dc, 0x35164a, 0x1b9aaa, 0xf29a1f, 0xffdf4f)};
constexpr std::array kCelup = {set(0x27348b, 0xf4f1ff, 0x131a4f, 0xe03a7c, 0x18a0b8, 0xf2a33a),
                               set(0x7a1d6d, 0xfff0f7, 0x420b3f, 0xf27c38, 0xe63f86, 0xf7c843),
                               set(0x0b6e6e, 0xf2fff8, 0x053c44, 0xf0b429, 0x5bbf5a, 0xe5533d)};
constexpr std::array kCendrawasih = {
    set(0x0f3d2e, 0xfaf0cf, 0x071f18, 0xf0b52b, 0xd9572b, 0x2e8b57),
    set(0x123b2a, 0xfff2c8, 0x081c14, 0xe8cf4a, 0xe07f2c, 0x3f8f3a),
    set(0x0d4237, 0xf7efd8, 0x06201b, 0xf4c84a, 0xc8452e, 0x1f8a7a)};
constexpr std::array kCeplok = {set(0x7d1f2b, 0xf6e6c4, 0x2e0d12, 0xb23a2e, 0xd9a441, 0x2f5d50),
                                set(0x8c2a1f, 0xfaeacb, 0x350f0d, 0x5a1622, 0xe0a93b, 0x356b4a),
                                set(0x6b1a33, 0xf7e4cc, 0x2a0a16, 0xa83246, 0xd69a4a, 0x3d5a78)};
constexpr std::array kCiamis = {set(0xf4ead2, 0xfbf5e6, 0x2a201a, 0x8a5a2e, 0xb98a52, 0x4a3423),
                                set(0xefe6d0, 0xf9f3e4, 0x1f2228, 0x7a4a28, 0xa97c4c, 0x3a3f4a),
                                set(0xf2e9d8, 0xfbf6ea, 0x33261c, 0x9a6a34, 0xc09a66, 0x54402e)};
constexpr std::array kGarutan = {set(0xf3dfb0, 0xfdf5df, 0x7a5a3a, 0xe08e79, 0x7fa8c9, 0x93b48b),
                                 set(0xf5e3bd, 0xfef7e6, 0x6a5f4f, 0x8fb7c9, 0xe2a46f, 0xc98aa0),
                                 set(0xf0dca6, 0xfdf4dc, 0x7a5248, 0xa7c08a, 0xd98f86, 0x86a3c8)};
constexpr std::array kGentongan = {set(0x14182e, 0xe9dfc0, 0x0a0c1a, 0xa82a2a, 0xc7902e, 0x2f6a4f),
                                   set(0x1c1420, 0xece0c4, 0x0c080f, 0xb03328, 0x2a5a8a, 0xc98a2c),
                                   set(0x101f2b, 0xe6dcc2, 0x070f16, 0x9a2436, 0x3a7a5a, 0xd0a03c)};
constexpr std::array kKawung = {set(0x3a2114, 0xf3e4c1, 0x241208, 0xa9713a, 0xc9985a, 0xb57b3c),
                                set(0x4a2a17, 0xf5e9cf, 0x2a150a, 0x8a5528, 0xd0a468, 0xc48b4a),
                                set(0x2c1a14, 0xefddb4, 0x180c08, 0x9c6230, 0xb98848, 0xa5662e)};
constexpr std::array kKeraton = {set(0xf0e2c2, 0xfbf3de, 0x2a1a14, 0x7a4722, 0xb98a4e, 0x23385f),
                                 set(0xead9b4, 0xf9efd6, 0x241a1c, 0x8a4f24, 0xc0904f, 0x1f3050),
                                 set(0xf3e8cf, 0xfdf6e6, 0x1f1a20, 0x6a3d20, 0xb08450, 0x2c4770)};
constexpr std::array kLasem = {set(0xf5e6cc, 0xfdf4e0, 0x3a0f14, 0xb5182b, 0x27457d, 0x3d6b4a),
                               set(0xa8152a, 0xfbecd2, 0x3d060f, 0xd8452f, 0x1f3a70, 0x2f6a55),
                               set(0xf1dfc4, 0xfcf2de, 0x44101c, 0xc4202c, 0x1f5a7a, 0x4a6a38)};
constexpr std::array kMegamendung = {
    set(0x1f6fc4, 0xf4f8ff, 0x0a2058, 0x2f7fd6, 0x7fb4ee, 0x123a86),
    set(0x0f4fa8, 0xf2f7ff, 0x061a4a, 0x2a74cf, 0x74aeea, 0x10367c),
    set(0x2a86d8, 0xf6faff, 0x0b2a66, 0x1f66bd, 0x8cc2f2, 0x143f8c),
    set(0x1a5fb4, 0xf3faff, 0x08284f, 0x1f8fd0, 0x7cc4ea, 0x0f4a86),
    set(0xc4202a, 0xfff3ea, 0x4a0812, 0xd8413a, 0xf29a86, 0x7d101c)};
constexpr std::array kParang = {set(0x1c2b4f, 0xf4efe2, 0x10182e, 0x2f4a80, 0x8a97b4, 0xb08a52),
                                set(0x23345a, 0xf7f2e6, 0x121b33, 0x3f5f96, 0xa5aebf, 0x8d6a42),
                                set(0x202a3c, 0xefeadf, 0x11161f, 0x4a5f80, 0x96a2b3, 0xa58a60)};
constexpr std::array kPekalongan = {
    set(0xf4b8c6, 0xfffaf2, 0x5a2a4a, 0xe0467c, 0x3f7fc4, 0xf08a3c),
    set(0x9fd8d4, 0xfffcf2, 0x1f4a5a, 0xe85a7a, 0xf0a030, 0x7a5ac0),
    set(0xf6dc8a, 0xfffbef, 0x5a3a2a, 0xe0503a, 0x3a8fc0, 0xc04a90),
    set(0xc9b6ea, 0xfffaf6, 0x3a2a5a, 0xe0508a, 0x3a9a9a, 0xf09a40)};
constexpr std::array kPriangan = {set(0x9fc4b0, 0xfbf8ea, 0x3a5a4f, 0x4f8f78, 0xd08a86, 0xe8c27a),
                                  set(0xb5c9a4, 0xfbfaea, 0x4a5a3a, 0x6f8f4a, 0xc98a5a, 0xd9a0a0),
                                  set(0xa3bfc4, 0xf8faf4, 0x3a4f5a, 0x4f8a90, 0xc08aa0, 0xe2c58a)};
constexpr std::array kSekar = {set(0x4a2a1c, 0xf6ead0, 0x24140e, 0xb0522a, 0x2f4f6f, 0xd0953a),
                               set(0x2f2a3a, 0xf7edd8, 0x181520, 0xa83a4a, 0x3f6f5f, 0xd8a548),
                               set(0x3a1f24, 0xf5e6d0, 0x1e0f12, 0x9a3b2e, 0x5a4a80, 0xc98f3f)};
constexpr std::array kSidoluhur = {set(0x131a30, 0xf5f0e0, 0x0a0f1e, 0x273c6b, 0x8f9bb5, 0x6a4a2c),
                                   set(0x14141a, 0xf3ecdc, 0x08080c, 0x3a3f50, 0xa58a62, 0x5a3f2a),
                                   set(0x10202f, 0xf4f0e4, 0x08121c, 0x24506a, 0x93a8b0, 0x74563a)};
constexpr std::array kSidomukti = {set(0x8a5226, 0xf6e3b8, 0x3a1d0e, 0xb5762f, 0xd9a65a, 0x5a3218),
                                   set(0x9a5a24, 0xf8e7c0, 0x40200e, 0xc07f34, 0xe0b066, 0x62381a),
                                   set(0x7d4722, 0xf4dfb0, 0x33190c, 0xaa6a2c, 0xd09a50, 0x502c16)};
constexpr std::array kSogan = {set(0xb8803c, 0xf4dca0, 0x43230f, 0x7a4218, 0xcf9a4c, 0xa85a1f),
                               set(0xa8702c, 0xf2d898, 0x3a1d0c, 0x6a3814, 0xc48c3e, 0x99501c),
                               set(0xc08a48, 0xf7e2ae, 0x4a2812, 0x854a1c, 0xd8a65c, 0xb0642a)};
constexpr std::array kTambal = {set(0x8a3f24, 0xf7ebd2, 0x2a1814, 0x28496e, 0xd39a3c, 0x4a6a4a),
                                set(0x6a2f3f, 0xf6ecd8, 0x26161f, 0x2f6f6a, 0xcf8f4a, 0x8a5a2c),
                                set(0x345a7a, 0xf8f0dc, 0x1a2430, 0xa84a2f, 0xe0b050, 0x6f7a4a)};

float shifted(float v, float gain, float lift) { return clamp01(v * gain + lift); }

}  // namespace

std::span<const Dyes> dye_families(int cls) {
  static constexpr std::array<std::span<const Dyes>, 20> kFamilies = {
      kBali,      kBetawi, kCelup,     kCendrawasih, kCeplok,      kCiamis, kGarutan,
      kGentongan, kKawung, kKeraton,   kLasem,       kMegamendung, kParang, kPekalongan,
      kPriangan,  kSekar,  kSidoluhur, kSidomukti,   kSogan,       kTambal};
  return kFamilies[static_cast<size_t>(cls)];
}

Dyes another_vat(const Dyes& dyes, Rng& rng) {
  const float gain = rng.uniform(0.92f, 1.07f), warm = rng.uniform(-0.012f, 0.03f);
  const float grey = rng.uniform(-0.1f, 0.07f);
  const auto vat = [&](Color c, float own) {
    const float l = luminance(c);
    const Color s = mix(c, {l, l, l}, grey);
    // Pale dyes vary less: a grey cream is no vat's doing.
    const float g = 1 + (gain * (1 + own) - 1) * (1.15f - 0.85f * l);
    return Color{shifted(s.r, g, warm), shifted(s.g, g, 0), shifted(s.b, g, -warm)};
  };
  const auto small = [&] { return rng.uniform(-0.05f, 0.05f); };
  Dyes out = dyes;
  out.ground = vat(dyes.ground, small());
  out.wax = mix(dyes.wax, vat(dyes.wax, 0), 0.5f);
  out.line = vat(dyes.line, small());
  out.main = vat(dyes.main, small());
  out.second = vat(dyes.second, small());
  out.third = vat(dyes.third, small());
  return out;
}

}  // namespace tenun::batik
