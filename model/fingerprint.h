/* model/fingerprint.h: one number that stands for a model: its weights and all that its arithmetic
 * depends on.
 * KV pages that leave the process carry it in their keys, so that pages of other weights, or of the
 * same weights with another RoPE or epsilon, are never found. It says nothing about who made the
 * weights: it is a checksum (XXH3-128), not a signature.
 *
 * Threads: any, nothing is kept.
 * Memory:  plain memory of the caller. */
#pragma once

#include <stdint.h>

#include "kernels/backend.h"

/* Reads every tensor once, at the speed of memory (or of the disk, if they were not read yet). */
void cn_fingerprint_model(const cn_model_spec *spec, uint8_t out[CN_FINGERPRINT_BYTES]);
