/* state/record.h: turns and conversations as bytes, and back.
 * A record is a header and a protobuf message of proto/cairn.proto. All numbers are little-endian.
 *
 *    0  "CNr" and the kind, 'T' or 'C'
 *    4  version of the writer (16 bits), oldest version of a reader that may read it (16 bits)
 *    8  bytes of the message (32 bits), 0 (32 bits)
 *   16  XXH3-64 of the name of the record, of the 16 bytes above and of the message
 *
 * The name (the id) is under the checksum, so a record that lies under another one's key is found
 * out. What a record may hold is bounded here, once, for whoever reads one afterwards.
 *
 * Threads: any, nothing is kept.
 * Memory:  write appends to the caller's buffer; read copies into the caller's arena, and what it
 *          returns points only there. */
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "state/session.h"

enum { CN_RECORD_HEADER_BYTES = 24 };

/* Appends; scratch memory comes from the arena. A withdrawn turn is written as its id alone.
 * Errors: CN_E_LIMIT (the record is longer than out->bytes_max, which is record_bytes_max),
 * CN_E_MEMORY. */
cn_code cn_record_write_turn(const cn_turn *turn, cn_arena *arena, cn_buf *out, cn_err *err);
cn_code cn_record_write_conversation(const cn_conversation *conversation, cn_buf *out, cn_err *err);

/* Errors: CN_E_CORRUPT (torn, damaged, of a newer and incompatible version, not of this id, or with
 * a value out of bounds; names the id), CN_E_LIMIT (more than the arena holds). */
cn_code cn_record_read_turn(const void *data, size_t len, const cn_session_id *id, cn_arena *arena,
                            cn_turn *out, cn_err *err);
cn_code cn_record_read_conversation(const void *data, size_t len, const cn_session_id *id,
                                    cn_arena *arena, cn_conversation *out, cn_err *err);

/* "resp_" and 24 bytes as hex digits; and the bytes of an id, which must be one. */
void cn_record_id_text(const uint8_t raw[CN_SESSION_ID_RAW_BYTES], cn_session_id *out);
void cn_record_id_raw(const cn_session_id *id, uint8_t out[CN_SESSION_ID_RAW_BYTES]);
