/* What the translation units share and nobody else sees. */
#ifndef FI_INTERNAL_H
#define FI_INTERNAL_H

#include "fastinit.h"

/* truncated.h: how an interval's values are made. */
enum { FI_TRUNCATED_CENTRAL, FI_TRUNCATED_WIDE, FI_TRUNCATED_BODY, FI_TRUNCATED_FAR };

#if !defined(__CUDACC__) /* a GPU's code has none of the rest */

/* One table per instruction set, each made by a stub that includes kernels.inc.h. */
extern const fi_table fi_table_base;
#if defined(__x86_64__)
extern const fi_table fi_table_avx2, fi_table_avx512;
#endif
/* GCC from 10 and Clang from 9 on know the instructions. */
#if defined(__x86_64__) && defined(__clang__)
#define FI_KNOWS_AVX512BF16 (__clang_major__ >= 9)
#elif defined(__x86_64__)
#define FI_KNOWS_AVX512BF16 (__GNUC__ >= 10)
#else
#define FI_KNOWS_AVX512BF16 0
#endif
#if FI_KNOWS_AVX512BF16
extern const fi_table fi_table_avx512bf16;
#endif

/* dispatch.c: name of the i-th instruction set that there are tables for, from the plainest up;
 * NULL past the end. */
const char *fi_known_isa(int i);
/* The same, of those that this CPU can run. */
const char *fi_isa_name(int i);
/* Makes the table of that name the active one; -1 if there is none here. */
int fi_use_isa(const char *name);

/* fill.c */
int fi_fill(const fi_request *request, int threads, fi_poll *poll, void *context);

/* threads.c: runs work(context, slice, me) once for each slice in [0, slices), on up to
 * `threads` threads, the caller among them; stops early if poll answers non-zero. */
typedef struct fi_participant fi_participant;
typedef void fi_work(const void *context, uint64_t slice, fi_participant *me);
/* Which of the participants this is: 0 (the caller) to threads - 1. */
int fi_number(const fi_participant *me);
/* Non-zero if the slice need not be finished. A slice that takes more than a few milliseconds
 * asks now and then; the caller's question asks poll in turn. */
int fi_stopped(fi_participant *me);
int fi_parallel(fi_work *work, const void *context, uint64_t slices, int threads, fi_poll *poll,
                void *poll_context);

/* cpus.c: CPUs this process may use now: affinity, and the cgroup's quota rounded up. */
int fi_cpus(void);

/* memory.c: asks for huge pages where memory is first touched; the system may not give them. */
void fi_advise_huge(void *start, size_t length);

#endif
#endif
