/* Writes to stdout, little-endian, the values that lines on stdin ask for:
 *
 *   distribution dtype k0 k1 start n threads number...
 *   orthogonal dtype k0 k1 start rows columns threads gain
 *
 * the distribution and the dtype by their numbers in fastinit.h; a truncated normal's numbers are
 * its four parameters and then its bounds in the dtype, a constant's is its pattern.  The fill goes
 * by fi_fill or fi_orthogonal_fill, and each time to memory poisoned before.
 *
 * What the argument names, another library has done to the thread's arithmetic before: default,
 * upward, downward, towardzero, flush (subnormals), traps, x87 (its precision).  It is found
 * as it was left, or the program aborts. */
#define _GNU_SOURCE
#include <fenv.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(_WIN32)
#include <fcntl.h>
#include <io.h>
#endif

#include "internal.h"

static const size_t itemsizes[FI_DTYPES] = {4, 8, 2, 2, 1, 1, 1, 2, 4, 8};

static void die(const char *why)
{
    fprintf(stderr, "values: %s\n", why);
    exit(2);
}

/* The part of the floating-point environment that flushes subnormals, where there is one. */
#if defined(__x86_64__)
static uint64_t control(void) { return __builtin_ia32_stmxcsr() & ~0x3fu; }
static void flush(void) { __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040); }
#elif defined(__aarch64__)
static uint64_t control(void)
{
    uint64_t c;
    __asm__ volatile("mrs %0, fpcr" : "=r"(c));
    return c;
}
static void flush(void) { __asm__ volatile("msr fpcr, %0" ::"r"(control() | 1 << 24)); }
#else
static uint64_t control(void) { return (uint64_t)fegetround(); }
static void flush(void) { die("nothing flushes subnormals here"); }
#endif

static void set_mode(const char *name)
{
    if (strcmp(name, "default") == 0)
        return;
    if (strcmp(name, "upward") == 0)
        fesetround(FE_UPWARD);
    else if (strcmp(name, "downward") == 0)
        fesetround(FE_DOWNWARD);
    else if (strcmp(name, "towardzero") == 0)
        fesetround(FE_TOWARDZERO);
    else if (strcmp(name, "flush") == 0)
        flush();
#if defined(__GLIBC__)
    else if (strcmp(name, "traps") == 0)
        feenableexcept(FE_ALL_EXCEPT); /* RISC-V has none */
#endif
#if defined(__x86_64__)
    else if (strcmp(name, "x87") == 0) {
        unsigned short word = 0x007f; /* significands of 24 bits */
        __asm__ volatile("fldcw %0" ::"m"(word));
    }
#endif
    else
        die("there is no such mode here");
}

static void write_little_endian(unsigned char *bytes, size_t n, size_t itemsize)
{
    const uint16_t one = 1;
    if (*(const unsigned char *)&one == 0)
        for (size_t i = 0; i < n; i++)
            for (size_t low = i * itemsize, high = low + itemsize - 1; low < high; low++, high--) {
                const unsigned char byte = bytes[low];
                bytes[low] = bytes[high];
                bytes[high] = byte;
            }
    fwrite(bytes, itemsize, n, stdout);
}

static unsigned char *poisoned(size_t nbytes)
{
    unsigned char *memory = malloc(nbytes + 1);
    if (memory == NULL)
        die("no memory");
    memset(memory, 0xa5, nbytes + 1);
    return memory;
}

static void write_and_free(unsigned char *memory, size_t n, size_t itemsize)
{
    if (memory[n * itemsize] != 0xa5)
        die("a byte past the end was written");
    write_little_endian(memory, n, itemsize);
    free(memory);
}

/* The environment that the fill finds, and what is compared after it. */
typedef struct {
    fenv_t before;
    uint64_t control;
} arithmetic;

static arithmetic enter_mode(const char *name)
{
    arithmetic a;
    fegetenv(&a.before);
    set_mode(name);
    a.control = control();
    return a;
}

static void leave_mode(const arithmetic *a)
{
    const uint64_t after = control();
    fesetenv(&a->before);
    if (after != a->control)
        die("the arithmetic is not as it was left");
}

static void answer_line(const char *line, const char *mode)
{
    int distribution, dtype, threads, at;
    uint64_t n, pattern = 0;
    fi_request r = {.ndim = 1};
    if (sscanf(line, "%d %d %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %d%n", &distribution,
               &dtype, &r.key.k0, &r.key.k1, &r.start, &n, &threads, &at) != 7)
        die("a line is not of numbers");
    r.distribution = (fi_distribution)distribution;
    r.dtype = (fi_dtype)dtype;
    if (fi_active()->kernel[distribution][dtype] == NULL)
        die("there is no such kernel");

    double numbers[6] = {0};
    const char *from = line + at;
    r.params = numbers;
    if (r.distribution == FI_CONSTANT) {
        pattern = strtoull(from, NULL, 10);
        r.params = &pattern;
    } else {
        for (int i = 0; i < 6; i++) {
            char *end;
            numbers[i] = strtod(from, &end);
            from = end;
        }
    }

    const size_t itemsize = itemsizes[dtype];
    unsigned char *memory = poisoned(n * itemsize);
    int64_t stride = (int64_t)itemsize;
    uint64_t step = 1;
    r.out = memory;
    r.shape = &n;
    r.strides = &stride;
    r.index_steps = &step;

    const arithmetic a = enter_mode(mode);
    fi_truncated interval;
    if (r.distribution == FI_TRUNCATED_NORMAL) {
        fi_active()->truncate(&interval, numbers[0], numbers[1], numbers[2], numbers[3]);
        interval.low = numbers[4];
        interval.high = numbers[5];
        r.params = &interval;
    }
    fi_active()->fill(&r, threads, NULL, NULL);
    leave_mode(&a);
    write_and_free(memory, n, itemsize);
}

static void answer_matrix(const char *line, const char *mode)
{
    int dtype, threads;
    fi_orthogonal r = {.ndim = 2};
    if (sscanf(line, "%d %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %d %lf", &dtype,
               &r.key.k0, &r.key.k1, &r.start, &r.rows, &r.columns, &threads, &r.gain) != 8)
        die("a matrix is not of numbers");
    const size_t itemsize = itemsizes[dtype];
    const uint64_t shape[2] = {r.rows, r.columns}, row_steps[2] = {1, 0}, column_steps[2] = {0, 1};
    const int64_t strides[2] = {(int64_t)(r.columns * itemsize), (int64_t)itemsize};
    unsigned char *memory = poisoned(r.rows * r.columns * itemsize);
    r.dtype = (fi_dtype)dtype;
    r.out = memory;
    r.shape = shape;
    r.strides = strides;
    r.row_steps = row_steps;
    r.column_steps = column_steps;

    const arithmetic a = enter_mode(mode);
    const int failed = fi_active()->orthogonal(&r, threads, NULL, NULL);
    leave_mode(&a);
    if (failed)
        die("no memory for a matrix");
    write_and_free(memory, r.rows * r.columns, itemsize);
}

int main(int argc, char **argv)
{
    static const char matrix[] = "orthogonal ";
    const char *mode = argc > 1 ? argv[1] : "default";
    char line[4096];
#if defined(_WIN32)
    _setmode(_fileno(stdout), _O_BINARY); /* else each byte 10 becomes two */
#endif
    while (fgets(line, sizeof line, stdin) != NULL)
        if (strncmp(line, matrix, strlen(matrix)) == 0)
            answer_matrix(line + strlen(matrix), mode);
        else
            answer_line(line, mode);
    return 0;
}
