#include "kern_int.h"
void kern__avx2_elem(struct kern *k)
{
    (void)k;
}
