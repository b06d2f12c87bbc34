/* Advice to the system about memory that is about to be filled. */
#include "platform.h"

#include "internal.h"

#if defined(__linux__)

#include <sys/mman.h>
#include <unistd.h>

void fi_advise_huge(void *start, size_t length)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), ahead = -(size_t)start & (page - 1);
    if (length > ahead)
        madvise((char *)start + ahead, length - ahead, MADV_HUGEPAGE);
}

#else

/* macOS gives its large pages by itself or not at all; Windows wants a privilege for them. */
void fi_advise_huge(void *start, size_t length)
{
    (void)start;
    (void)length;
}

#endif
