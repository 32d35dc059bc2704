#include "dataplane/proxy_header.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "dataplane/transport_address_int.h"

/* How it works. The two versions are told apart by their first byte. Version 1 is one line of text of
 * at most 107 bytes; version 2 is
 *
 *     signature 12 | version, command | family, transport | length 2 | addresses | TLVs ...
 *
 * of which only a stream over IPv4 or IPv6 names a client. LOCAL, UNSPEC and UNKNOWN are what a load
 * balancer sends for connections of its own, such as health checks. TLVs say nothing that we need, but
 * they must fill their room exactly, and a checksum among them must be right. */

enum { V1_BYTES_MAX = 107, V2_HEAD_BYTES = 16, CRC_BYTES = 4, TLV_CRC32C = 0x03 };

static const char V1_BEGIN[] = "PROXY ";
static const char V2_BEGIN[] = "\r\n\r\n\0\r\nQUIT\n";

static_assert(sizeof((cn_proxy_header *)0)->client == CN_TRANSPORT_ADDRESS_BYTES, "any address fits");

static cn_code wrong(cn_err *err, const char *what)
{
    return cn_err_set(err, CN_E_HTTP, "PROXY header: %s; each connection to this listener must begin "
                      "with one of version 1 or 2 (proxy_protocol.from)", what);
}

// ---- version 1

// Takes one word that ends at a space or at the end of the line; false if it is empty or too long.
static bool take_word(const char **at, char *out, size_t out_bytes)
{
    const size_t len = strcspn(*at, " ");
    if (len == 0 || len >= out_bytes) return false;
    memcpy(out, *at, len);
    out[len] = '\0';
    *at += len;
    if (**at == ' ') *at += 1;
    return true;
}

// 0 to 65535 without leading zeros.
static bool is_port(const char *text)
{
    uint32_t port = 0;
    if (text[0] == '0' && text[1]) return false;
    for (const char *at = text; *at; at++) {
        if (*at < '0' || *at > '9') return false;
        port = port * 10 + (uint32_t)(*at - '0');
    }
    return port <= 65535;
}

static cn_code parse_line(const char *line, cn_proxy_header *out, cn_err *err)
{
    char family[8], hosts[2][INET6_ADDRSTRLEN], ports[2][6];
    uint8_t ip[16];
    const char *at = line;
    if (!take_word(&at, family, sizeof family)) return wrong(err, "no protocol behind PROXY");
    if (strcmp(family, "UNKNOWN") == 0) return CN_OK;
    const bool v6 = strcmp(family, "TCP6") == 0;
    if (!v6 && strcmp(family, "TCP4") != 0)
        return wrong(err, "a protocol other than TCP4, TCP6, UNKNOWN");
    for (int i = 0; i < 2; i++) {
        if (!take_word(&at, hosts[i], sizeof hosts[i]) ||
            inet_pton(v6 ? AF_INET6 : AF_INET, hosts[i], ip) != 1)
            return wrong(err, "an address that is not one of its protocol");
    }
    for (int i = 0; i < 2; i++) {
        if (!take_word(&at, ports[i], sizeof ports[i]) || !is_port(ports[i]))
            return wrong(err, "a port that is not 0 to 65535");
    }
    if (*at || at[-1] == ' ') return wrong(err, "something behind its ports");
    snprintf(out->client, sizeof out->client, v6 ? "[%s]:%s" : "%s:%s", hosts[0], ports[0]);
    return CN_OK;
}

static cn_code parse_v1(const char *data, size_t len, cn_proxy_header *out, cn_err *err)
{
    char line[V1_BYTES_MAX + 1];
    const size_t seen = len < V1_BYTES_MAX ? len : V1_BYTES_MAX;
    const char *end = memchr(data, '\n', seen);
    if (memchr(data, '\0', end ? (size_t)(end - data) : seen))
        return wrong(err, "a zero byte in its line");
    if (!end) return seen < V1_BYTES_MAX ? CN_OK : wrong(err, "a line of more than 107 bytes");
    const size_t bytes = (size_t)(end - data) + 1;
    if (end[-1] != '\r') return wrong(err, "a line that does not end in CR LF");
    memcpy(line, data, bytes - 2);
    line[bytes - 2] = '\0';
    if (strchr(line, '\r')) return wrong(err, "a CR in its line");
    const cn_code code = parse_line(line + sizeof V1_BEGIN - 1, out, err);
    if (code == CN_OK) out->bytes = bytes;
    return code;
}

