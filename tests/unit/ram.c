/* Free memory: some, and no more than the machine has. */
#include "ram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

static void some_of_all(void **state)
{
    size_t all = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE), now = ram_free();
    (void)state;
    assert_in_range(now, 1, all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(some_of_all)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
