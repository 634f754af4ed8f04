// Sixteen floats looked up by 4-bit codes. Compiled once per instruction set: included after
// hwy/foreach_target.h and hwy/highway.h.
#if defined(QWB_NIBBLE_TABLE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef QWB_NIBBLE_TABLE_INL_H_
#undef QWB_NIBBLE_TABLE_INL_H_
#else
#define QWB_NIBBLE_TABLE_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace qwb::simd {
namespace HWY_NAMESPACE {

// Where codes 0 to 7 lie in a word of four bytes, the first of a pair in the high nibble of its
// byte.
HWY_ALIGN static constexpr uint32_t kNibbleShifts[8] = {4, 0, 12, 8, 20, 16, 28, 24};

#if HWY_TARGET != HWY_SCALAR
// The values of eight codes, for vectors of eight lanes. low, high: values 0 to 7 and 8 to 15.
template <class D, class V>
HWY_INLINE V LookUpNibbles(D d, V low, V high, uint32_t word) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToUnsigned<D> du;
  const auto codes = hn::Shr(hn::Set(du, word), hn::Load(du, kNibbleShifts));
  // Two lookups of three bits; the fourth bit chooses.
  const auto index = hn::IndicesFromVec(d, hn::And(codes, hn::Set(du, 7u)));
  return hn::IfNegativeThenElse(hn::BitCast(d, hn::ShiftLeft<28>(codes)),
                                hn::TableLookupLanes(high, index),
                                hn::TableLookupLanes(low, index));
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace qwb::simd
HWY_AFTER_NAMESPACE();

#endif
