// What parameters a norm accepts. Every way in asks here; the words for a refusal are the caller's.
#pragma once

#include <cmath>
#include <cstdint>

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
    return std::isfinite(var) && var >= 0.0f && var + eps > 0.0f;
}

inline bool all_finite(const float* p, int64_t n) {
    float check = 0.0f;  // 0 * inf and 0 * NaN are NaN
    for (int64_t i = 0; i < n; ++i) check += p[i] * 0.0f;
    return check == 0.0f;
}

inline bool valid_parameters(const NormParameters& p) {
    bool valid = valid_eps(p.eps);
    for (int64_t c = 0; c < p.channels; ++c) valid &= valid_var(p.var[c], p.eps);
    return valid && all_finite(p.mean, p.channels) && (!p.weight || all_finite(p.weight, p.channels)) &&
           (!p.bias || all_finite(p.bias, p.channels));
}

}  // namespace bytenorm
