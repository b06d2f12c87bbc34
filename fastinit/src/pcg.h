/* PCG32 (XSH-RR 64/32), one short sequence per block of 1024 elements.
 *
 * M. E. O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good
 * Algorithms for Random Number Generation", HMC-CS-2014-0905: the generator.
 * F. B. Brown, "Random Number Generation with Arbitrary Strides", Trans. Am. Nucl.
 * Soc. 71 (1994): n steps at once are state * A^n + inc * (A^0 + ... + A^(n-1)).
 * G. L. Steele, D. Lea, C. H. Flood, "Fast Splittable Pseudorandom Number
 * Generators", OOPSLA 2014: mix64 and G.
 *
 * Every block has a state and an increment of its own, hashed from the key, because
 * one long sequence fails PractRand when read down the columns of a matrix whose
 * width is a power of two: an LCG advanced by 2^k repeats its low bits.
 */
#ifndef FI_PCG_H
#define FI_PCG_H

#include <stdint.h>

#include "fastinit.h"

#define PCG_MULTIPLIER 0x5851f42d4c957f2du
#define GOLDEN_GAMMA 0x9e3779b97f4a7c15u

typedef struct {
    uint64_t state, inc;
} pcg32;

static inline uint64_t mix64(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline pcg32 pcg_of_block(fi_key key, uint64_t block)
{
    pcg32 g = {mix64(key.k0 + block * GOLDEN_GAMMA), mix64(key.k1 + block * GOLDEN_GAMMA) | 1};
    return g;
}

/* The output function, which rotates the first by the second.  In halves of the state: they
 * are 32-bit lanes, of which a vector has twice as many (measured: draws take two thirds of
 * the instructions on AVX2). */
static inline uint32_t pcg_xorshift(uint32_t high, uint32_t low)
{
    return (high << 5 | low >> 27) ^ high >> 13;
}

static inline uint32_t pcg_rotation(uint32_t high) { return high >> 27; }

static inline uint32_t rotate_right(uint32_t x, uint32_t r)
{
    return (x >> r) | (x << ((0u - r) & 31));
}

/* A^n and A^0 + ... + A^(n-1), modulo 2^64, for a block's 2048 draws in two digits:
 * n = 0, 2 ... 62, and n = 64 * (0 ... 31).  tests/core/test_kernels.py recomputes them. */
#define PCG_MUL_64 0x4425ebbf6f4d5901u
#define PCG_ADD_64 0xb5eb8df53e56bac0u
static const uint64_t pcg_mul[32] = {
    0x0000000000000001u, 0x685f98a2018fade9u, 0xfb4d3ae39272be11u, 0xf08d02b0115f7a79u,
    0xb59dda5f38413d21u, 0xc07a0e3e901ef009u, 0x2baa1c4032658d31u, 0x384115c58e369e99u,
    0x8d5e2ddc895abe41u, 0x98f1d81bdd781629u, 0xcaf41223432ce051u, 0x3b0114b115ade6b9u,
    0x6ea923efda890361u, 0x55c522eac22ba049u, 0x9ec7d51306cd3771u, 0x493d9145485dd2d9u,
    0x96481983e5188c81u, 0x5e43edc2175a0e69u, 0x85846b3d925b1291u, 0xa36c2aa5b06ee2f9u,
    0x2dd93f6e4665d9a1u, 0x97e2499118b3e089u, 0x3bcdf1cdfffaf1b1u, 0x0fe84c9b43999719u,
    0x0f607833d1dd6ac1u, 0xd3ebaa38067996a9u, 0x4bf48fd1e0e154d1u, 0x0967fe7325266f39u,
    0x2e9487e122fbbfe1u, 0xc6a45b4f077bb0c9u, 0x9d4c63f6ef52bbf1u, 0xd054e3efa7edeb59u,
};
static const uint64_t pcg_add[32] = {
    0x0000000000000000u, 0x5851f42d4c957f2eu, 0xcbb5f646404a560cu, 0x30705b042917ec1au,
    0x9a8b7f78da6ef4d8u, 0xab894868b3b04fc6u, 0x88cdb7ff5390e864u, 0x70a3a52b7c609632u,
    0xfd8341fcddebfcb0u, 0x742d2f7a98716b5eu, 0x76035e0908e0bdbcu, 0x6fa72ca5f95e3b4au,
    0x58a0df7459c07788u, 0xae533cc45a8131f6u, 0x6de3b115d9593614u, 0xf043bfa4b17f3b62u,
    0x375216576241c560u, 0x76c3625ecd74038eu, 0xb29b54fb3be5b16cu, 0x5378d5a890ddf67au,
    0x797d87a64e514638u, 0xcc598d93f24a4026u, 0x2b449456fabd8fc4u, 0x7899e644afc0cc92u,
    0xedb5055964dc5a10u, 0xf1dfed4360f047beu, 0x6ea3bbbeb8e4311cu, 0x666d9716541a1daau,
    0xe931589dba5c60e8u, 0x0b0abb7761be7a56u, 0x1dee132fa7a8f574u, 0x00f32298a30849c2u,
};
static const uint64_t pcg_mul_chunk[32] = {
    0x0000000000000001u, 0x4425ebbf6f4d5901u, 0x8980d00b878bb201u, 0x40d7e31d11bb0b01u,
    0x02078e0dd6db6401u, 0xc75ea5d89fecbd01u, 0xb6cca45935ef1601u, 0x21e0e14c61e26f01u,
    0x659acb4fecc6c801u, 0x530b20e29f9c2101u, 0xc9c6296443627a01u, 0x2d26ee15a119d301u,
    0x5d63731881c22c01u, 0xdd71f06fae5b8501u, 0xcebf0afeefe5de01u, 0x6bb50d8b0f613701u,
    0xaa1421b9d5cd9001u, 0xae1b89120c2ae901u, 0xb783d5fb7b794201u, 0x314a24beecb89b01u,
    0x8d4c548628e8f401u, 0x94b6405bf90a4d01u, 0xd63ff82c261ca601u, 0xdb3cf9c3791fff01u,
    0xcc7c69cfbb145801u, 0x2ffa4cdfb4f9b101u, 0x6861c0632fd00a01u, 0x9f6033aaf4976301u,
    0xc3c9a0e8cc4fbc01u, 0x448dc62f7ff91501u, 0x317e5e72d8936e01u, 0x6ae65a879f1ec701u,
};
static const uint64_t pcg_add_chunk[32] = {
    0x0000000000000000u, 0xb5eb8df53e56bac0u, 0x76e04ee60f5a3580u, 0xa2fefe0641ca7040u,
    0x41f7c92a64676b00u, 0x4f7df387c5f125c0u, 0x6f1038747527a080u, 0x3dd5ee2740cadb40u,
    0x3950e877b79ad600u, 0xf1a41b9e285790c0u, 0xfe2efef3a1c10b80u, 0xeb3dafb1f2974640u,
    0x178dd3b3a99a4100u, 0x38683c341589fbc0u, 0xfb0f488f45267680u, 0xfa420902072fb140u,
    0xfe942169ea65ac00u, 0x405a6c053d8866c0u, 0x21ec5c330f57e180u, 0x98fa21332e941c40u,
    0x3db788e629fd1700u, 0xb69ba28d5052d1c0u, 0xf775218ab0554c80u, 0x8a93802118c48740u,
    0xdac4e23418608200u, 0x34e8b807fde93cc0u, 0xf7d72101d81eb780u, 0x295d0e6775c0f240u,
    0x670d261f658fed00u, 0xe9a56570f64ba7c0u, 0x11c983c436b42280u, 0xb4d21561f5895d40u,
};

/* The state at the first draw of a chunk of 64, and at any draw. */
static inline uint64_t pcg_at_chunk(pcg32 g, unsigned chunk)
{
    return g.state * pcg_mul_chunk[chunk] + g.inc * pcg_add_chunk[chunk];
}

static inline uint64_t pcg_jump(pcg32 g, unsigned n)
{
    const uint64_t chunk = pcg_at_chunk(g, n / 64);
    const uint64_t even = chunk * pcg_mul[n % 64 / 2] + g.inc * pcg_add[n % 64 / 2];
    return n % 2 == 0 ? even : even * PCG_MULTIPLIER + g.inc;
}

#endif
