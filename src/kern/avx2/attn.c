#include "kern_int.h"
void kern__avx2_attn(struct kern *k)
{
    (void)k;
}
