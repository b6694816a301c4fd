// What parameters a norm accepts. Every way in asks here; the words for a refusal are the caller's.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "fold.hpp"

namespace bytenorm {

inline bool valid_scale(double scale) {
    const float f = static_cast<float>(scale);
    return f > 0.0f && std::isfinite(f) && std::isfinite(1.0f / f);
}

inline bool valid_zero_point(int64_t zero_point, bool is_signed) {
    return is_signed ? zero_point >= -128 && zero_point <= 127 : zero_point >= 0 && zero_point <= 255;
}

inline bool valid_eps(float eps) {
    return std::isfinite(eps) && eps >= 0.0f;
}

inline bool valid_var(float var, float eps) {
    return (var <= std::numeric_limits<float>::max()) & (var >= 0.0f) &
           (var + eps > 0.0f);  // all of them: no jumps
}

// A sum of flags, unlike one of floats, may be added up in any order, and so in vectors.
inline bool all_finite(const float* p, int64_t n) {
    uint32_t others = 0;
    for (int64_t i = 0; i < n; ++i) others |= std::fabs(p[i]) <= std::numeric_limits<float>::max() ? 0u : 1u;
    return others == 0;
}

inline bool valid_parameters(const NormParameters& p) {
    const float eps = p.eps;
    uint32_t bad = valid_eps(eps) ? 0 : 1;
    for (int64_t c = 0; c < p.channels; ++c) bad |= valid_var(p.var[c], eps) ? 0u : 1u;
    return !bad && all_finite(p.mean, p.channels) && (!p.weight || all_finite(p.weight, p.channels)) &&
           (!p.bias || all_finite(p.bias, p.channels));
}

}  // namespace bytenorm
