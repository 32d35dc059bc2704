#include "dataplane/error_body.h"

#include <string.h>

void cn_error_body_write(const cn_err *err, uint64_t prompt_tokens, uint64_t context_tokens,
                         cn_buf *out)
{
    const cn_code_info *info = cn_err_info(err->code);
    cn_buf_add_text(out, "{\"error\":{\"message\":");
    cn_buf_add_json(out, err->text, strlen(err->text));
    cn_buf_add_text(out, ",\"type\":\"");
    cn_buf_add_text(out, info->type);
    cn_buf_add_text(out, "\",\"param\":");
    if (*err->param) cn_buf_add_json(out, err->param, strlen(err->param));
    else cn_buf_add_text(out, "null");
    cn_buf_add_text(out, ",\"code\":");
    if (*info->code) cn_buf_add_json(out, info->code, strlen(info->code));
    else cn_buf_add_text(out, "null");
    if (prompt_tokens) {
        cn_buf_add_text(out, ",\"n_prompt_tokens\":");
        cn_buf_add_u64(out, prompt_tokens);
        cn_buf_add_text(out, ",\"n_ctx\":");
        cn_buf_add_u64(out, context_tokens);
    }
    cn_buf_add_text(out, "}}");
}
