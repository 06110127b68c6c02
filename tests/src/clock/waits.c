// A timed wait on a condition of C11 lasts until a time of day. The library that sets the clock answers who asks for the
// time and leaves the wait alone: by a clock that is behind, every wait is over before it begins, and its thread spins. Here it
// lasts as long as was meant. By a clock that is ahead it lasts until somebody ends it, as for those that wait when the
// clock is set back, and that is left as it is.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000L

int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until) {
    static int (*wait)(cnd_t *, mtx_t *, const struct timespec *);
    if (wait == NULL)
        wait = (int (*)(cnd_t *, mtx_t *, const struct timespec *))dlsym(RTLD_NEXT, "cnd_timedwait");
    struct timespec said, real;
    clock_gettime(CLOCK_REALTIME, &said);
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &real);
    if (said.tv_sec >= real.tv_sec - 1)
        return wait(condition, mutex, until);
    struct timespec then = {
        .tv_sec = until->tv_sec + (real.tv_sec - said.tv_sec),
        .tv_nsec = until->tv_nsec + (real.tv_nsec - said.tv_nsec),
    };
    if (then.tv_nsec < 0) {
        then.tv_nsec += SECOND_NS;
        then.tv_sec -= 1;
    } else if (then.tv_nsec >= SECOND_NS) {
        then.tv_nsec -= SECOND_NS;
        then.tv_sec += 1;
    }
    return wait(condition, mutex, &then);
}
