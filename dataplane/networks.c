#include "dataplane/networks.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

#include "dataplane/transport_address_int.h"

static const uint8_t MAPPED[12] = {[10] = 0xff, [11] = 0xff};

static void map_v4(const struct in_addr *v4, uint8_t out[16])
{
    memcpy(out, MAPPED, sizeof MAPPED);
    memcpy(out + sizeof MAPPED, v4, sizeof *v4);
}

// Digits only, 0 to max; -1 otherwise.
static int parse_bits(const char *text, int max)
{
    int bits = 0;
    if (!*text || strlen(text) > 3) return -1;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text)) return -1;
        bits = bits * 10 + (*text - '0');
    }
    return bits <= max ? bits : -1;
}

static bool bits_agree(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    const unsigned whole = bits / 8, rest = bits % 8;
    if (memcmp(a, b, whole) != 0) return false;
    return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

// Bits beyond the length must be 0, or the operator has meant something else.
static bool is_clean(const uint8_t address[16], unsigned bits)
{
    for (unsigned i = bits; i < 128; i++) {
        if (address[i / 8] >> (7 - i % 8) & 1) return false;
    }
    return true;
}

static bool parse_one(char *text, uint8_t address[16], uint8_t *bits)
{
    struct in_addr v4;
    char *slash = strchr(text, '/');
    if (slash) *slash = '\0';
    const bool is_v4 = inet_pton(AF_INET, text, &v4) == 1;
    if (is_v4) map_v4(&v4, address);
    else if (inet_pton(AF_INET6, text, address) != 1) return false;
    const int max = is_v4 ? 32 : 128;
    const int given = slash ? parse_bits(slash + 1, max) : max;
    if (given < 0) return false;
    *bits = (uint8_t)(given + 128 - max);
    return is_clean(address, *bits);
}

cn_code cn_networks_parse(const char *key, const char *text, cn_networks *out, cn_err *err)
{
    out->count = 0;
    for (const char *at = text; *(at += strspn(at, ", "));) {
        char one[INET6_ADDRSTRLEN + 5];
        const size_t len = strcspn(at, ", ");
        if (out->count == CN_NETWORKS_MAX)
            return cn_err_set(err, CN_E_INVALID, "%s: has more than %d networks", key, CN_NETWORKS_MAX);
        memcpy(one, at, len < sizeof one ? len : sizeof one - 1);
        one[len < sizeof one ? len : sizeof one - 1] = '\0';
        if (len >= sizeof one ||
            !parse_one(one, out->at[out->count].address, &out->at[out->count].bits))
            return cn_err_set(err, CN_E_INVALID, "%s: %.*s; must be networks such as 192.0.2.0/24 or "
                              "2001:db8::/32, with no bits beyond the length, separated by commas", key,
                              (int)(len < 80 ? len : 80), at);
        out->count++;
        at += len;
    }
    return CN_OK;
}

bool cn_networks_has(const cn_networks *networks, const char *address)
{
    cn_transport_sockaddr parsed;
    socklen_t parsed_len;
    uint8_t host[16];
    if (cn_transport_address_parse(address, &parsed, &parsed_len, NULL) != CN_OK) return false;
    if (parsed.any.sa_family == AF_INET) map_v4(&parsed.v4.sin_addr, host);
    else memcpy(host, &parsed.v6.sin6_addr, sizeof host);
    for (uint32_t i = 0; i < networks->count; i++) {
        if (bits_agree(networks->at[i].address, host, networks->at[i].bits)) return true;
    }
    return false;
}
