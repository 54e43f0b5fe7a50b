// exp_over, softplus and logistic at every level, against the C library in the next wider type.
#include <cmath>
#include <cstring>
#include <limits>

#include "check.h"
#include "functions.h"

namespace jessl::test {
namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

// The distance of two neighbouring numbers of Real at `truth`.
template <class Real, class Wide>
Wide ulp(Wide truth) {
  int exponent;
  std::frexp(std::abs(truth), &exponent);
  return std::ldexp(Wide(1), exponent - std::numeric_limits<Real>::digits);
}

// The largest error in ulps, and where it is. Results outside [least, most] are not judged here.
template <class Real>
struct Worst {
  double ulps = 0;
  Real at = 0;
  template <class Wide>
  void take(Real x, Real ours, Wide truth) {
    const double error = double(std::abs(Wide(ours) - truth) / ulp<Real>(truth));
    if (!(error <= ulps)) ulps = error, at = x;
  }
};

// Call visit(x, n) with blocks of floats: every one between low and high, or every 4093rd.
template <class Visit>
void sweep(float low, float high, Visit&& visit) {
  constexpr std::int64_t block = 4096;
  const auto number = [](float x) {  // in order of size
    std::int32_t bits;
    std::memcpy(&bits, &x, 4);
    return bits < 0 ? -std::int64_t(bits & 0x7fffffff) : std::int64_t(bits);
  };
  const std::int64_t first = number(low), last = number(high), step = exhaustive() ? 1 : 4093;
  std::vector<float> x(block, low);
  std::int64_t filled = 0;
  for (std::int64_t k = first; k <= last; k += step) {
    const std::int32_t bits = k < 0 ? std::int32_t(-k) | std::int32_t(0x80000000u) : std::int32_t(k);
    std::memcpy(&x[filled++], &bits, 4);
    if (filled == block || k + step > last) visit(x.data(), block), filled = 0;
  }
}

template <class Real>
std::vector<Real> uniform(std::uint64_t seed, std::int64_t n, double low, double high) {
  Random random{seed};
  std::vector<Real> x(n);
  for (Real& value : x) value = Real(low + (high - low) * random.uniform());
  return x;
}

long double softplus_of(long double s) { return std::fmax(s, 0.0L) + std::log1p(std::exp(-std::abs(s))); }
long double logistic_of(long double s) { return (s < 0 ? std::exp(s) : 1) / (1 + std::exp(-std::abs(s))); }

constexpr bool has_wider_than_double = std::numeric_limits<long double>::digits > std::numeric_limits<double>::digits;

// Without a fused multiply-add the polynomial is rounded twice as often.
double ulps_of_exp(Level level) { return level == Level::portable ? 1.3 : 1; }

void report(const char* what, Level level, double ulps, double at) {
  std::printf("    %s, %s: at most %.2f ulp off, at %.9g\n", what, name_of(level), ulps, at);
}

}  // namespace

FACT(exp_of_a_float_is_within_1_ulp_or_1_3_without_fma) {
  const std::vector<Level> all = levels();
  std::vector<Worst<float>> worst(all.size());
  std::vector<float> out(4096);
  sweep(-86.6f, 87.3f, [&](const float* x, std::int64_t n) {
    std::vector<double> truth(n);
    for (std::int64_t i = 0; i < n; ++i) truth[i] = std::exp(double(x[i]));
    for (std::size_t l = 0; l < all.size(); ++l) {
      functions<float>(all[l]).exp_over(x, n, 0, out.data());
      for (std::int64_t i = 0; i < n; ++i) worst[l].take(x[i], out[i], truth[i]);
    }
  });
  for (std::size_t l = 0; l < all.size(); ++l) {
    report("exp", all[l], worst[l].ulps, worst[l].at);
    check(worst[l].ulps <= ulps_of_exp(all[l]), name_of(all[l]), ": ", worst[l].ulps, " ulp at ", worst[l].at);
  }
}

FACT(exp_over_a_power_is_as_exact_for_scores_to_1000) {
  const auto x = uniform<float>(1, 1 << 16, -1000, 1000);
  std::vector<float> out(x.size());
  for (const Level level : levels()) {
    Worst<float> worst;
    for (float power = -1440; power <= 1440; power += 16) {
      functions<float>(level).exp_over(x.data(), x.size(), power, out.data());
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double exponent = x[i] * 1.4426950408889634 - power;
        if (exponent < -125 || exponent > 126) continue;
        worst.take(x[i], out[i], double(std::exp(x[i] - power * 0.693147180559945309417L)));
      }
    }
    report("exp / 2^p", level, worst.ulps, worst.at);
    check(worst.ulps <= ulps_of_exp(level), name_of(level), ": ", worst.ulps, " ulp at ", worst.at);
  }
}

