// Codes as ggml's blocks hold them. Compiled once per instruction set: included after
// hwy/foreach_target.h and hwy/highway.h.
#if defined(QWB_PACKED_GGML_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QWB_PACKED_GGML_INL_H_
#undef QWB_PACKED_GGML_INL_H_
#else
#define QWB_PACKED_GGML_INL_H_
#endif

#include "lib/exec/cpu/packed_dot-inl.h"

HWY_BEFORE_NAMESPACE();
namespace qwb::simd {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

// Steps 0 to 3 of a word are bytes whose low halves are codes, 4 to 7 the high halves.
template <class Values>
struct Nibbles {
  template <int kStep>
  HWY_INLINE VF At(VU words) const {
    return values(hn::ShiftRight<8 * (kStep % 4) + 4 * (kStep / 4)>(words));
  }
  Values values;
};

// Bytes that hold a code each; steps 4 to 7 are those of a second word.
template <class Values>
struct CodeBytes {
  template <int kStep>
  HWY_INLINE VF At(VU words) const {
    return values(hn::ShiftRight<8 * (kStep % 4)>(words));
  }
  Values values;
};

struct SignedBytes {
  template <int kStep>
  HWY_INLINE VF At(VU words) const {
    return SignedByte<kStep % 4>(words);
  }
};

HWY_INLINE VU LowHalves(VU words) {
  return hn::And(words, hn::Set(DU(), 0x0f0f0f0fu));
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace qwb::simd
HWY_AFTER_NAMESPACE();

#endif
