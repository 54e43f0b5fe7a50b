// Losses of rows that count alike, each of which may have one partner, whole: the partner's score, the reduction over all others, and every gradient.
#pragma once

#include <cstdint>

#include "cpu/driver.h"

namespace jessl {

// What row i's loss makes of its reduction (L_i a log-sum-exp, R_i a sum of softplus) and of its partner's score t_i.
enum class Join {
  none,      // L_i or R_i: rows without partners
  anchor,    // log(1 + e^{L_i − t_i}): InfoNCE, CLIP, NT-Xent
  minus,     // L_i − t_i: DCL
  softplus,  // R_i + softplus(−t_i): SigLIP
};

struct Pairing {
  std::int64_t shift;  // row i's partner is column (i + shift) mod M, which the problem excludes
  Join join;
  bool normalize;  // rows of X and Y are divided by their norms first
  bool columns;    // a column's loss is added to its row's partner's; then N is M
  double weight;   // of each row's loss, and of each column's
};

// Σ weight · loss, and unless `out` is null its gradients, into zeros. With partners: dot scores, φ the identity.
template <class Real>
double paired(Problem, Op, Options, const Pairing&, const Gradients<Real>* out);

}  // namespace jessl
