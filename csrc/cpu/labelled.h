// SupCon whole: a loss of rows whose partners are all other rows of the same label.
#pragma once

#include <cstdint>

#include "cpu/driver.h"

namespace jessl {

struct Labelling {
  const std::int64_t* labels;  // (N)
  bool mean_outside;           // the paper's form "out"; else "in"
  double weight;               // of each row's loss
  bool per_counted;            // divided by the number of rows that have a positive
  bool normalize;              // rows are divided by their norms first
};

// With P_i = log Σ_{p∈P(i)} e^{s_ip} and R_i the log-sum-exp over the rows of other labels, of rows that have a positive:
//
//   out   log(1 + e^{R_i − P_i}) + P_i − mean_p s_ip
//   in    log(1 + e^{R_i − P_i}) + log |P(i)|
//
// Σ weight · loss, and unless `out` is null its gradients by x and α, into zeros. The problem: dot scores of x with
// itself, nothing excluded, φ the identity.
template <class Real>
double labelled(const Problem&, const Options&, const Labelling&, const Gradients<Real>* out);

}  // namespace jessl
