/* Which table this process uses: the best that its CPU and system run, chosen once.
 *
 * FASTINIT_ISA=base|avx2|avx512 lowers the choice; it never raises it, so that one setting
 * serves a cluster of unlike machines.
 *
 * CPUID is asked here: the compilers' __builtin_cpu_supports needs a library of theirs, and where
 * that is missing it answers no, or is no symbol (Zig 0.17: 0 on Linux for all that there is).
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

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

enum { PLAIN, HAS_AVX2, HAS_AVX512, HAS_AVX512BF16 };

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

#endif

static int runs_here(const fi_table *table)
{
#if defined(__x86_64__)
    if (table == &fi_table_avx2)
        return level() >= HAS_AVX2;
    if (table == &fi_table_avx512)
        return level() >= HAS_AVX512;
#endif
#if FI_KNOWS_AVX512BF16
    if (table == &fi_table_avx512bf16)
        return level() >= HAS_AVX512BF16;
#endif
    return table == &fi_table_base;
}

/* From the plainest up. */
static const fi_table *const tables[] = {
    &fi_table_base,
#if defined(__x86_64__)
    &fi_table_avx2,
    &fi_table_avx512,
#endif
#if FI_KNOWS_AVX512BF16
    &fi_table_avx512bf16,
#endif
};

enum { TABLES = sizeof tables / sizeof *tables };

static const fi_table *active;

const char *fi_isa_name(int i)
{
    return i >= 0 && i < TABLES && runs_here(tables[i]) ? tables[i]->isa : NULL;
}

int fi_use_isa(const char *name)
{
    for (int i = 0; i < TABLES; i++)
        if (strcmp(tables[i]->isa, name) == 0 && runs_here(tables[i])) {
            __atomic_store_n(&active, tables[i], __ATOMIC_RELEASE);
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
    for (int i = 0; i < TABLES && runs_here(tables[i]); i++) {
        table = tables[i];
        if (cap != NULL && strcmp(table->isa, cap) == 0)
            break;
    }
    __atomic_store_n(&active, table, __ATOMIC_RELEASE);
    return table;
}
