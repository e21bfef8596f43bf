/* Monotonic time in nanoseconds. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stdint.h>

int64_t clock_ns(void);

#endif
