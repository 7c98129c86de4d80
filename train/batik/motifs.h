// The twenty motifs, one function each: paints the whole cloth, in the dyes given, on a pen whose
// unit is the picture's side. Every choice comes from `rng`.
#pragma once
#include "tenun/train/batik/ornaments.h"

namespace tenun::batik {

using DrawMotif = void (*)(const Pen& pen, Rng rng, const Dyes& dyes);

// motifs_geometric.cc: court geometry.
void draw_kawung(const Pen& pen, Rng rng, const Dyes& dyes);
void draw_parang(const Pen& pen, Rng rng, const Dyes& dyes);
void draw_ceplok(const Pen& pen, Rng rng, const Dyes& dyes);
// motifs_diagonal.cc: lereng, fine diagonal bands.
void draw_ciamis(const Pen& pen, Rng rng, const Dyes& dyes);
void draw_garutan(const Pen& pen, Rng rng, const Dyes& dyes);
void draw_priangan(const Pen& pen, Rng rng, const Dyes& dyes);
// motifs_court.cc: symbols in frames, and semen.
void draw_sidoluhur(const Pen& pen, Rng rng, const Dyes& dyes);
void draw_sidomukti(const Pen& pen, Rng rng, const Dyes& dyes);
void draw_keraton(const Pen& pen, Rng rng, const Dyes& dyes);
// motifs_patch.cc: many motifs on one cloth.
void draw_tambal(const Pen& pen, Rng rng, const Dyes& dyes);
void draw_sekar(const Pen& pen, Rng rng, const Dyes& dyes);
// motifs_flower.cc: plants.
void draw_bali(const Pen& pen, Rng rng, const Dyes& dyes);
void draw_gentongan(const Pen& pen, Rng rng, const Dyes& dyes);
void draw_pekalongan(const Pen& pen, Rng rng, const Dyes& dyes);
void draw_sogan(const Pen& pen, Rng rng, const Dyes& dyes);
// motifs_figure.cc: birds and people.
void draw_betawi(const Pen& pen, Rng rng, const Dyes& dyes);
void draw_cendrawasih(const Pen& pen, Rng rng, const Dyes& dyes);
void draw_lasem(const Pen& pen, Rng rng, const Dyes& dyes);
// motifs_field.cc: clouds and tie-dye.
void draw_celup(const Pen& pen, Rng rng, const Dyes& dyes);
void draw_megamendung(const Pen& pen, Rng rng, const Dyes& dyes);

}  // namespace tenun::batik
