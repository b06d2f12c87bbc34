/* Which table this process uses: the best that its CPU and system run, chosen once.
 *
 * FASTINIT_ISA=avx2, for example, lowers the choice; it never raises it, so that one setting
 * serves a cluster of unlike machines.
 *
 * CPUID is asked here: the compilers' __builtin_cpu_supports needs a library of theirs, and where
 * that is missing it answers no, or is no symbol (Zig 0.17: 0 on Linux for all that there is).
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { PLAIN, HAS_AVX2, HAS_AVX512, HAS_AVX512BF16 };

#if defined(__x86_64__)

#include <cpuid.h>

enum { YMM_SAVED = 0x06, ZMM_SAVED = 0xe6 }; /* bits of XCR0 */

/* The registers that the system saves: with those of AVX and AVX-512 lost at each switch between
 * threads, the CPU's word for the instructions is worth nothing. */
static unsigned saved_state(void)
{
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
#if defined(__APPLE__)
    if ((low & YMM_SAVED) == YMM_SAVED)
        low |= ZMM_SAVED; /* macOS turns it on at a thread's first such instruction */
#endif
    return low;
}

static int has(unsigned word, unsigned bits) { return (word & bits) == bits; }

static int level(void)
{
    unsigned a, b, c, d, leaves;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, bit_FMA | bit_OSXSAVE))
        return PLAIN;
    const unsigned saved = saved_state();
    if (!__get_cpuid_count(7, 0, &leaves, &b, &c, &d) || !has(b, bit_AVX2) || !has(saved, YMM_SAVED))
        return PLAIN;
    if (!has(b, bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL) || !has(saved, ZMM_SAVED))
        return HAS_AVX2;
#if FI_KNOWS_AVX512BF16
    if (leaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && has(a, bit_AVX512BF16))
        return HAS_AVX512BF16;
#endif
    return HAS_AVX512;
}

#define FI_ON_X86(table) (&(table))

#else

static int level(void) { return PLAIN; }

#define FI_ON_X86(table) NULL

#endif

#if FI_KNOWS_AVX512BF16
#define FI_WITH_AVX512BF16(table) FI_ON_X86(table)
#else
#define FI_WITH_AVX512BF16(table) NULL
#endif

/* All instruction sets, from the plainest up; no table where the compiler cannot make it. */
static const struct {
    const char *isa;
    const fi_table *table;
    int level;
} known[] = {
    {"base", &fi_table_base, PLAIN},
    {"avx2", FI_ON_X86(fi_table_avx2), HAS_AVX2},
    {"avx512", FI_ON_X86(fi_table_avx512), HAS_AVX512},
    {"avx512bf16", FI_WITH_AVX512BF16(fi_table_avx512bf16), HAS_AVX512BF16},
};

enum { KNOWN = sizeof known / sizeof *known };

static int runs_here(int i) { return known[i].table != NULL && known[i].level <= level(); }

const char *fi_known_isa(int i) { return i >= 0 && i < KNOWN ? known[i].isa : NULL; }

static const fi_table *active;

const char *fi_isa_name(int i) { return i >= 0 && i < KNOWN && runs_here(i) ? known[i].isa : NULL; }

int fi_use_isa(const char *name)
{
    for (int i = 0; i < KNOWN; i++)
        if (strcmp(known[i].isa, name) == 0 && runs_here(i)) {
            __atomic_store_n(&active, known[i].table, __ATOMIC_RELEASE);
            return 0;
        }
    return -1;
}

const fi_table *fi_active(void)
{
    const fi_table *table = __atomic_load_n(&active, __ATOMIC_ACQUIRE);
    if (table != NULL)
        return table;
    const char *cap = getenv("FASTINIT_ISA");
    for (int i = 0; i < KNOWN && runs_here(i); i++) {
        table = known[i].table;
        if (cap != NULL && strcmp(known[i].isa, cap) == 0)
            break;
    }
    __atomic_store_n(&active, table, __ATOMIC_RELEASE);
    return table;
}
