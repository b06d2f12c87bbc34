/* Which table this process uses: the best that its CPU and system run, chosen once.
 *
 * The compiler's __builtin_cpu_supports asks CPUID and, for AVX and AVX-512, XCR0 (does
 * the system save those registers).  FASTINIT_ISA=base|avx2|avx512 lowers the choice; it never
 * raises it, so that one setting serves a cluster of unlike machines.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static int runs_here(const fi_table *table)
{
#if defined(__x86_64__)
    if (table == &fi_table_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                 __builtin_cpu_supports("fma");
    if (table == &fi_table_avx512)
        return avx512;
#endif
#if FI_KNOWS_AVX512BF16
    if (table == &fi_table_avx512bf16)
        return avx512 && __builtin_cpu_supports("avx512bf16");
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
