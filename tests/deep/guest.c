/* The first process of an emulated PC: runs /values on what /questions asks, with the arguments and
 * the environment that the kernel's command line gave it, and sends what that writes, and then its
 * exit status as one more byte, to the PC's printer, which is a file outside.  Then it turns the
 * PC off.  See avx512.py. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/io.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PRINTER = 0x378, CONTROL = PRINTER + 2, SELECTED = 0x0c, STROBE = 0x0d, POWER = 0x8900 };

static void print(const unsigned char *bytes, ssize_t n)
{
    for (ssize_t i = 0; i < n; i++) {
        outb(bytes[i], PRINTER);
        outb(STROBE, CONTROL);
        outb(SELECTED, CONTROL);
    }
}

int main(int argc, char **argv)
{
    (void)argc;
    int ends[2], status = 0;
    if (iopl(3) != 0 || pipe(ends) != 0) {
        perror("guest");
        return 1;
    }
    outb(SELECTED, CONTROL);
    if (fork() == 0) {
        dup2(open("/questions", O_RDONLY), 0);
        dup2(ends[1], 1);
        close(ends[1]);
        argv[0] = "/values";
        execv("/values", argv);
        perror("/values");
        _exit(127);
    }
    close(ends[1]);

    static unsigned char bytes[1 << 16];
    for (ssize_t n; (n = read(ends[0], bytes, sizeof bytes)) > 0;)
        print(bytes, n);
    wait(&status);
    const unsigned char code = status != 0;
    print(&code, 1);
    for (const char *c = "Shutdown"; *c != 0; c++) /* the emulator's own way */
        outb(*c, POWER);
    return 1;
}
