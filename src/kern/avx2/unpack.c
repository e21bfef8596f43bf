#include "kern_int.h"
void kern__avx2_unpack(struct kern *k)
{
    (void)k;
}