FACT(exp_of_a_double_is_within_1_ulp_or_1_3_without_fma) {
  if (!has_wider_than_double) return;
  const auto x = uniform<double>(2, 1 << 17, -706, 708.5);
  std::vector<double> out(x.size());
  for (const Level level : levels()) {
    Worst<double> worst;
    functions<double>(level).exp_over(x.data(), x.size(), 0, out.data());
    for (std::size_t i = 0; i < x.size(); ++i) worst.take(x[i], out[i], std::exp((long double)x[i]));
    report("exp in double", level, worst.ulps, worst.at);
    check(worst.ulps <= ulps_of_exp(level), name_of(level), ": ", worst.ulps, " ulp at ", worst.at);
  }
}

// In ulps of the result, or of 1 near the zero of log, where the result is the difference of x and 1.
template <class Real, class Wide, class Function, class Truth>
void judge_log(const char* what, const std::vector<Real>& x, Function&& function, Truth&& truth, double allowed) {
  std::vector<Real> out(x.size());
  for (const Level level : levels()) {
    Worst<Real> worst;
    function(functions<Real>(level), x.data(), std::int64_t(x.size()), out.data());
    for (std::size_t i = 0; i < x.size(); ++i) worst.take(x[i], out[i], truth(Wide(x[i])));
    report(what, level, worst.ulps, worst.at);
    check(worst.ulps <= allowed, name_of(level), ": ", worst.ulps, " ulp at ", worst.at);
  }
}

FACT(log_and_log1p_are_exact_to_a_few_ulps) {
  std::vector<float> x, above;
  for (const float e : uniform<float>(3, 1 << 16, -80, 80)) x.push_back(std::exp(e));
  for (const float e : uniform<float>(4, 1 << 15, -20, 20)) above.push_back(std::exp(e));
  for (const float e : uniform<float>(5, 1 << 15, -20, -1e-6)) above.push_back(std::expm1(e));
  const auto log = [](auto&& f, const auto* from, std::int64_t n, auto* to) { f.log(from, n, to); };
  const auto log1p = [](auto&& f, const auto* from, std::int64_t n, auto* to) { f.log1p(from, n, to); };
  judge_log<float, double>("log", x, log, [](double a) { return std::log(a); }, 4);
  judge_log<float, double>("log1p", above, log1p, [](double a) { return std::log1p(a); }, 6);
  if (!has_wider_than_double) return;
  std::vector<double> wide(x.begin(), x.end()), wide_above(above.begin(), above.end());
  judge_log<double, long double>("log in double", wide, log, [](long double a) { return std::log(a); }, 4);
  judge_log<double, long double>("log1p in double", wide_above, log1p, [](long double a) { return std::log1p(a); }, 6);
}

FACT(log_of_infinity_and_of_no_number) {
  const std::vector<float> x = {inf, nan, 1, 0.5f, inf, nan, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1};
  std::vector<float> out(x.size());
  for (const Level level : levels()) {
    functions<float>(level).log(x.data(), x.size(), out.data());
    check(out[0] == inf && std::isnan(out[1]) && out[2] == 0, name_of(level), ": log of inf, nan, 1");
    functions<float>(level).log1p(x.data(), x.size(), out.data());
    check(out[0] == inf && std::isnan(out[1]), name_of(level), ": log1p of inf, nan");
  }
}

// 2^−125.5 and 2^126.5: the power is rounded to a whole number before it is judged.
template <class Real>
void judge_range(const std::vector<Real>& x, Real power, Real least, Real most) {
  std::vector<Real> out(x.size());
  for (const Level level : levels()) {
    functions<Real>(level).exp_over(x.data(), x.size(), power, out.data());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double exponent = double(x[i]) * 1.4426950408889634 - double(power);
      if (std::abs(exponent - least) < 1e-3 || std::abs(exponent - most) < 1e-3) continue;  // either answer is right
      if (exponent < least)
        check(out[i] == 0, name_of(level), ": exp(", x[i], ") / 2^", power, " is ", out[i], ", not 0");
      // AVX-512 uses all of the range.
      const bool fits = exponent < std::numeric_limits<Real>::max_exponent && level == Level::avx512;
      if (exponent > most && !fits)
        check(out[i] == Real(inf), name_of(level), ": exp(", x[i], ") / 2^", power, " is ", out[i]);
      if (exponent >= least && exponent <= most)
        check(std::isnormal(out[i]), name_of(level), ": exp(", x[i], ") / 2^", power, " is ", out[i]);
    }
  }
}

FACT(exp_is_zero_below_its_range_infinite_above_and_never_subnormal) {
  judge_range<float>(uniform<float>(3, 1 << 14, -110, 110), 0, -125.5f, 126.5f);
  judge_range<float>(uniform<float>(4, 1 << 14, -200, 20), -48, -125.5f, 126.5f);
  judge_range<float>(uniform<float>(5, 1 << 14, 500, 900), 1008, -125.5f, 126.5f);
  judge_range<double>(uniform<double>(6, 1 << 14, -760, 760), 0, -1020.5, 1022.5);
}

