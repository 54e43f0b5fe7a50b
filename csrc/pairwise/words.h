// The words of the schema, as Python names them, for the files that know Python.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "pairwise/problem.h"

namespace jessl {

// The words are in the order of the enumeration.
template <class Enum>
Enum named(const std::string& word, std::initializer_list<const char*> words) {
  const auto found = std::find(words.begin(), words.end(), word);
  if (found == words.end()) throw std::invalid_argument("unknown word '" + word + "'");
  return Enum(found - words.begin());
}

inline Element element_named(const std::string& word) {
  return named<Element>(word, {"float32", "float64", "bfloat16", "float16"});
}
inline PhiName phi_named(const std::string& word) {
  return named<PhiName>(word,
                        {"identity", "clamp", "laplace", "student", "tophat", "epanechnikov", "linear", "cosine"});
}
inline Op op_named(const std::string& word) { return named<Op>(word, {"logsumexp", "softplus", "log1m_exp", "step"}); }

}  // namespace jessl