// ---- version 2

static uint32_t crc32c_add(uint32_t crc, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0x82f63b78u & -(crc & 1));
    }
    return crc;
}

// The checksum is that of the header with its own four bytes as zeros.
static bool crc_is_right(const uint8_t *header, size_t bytes, size_t crc_at)
{
    static const uint8_t zeros[CRC_BYTES];
    const uint8_t *at = header + crc_at;
    const uint32_t told = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
    uint32_t crc = crc32c_add(UINT32_MAX, header, crc_at);
    crc = crc32c_add(crc, zeros, CRC_BYTES);
    return ~crc32c_add(crc, at + CRC_BYTES, bytes - crc_at - CRC_BYTES) == told;
}

static cn_code check_tlvs(const uint8_t *header, size_t at, size_t bytes, cn_err *err)
{
    while (at < bytes) {
        if (bytes - at < 3) return wrong(err, "a TLV that is cut short");
        const uint8_t type = header[at];
        const size_t len = (size_t)header[at + 1] << 8 | header[at + 2];
        at += 3;
        if (len > bytes - at) return wrong(err, "a TLV that is longer than the header");
        if (type == TLV_CRC32C && (len != CRC_BYTES || !crc_is_right(header, bytes, at)))
            return wrong(err, "a checksum that is wrong");
        at += len;
    }
    return CN_OK;
}

// Addresses are source, destination, source port, destination port; returns their bytes, 0 for none.
static size_t read_client(const uint8_t *body, uint8_t family, cn_proxy_header *out)
{
    cn_transport_sockaddr client = {0};
    const bool v6 = family == 0x21;
    if (v6) {
        client.v6.sin6_family = AF_INET6;
        memcpy(&client.v6.sin6_addr, body, 16);
        memcpy(&client.v6.sin6_port, body + 32, 2);
    } else {
        client.v4.sin_family = AF_INET;
        memcpy(&client.v4.sin_addr, body, 4);
        memcpy(&client.v4.sin_port, body + 8, 2);
    }
    cn_transport_address_write(&client, out->client);
    return v6 ? 36 : 12;
}

static cn_code parse_v2(const uint8_t *header, size_t len, cn_proxy_header *out, cn_err *err)
{
    if (len < V2_HEAD_BYTES) return CN_OK;
    const uint8_t command = header[12], family = header[13];
    const size_t body_bytes = (size_t)header[14] << 8 | header[15];
    const size_t bytes = V2_HEAD_BYTES + body_bytes;
    if (command >> 4 != 2) return wrong(err, "a version other than 1 and 2");
    if ((command & 15) > 1) return wrong(err, "a command other than LOCAL and PROXY");
    if (family >> 4 > 3 || (family & 15) > 2) return wrong(err, "an address family that there is not");
    if (bytes > CN_PROXY_HEADER_BYTES_MAX) return wrong(err, "more than 2048 bytes");
    if (len < bytes) return CN_OK;
    size_t at = V2_HEAD_BYTES;
    const bool names_client = (command & 15) == 1 && (family == 0x11 || family == 0x21);
    if (names_client) {
        if (body_bytes < (family == 0x21 ? 36 : 12)) return wrong(err, "no room for its addresses");
        at += read_client(header + at, family, out);
        const cn_code code = check_tlvs(header, at, bytes, err);
        if (code != CN_OK) return code;
    } else if ((command & 15) == 1 && family != 0) {
        return wrong(err, "a connection other than TCP over IPv4 or IPv6");
    }
    out->bytes = bytes;
    return CN_OK;
}

cn_code cn_proxy_header_parse(const char *data, size_t len, cn_proxy_header *out, cn_err *err)
{
    *out = (cn_proxy_header){0};
    if (len == 0) return CN_OK;
    const bool v2 = data[0] == V2_BEGIN[0];
    const char *begin = v2 ? V2_BEGIN : V1_BEGIN;
    const size_t begin_bytes = (v2 ? sizeof V2_BEGIN : sizeof V1_BEGIN) - 1;
    if (memcmp(data, begin, len < begin_bytes ? len : begin_bytes) != 0) return wrong(err, "none");
    if (len < begin_bytes) return CN_OK;
    return v2 ? parse_v2((const uint8_t *)data, len, out, err) : parse_v1(data, len, out, err);
}
