/* The arithmetic that the stream is defined by: rounds to nearest, keeps subnormals, traps
 * nothing.  Whoever calls may have set otherwise, or another library for the thread: to flush
 * subnormals, say, as what is linked with -ffast-math does; and new threads inherit it.
 *
 * A kernel sets its own mode and puts back what it found, which costs nothing to see where
 * all is as it should be.  The barriers keep loads and stores, and so the arithmetic between
 * them, on their side. */
#ifndef FI_FLOAT_MODE_H
#define FI_FLOAT_MODE_H

#include <stdint.h>

#define FI_BARRIER() __asm__ volatile("" ::: "memory")

#if defined(__x86_64__)

typedef unsigned fi_float_mode; /* MXCSR; its last six bits are flags, which stay */
#define FI_GET_MODE(mode) ((mode) = __builtin_ia32_stmxcsr())
#define FI_SET_MODE(mode) __builtin_ia32_ldmxcsr(mode)
#define FI_IS_OURS(mode) (((mode) & ~0x3fu) == 0x1f80u)
#define FI_OURS 0x1f80u

#elif defined(__aarch64__)

typedef uint64_t fi_float_mode; /* FPCR */
#define FI_GET_MODE(mode) __asm__ volatile("mrs %0, fpcr" : "=r"(mode))
#define FI_SET_MODE(mode) __asm__ volatile("msr fpcr, %0" ::"r"((uint64_t)(mode)))
#define FI_IS_OURS(mode) ((mode) == 0)
#define FI_OURS 0

#else

#include <fenv.h>
typedef fenv_t fi_float_mode;
#define FI_GET_MODE(mode) fegetenv(&(mode))
#define FI_SET_MODE(mode) fesetenv(&(mode))

#endif

static inline fi_float_mode enter_float_mode(void)
{
    fi_float_mode before;
    FI_GET_MODE(before);
#if defined(FI_OURS)
    if (!FI_IS_OURS(before))
        FI_SET_MODE(FI_OURS);
#else
    fesetenv(FE_DFL_ENV);
#endif
    FI_BARRIER();
    return before;
}

static inline void leave_float_mode(fi_float_mode before)
{
    FI_BARRIER();
#if defined(FI_OURS)
    if (FI_IS_OURS(before))
        return;
#endif
    FI_SET_MODE(before);
}

/* Whether the thread's own arithmetic does. */
static inline int rounds_to_nearest(void)
{
    volatile double one = 1.0, tiny = 0x1p-60;
    return one + tiny == one && one - tiny == one;
}

#endif
