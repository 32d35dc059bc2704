#include "base/err.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"

static const cn_code_info infos[] = {
#define X(name, http, type, code, meaning) {#name, http, type, code, meaning},
    CN_ERRORS(X)
#undef X
};

const cn_code_info *cn_err_info(cn_code code)
{
    CN_ASSERT((unsigned)code < CN_CODE_COUNT);
    return &infos[code];
}

// Drops the bytes of a character that vsnprintf cut in two.
static void trim_to_utf8(char *text)
{
    size_t len = strlen(text), start = len;
    while (start > 0 && ((unsigned char)text[start - 1] & 0xC0) == 0x80) start--;
    if (start == 0) return;
    const unsigned char lead = (unsigned char)text[start - 1];
    const size_t need = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
    if (len - start < need) text[start - 1] = '\0';
}

static void fill(cn_err *err, cn_code code, const char *param, const char *format, va_list args)
{
    if (!err) return;
    err->code = code;
    snprintf(err->param, sizeof err->param, "%s", param);
    vsnprintf(err->text, sizeof err->text, format, args);
    trim_to_utf8(err->text);
}

cn_code cn_err_set(cn_err *err, cn_code code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(err, code, "", format, args);
    va_end(args);
    return code;
}

cn_code cn_err_set_param(cn_err *err, cn_code code, const char *param, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(err, code, param, format, args);
    va_end(args);
    return code;
}
