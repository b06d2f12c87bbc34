/* What a uniform's or a normal's parameters do to it: x * scale + shift, one fused multiply-add. */
#ifndef FI_AFFINE_H
#define FI_AFFINE_H

typedef struct {
    float scale, shift;
} affine32;

typedef struct {
    double scale, shift;
} affine64;

/* Width and parameters are computed in double and rounded once. */
static inline affine64 uniform_affine64(const void *params)
{
    const double *p = (const double *)params;
    return (affine64){p[1] - p[0], p[0]};
}

/* Of integer_pair32. */
static inline affine64 integer_affine64(const void *params)
{
    affine64 a = uniform_affine64(params);
    return (affine64){(float)a.scale * 0x1p-24, a.shift};
}

static inline affine64 normal_affine64(const void *params)
{
    const double *p = (const double *)params;
    return (affine64){p[1], p[0]};
}

static inline affine32 affine32_of(affine64 a)
{
    return (affine32){(float)a.scale, (float)a.shift};
}

#endif