template <class Real>
void judge_specials() {
  const Real huge = std::numeric_limits<Real>::max(), tiny = std::numeric_limits<Real>::denorm_min();
  std::vector<Real> x(16, Real(0)), out(16);
  const Real special[] = {-Real(inf), Real(inf), Real(nan), -Real(nan), huge, -huge, tiny, -tiny, Real(0), -Real(0)};
  std::copy(std::begin(special), std::end(special), x.begin());
  const Real few = 4 * std::numeric_limits<Real>::epsilon();
  const auto same = [few](Real a, Real b) {
    return a == b || (std::isnan(a) && std::isnan(b)) || (std::isfinite(b) && std::abs(a - b) <= few * std::abs(b));
  };
  const auto judge = [&](const char* what, Level level, std::initializer_list<Real> expected) {
    int i = 0;
    for (const Real e : expected) {
      check(same(out[i], e), what, ", ", name_of(level), ": of ", x[i], " is ", out[i], ", expected ", e);
      ++i;
    }
  };
  const Real i = Real(inf), n = Real(nan);
  const Real log2 = Real(0.69314718055994530942L);
  for (const Level level : levels()) {
    for (const Real power : {Real(-112), Real(0), Real(112)}) {
      functions<Real>(level).exp_over(x.data(), 16, power, out.data());
      const Real one = std::ldexp(Real(1), -int(power));
      judge("exp", level, {0, i, n, n, i, 0, one, one, one, one});
    }
    functions<Real>(level).softplus(x.data(), 16, out.data());
    judge("softplus", level, {0, i, n, n, huge, 0, log2, log2, log2, log2});
    functions<Real>(level).logistic(x.data(), 16, out.data());
    judge("logistic", level, {0, 1, n, n, 1, 0, Real(0.5), Real(0.5), Real(0.5), Real(0.5)});
  }
}

FACT(infinities_and_nan_go_through_exp_softplus_and_logistic_as_in_the_matrix_form) {
  judge_specials<float>();
  judge_specials<double>();
}

FACT(softplus_and_logistic_of_a_float_are_within_4_and_3_ulp) {
  const std::vector<Level> all = levels();
  std::vector<Worst<float>> soft(all.size()), slope(all.size());
  std::vector<float> out(4096);
  sweep(-86.6f, 1000.0f, [&](const float* x, std::int64_t n) {
    std::vector<double> truth(n), share(n);
    for (std::int64_t i = 0; i < n; ++i) {
      const double e = std::exp(-std::abs(double(x[i])));
      truth[i] = std::fmax(double(x[i]), 0.0) + std::log1p(e);
      share[i] = (x[i] < 0 ? e : 1) / (1 + e);
    }
    for (std::size_t l = 0; l < all.size(); ++l) {
      functions<float>(all[l]).softplus(x, n, out.data());
      for (std::int64_t i = 0; i < n; ++i) soft[l].take(x[i], out[i], truth[i]);
      functions<float>(all[l]).logistic(x, n, out.data());
      for (std::int64_t i = 0; i < n; ++i) slope[l].take(x[i], out[i], share[i]);
    }
  });
  for (std::size_t l = 0; l < all.size(); ++l) {
    report("softplus", all[l], soft[l].ulps, soft[l].at);
    report("logistic", all[l], slope[l].ulps, slope[l].at);
    check(soft[l].ulps <= 4, "softplus, ", name_of(all[l]), ": ", soft[l].ulps, " ulp at ", soft[l].at);
    check(slope[l].ulps <= 3, "logistic, ", name_of(all[l]), ": ", slope[l].ulps, " ulp at ", slope[l].at);
  }
}

FACT(softplus_and_logistic_of_a_double_are_within_4_and_3_ulp) {
  if (!has_wider_than_double) return;
  auto x = uniform<double>(7, 1 << 16, -706, 100);
  const auto near = uniform<double>(8, 1 << 16, -3, 3);
  x.insert(x.end(), near.begin(), near.end());
  std::vector<double> out(x.size());
  for (const Level level : levels()) {
    Worst<double> soft, slope;
    functions<double>(level).softplus(x.data(), x.size(), out.data());
    for (std::size_t i = 0; i < x.size(); ++i) soft.take(x[i], out[i], softplus_of((long double)x[i]));
    functions<double>(level).logistic(x.data(), x.size(), out.data());
    for (std::size_t i = 0; i < x.size(); ++i) slope.take(x[i], out[i], logistic_of((long double)x[i]));
    report("softplus in double", level, soft.ulps, soft.at);
    report("logistic in double", level, slope.ulps, slope.at);
    check(soft.ulps <= 4, "softplus, ", name_of(level), ": ", soft.ulps, " ulp at ", soft.at);
    check(slope.ulps <= 3, "logistic, ", name_of(level), ": ", slope.ulps, " ulp at ", slope.at);
  }
}

}  // namespace jessl::test
