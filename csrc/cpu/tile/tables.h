// One table per instruction set, each from a file of its own.
#pragma once

#include "cpu/tile/tile.h"

namespace jessl {

template <class Real>
const TileOps<Real>* ops_portable();
template <class Real>
const TileOps<Real>* ops_avx2();
template <class Real>
const TileOps<Real>* ops_avx512();

template <>
const TileOps<float>* ops_portable<float>();
template <>
const TileOps<double>* ops_portable<double>();
template <>
const TileOps<float>* ops_avx2<float>();
template <>
const TileOps<double>* ops_avx2<double>();
template <>
const TileOps<float>* ops_avx512<float>();
template <>
const TileOps<double>* ops_avx512<double>();

}  // namespace jessl
