/* System calls that fail on demand, put before those of the C library by LD_PRELOAD.
 *
 * Calls on files below the folder FAULT_FOLDER are counted. After fault_arm(at, how) the call
 * number `at`, from 1, fails with an errno (how > 0), does half of its work (how == -1), or kills
 * the process before (how == -2) or after it is done (how == -3). at == 0 counts alone. A retry
 * succeeds, as that of a call which a signal has interrupted.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SHORT = -1, KILL = -2, KILL_AFTER = -3 };

static atomic_int n_calls;
static int fault_at = -1, fault_how;

void fault_arm(int at, int how) {
    n_calls = 0;
    fault_how = how;
    fault_at = at;
}

int fault_count(void) { return n_calls; }

static int below(const char *path) {
    const char *folder = getenv("FAULT_FOLDER");
    return folder != NULL && path != NULL && strncmp(path, folder, strlen(folder)) == 0;
}

static int concerns_path(const char *path) {
    if (fault_at < 0 || path == NULL) return 0;
    if (path[0] == '/') return below(path);
    char here[4096];
    return getcwd(here, sizeof here) != NULL && below(here);
}

static int concerns(int fd) {
    if (fault_at < 0 || fd < 0) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return below(path);
}

/* What is to be done with this call: 0 for nothing. */
static int now(int counts) {
    if (!counts || atomic_fetch_add(&n_calls, 1) + 1 != fault_at) return 0;
    if (fault_how == KILL) kill(getpid(), SIGKILL);
    return fault_how;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
/* `half` is the call with half of its bytes. */
#define CALL(type, counts, whole, half)                      \
    int how = now(counts);                                   \
    if (how > 0) return (errno = how, (type)-1);             \
    if (how == SHORT) return half;                           \
    type done = whole;                                       \
    if (how == KILL_AFTER) kill(getpid(), SIGKILL);          \
    return done

static mode_t mode_of(int flags, va_list more) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
}

#define OPEN(name)                                                              \
    int name(const char *path, int flags, ...) {                                \
        va_list more;                                                           \
        va_start(more, flags);                                                  \
        mode_t mode = mode_of(flags, more);                                     \
        va_end(more);                                                           \
        CALL(int, concerns_path(path), REAL(name)(path, flags, mode),           \
             REAL(name)(path, flags, mode));                                    \
    }
OPEN(open)
OPEN(open64)

#define AT(name, offset)                                                                  \
    ssize_t name(int fd, void *to, size_t n, offset at) {                                 \
        CALL(ssize_t, concerns(fd), REAL(name)(fd, to, n, at), REAL(name)(fd, to, (n + 1) / 2, at)); \
    }
AT(pread, off_t)
AT(pread64, off64_t)

#define AT_CONST(name, offset)                                                            \
    ssize_t name(int fd, const void *from, size_t n, offset at) {                         \
        CALL(ssize_t, concerns(fd), REAL(name)(fd, from, n, at), REAL(name)(fd, from, (n + 1) / 2, at)); \
    }
AT_CONST(pwrite, off_t)
AT_CONST(pwrite64, off64_t)

#define VECTOR(name, offset)                                                              \
    ssize_t name(int fd, const struct iovec *v, int n, offset at) {                       \
        CALL(ssize_t, concerns(fd), REAL(name)(fd, v, n, at),                             \
             n > 1 ? REAL(name)(fd, v, n / 2, at) : REAL(name)(fd, &(struct iovec){v->iov_base, (v->iov_len + 1) / 2}, 1, at)); \
    }
VECTOR(preadv, off_t)
VECTOR(preadv64, off64_t)
VECTOR(pwritev, off_t)
VECTOR(pwritev64, off64_t)

/* What Python's os.preadv and os.pwritev call. */
#define VECTOR_FLAGS(name)                                                                \
    ssize_t name(int fd, const struct iovec *v, int n, off64_t at, int flags) {           \
        const struct iovec half = {v->iov_base, (v->iov_len + 1) / 2};                    \
        CALL(ssize_t, concerns(fd), REAL(name)(fd, v, n, at, flags),                      \
             n > 1 ? REAL(name)(fd, v, n / 2, at, flags)                                  \
                   : REAL(name)(fd, &half, 1, at, flags));                                \
    }
VECTOR_FLAGS(preadv64v2)
VECTOR_FLAGS(pwritev64v2)

ssize_t read(int fd, void *to, size_t n) {
    CALL(ssize_t, concerns(fd), REAL(read)(fd, to, n), REAL(read)(fd, to, (n + 1) / 2));
}

ssize_t write(int fd, const void *from, size_t n) {
    CALL(ssize_t, concerns(fd), REAL(write)(fd, from, n), REAL(write)(fd, from, (n + 1) / 2));
}

ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t n, unsigned flags) {
    CALL(ssize_t, concerns(to), REAL(copy_file_range)(from, a, to, b, n, flags),
         REAL(copy_file_range)(from, a, to, b, (n + 1) / 2, flags));
}

#define SIMPLE_FD(name, ...)                                                              \
    { CALL(int, concerns(fd), REAL(name)(__VA_ARGS__), REAL(name)(__VA_ARGS__)); }

int fsync(int fd) SIMPLE_FD(fsync, fd)
int fdatasync(int fd) SIMPLE_FD(fdatasync, fd)
int fchmod(int fd, mode_t mode) SIMPLE_FD(fchmod, fd, mode)
int ftruncate(int fd, off_t size) SIMPLE_FD(ftruncate, fd, size)
int ftruncate64(int fd, off64_t size) SIMPLE_FD(ftruncate64, fd, size)

#define TWO_PATHS(name)                                                                   \
    int name(const char *from, const char *to) {                                          \
        CALL(int, concerns_path(to), REAL(name)(from, to), REAL(name)(from, to));         \
    }
TWO_PATHS(rename)
TWO_PATHS(link)

int linkat(int a, const char *from, int b, const char *to, int flags) {
    CALL(int, concerns_path(to), REAL(linkat)(a, from, b, to, flags), REAL(linkat)(a, from, b, to, flags));
}

int renameat(int a, const char *from, int b, const char *to) {
    CALL(int, concerns_path(to), REAL(renameat)(a, from, b, to), REAL(renameat)(a, from, b, to));
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    CALL(int, concerns_path(to), REAL(renameat2)(a, from, b, to, flags), REAL(renameat2)(a, from, b, to, flags));
}

int mkdir(const char *path, mode_t mode) {
    CALL(int, concerns_path(path), REAL(mkdir)(path, mode), REAL(mkdir)(path, mode));
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset) {
    CALL(void *, concerns(fd), REAL(mmap)(at, n, protection, flags, fd, offset),
         REAL(mmap)(at, n, protection, flags, fd, offset));
}
