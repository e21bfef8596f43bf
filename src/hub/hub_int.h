/* What the files of hub/ share. */
#ifndef HUB_INT_H
#define HUB_INT_H

#include <stdbool.h>
#include <stddef.h>

/* What the build makes of catalogue.json (tools/embed). */
extern const unsigned char hub__catalogue_json[];
extern const size_t hub__catalogue_json_bytes;

/* Of a CURL: what is believed and spoken, for all who ask others. */
bool hub__curl_options(void *curl);

#endif
