#include "dataplane/paging.h"

#include <stdlib.h>
#include <string.h>

#include "dataplane/items.h"
#include "dataplane/route.h"

cn_code cn_paging_read(const char *query, cn_paging *out, cn_err *err)
{
    char text[32], *end;
    *out = (cn_paging){.limit = CN_PAGING_LIMIT};
    cn_route_query(query, "after", out->after, sizeof out->after);
    if (cn_route_query(query, "limit", text, sizeof text)) {
        const unsigned long limit = strtoul(text, &end, 10);
        if (*text < '0' || *text > '9' || *end || limit < 1 || limit > CN_PAGING_LIMIT_MAX) {
            return cn_err_set_param(err, CN_E_INVALID, "limit", "limit: \"%s\"; must be 1 to %d",
                                    text, CN_PAGING_LIMIT_MAX);
        }
        out->limit = (uint32_t)limit;
    }
    if (!cn_route_query(query, "order", text, sizeof text)) return CN_OK;
    out->ascending = strcmp(text, "asc") == 0;
    if (out->ascending || strcmp(text, "desc") == 0) return CN_OK;
    return cn_err_set_param(err, CN_E_INVALID, "order", "order: \"%s\"; must be asc or desc", text);
}

static bool has_id(cn_bytes item, const char *id)
{
    const cn_bytes own = cn_items_id_of(item);
    return own.len == strlen(id) && memcmp(own.data, id, own.len) == 0;
}

static void add_id(const char *name, const cn_bytes *item, cn_buf *out)
{
    cn_buf_add_text(out, name);
    if (!item) {
        cn_buf_add_text(out, "null");
        return;
    }
    const cn_bytes id = cn_items_id_of(*item);
    cn_buf_add_json(out, id.len ? id.data : "", id.len);
}

cn_code cn_paging_write(const cn_paging *paging, const cn_bytes *items, uint32_t count, cn_buf *out,
                        cn_err *err)
{
    const cn_bytes *first = NULL, *last = NULL;
    uint32_t from = 0, at;           // in the order asked for
    if (*paging->after) {
        for (at = 0; at < count && !has_id(items[at], paging->after);) at++;
        if (at == count) {
            return cn_err_set_param(err, CN_E_INVALID, "after", "after: '%.64s' is no item of this "
                                    "list", paging->after);
        }
        from = paging->ascending ? at + 1 : count - at;
    }
    cn_buf_add_text(out, "{\"object\":\"list\",\"data\":[");
    for (at = from; at < count && at - from < paging->limit; at++) {
        last = &items[paging->ascending ? at : count - 1 - at];
        if (!first) first = last;
        else cn_buf_add_char(out, ',');
        cn_buf_add(out, last->data, last->len);
    }
    add_id("],\"first_id\":", first, out);
    add_id(",\"last_id\":", last, out);
    cn_buf_add_text(out, at < count ? ",\"has_more\":true}" : ",\"has_more\":false}");
    return CN_OK;
}
