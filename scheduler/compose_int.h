/* scheduler/compose_int.h: who gets what in the next step. The policy of the scheduler, all of it.
 *
 * Threads: engine only.
 * Memory:  none of its own. */
#pragma once

#include "scheduler/engine_int.h"

/* Fills the engine's batch: decodes, then chunks of prompts under way, then new sequences. Running
 * sequences may lose their place when pages run out. */
void cn_compose_step(cn_engine *engine);
