/* Everything between FI_TARGET_BEGIN and FI_TARGET_END is compiled for a CPU feature set
 * that the build as a whole does not assume.  System headers are included before it, so
 * that nothing of theirs is compiled for that set. */
#ifndef FI_TARGET_H
#define FI_TARGET_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FI_PRAGMA(x) _Pragma(#x)
#if defined(__clang__)
#define FI_TARGET_BEGIN(set)                                                                       \
    FI_PRAGMA(clang attribute push(__attribute__((target(set))), apply_to = function))
#define FI_TARGET_END FI_PRAGMA(clang attribute pop)
#else
#define FI_TARGET_BEGIN(set) FI_PRAGMA(GCC push_options) FI_PRAGMA(GCC target(set))
#define FI_TARGET_END FI_PRAGMA(GCC pop_options)
#endif

#endif
