/* What the build makes of catalogue.json (tools/embed). */
#ifndef HUB_INT_H
#define HUB_INT_H

#include <stddef.h>

extern const unsigned char hub__catalogue_json[];
extern const size_t hub__catalogue_json_bytes;

#endif
