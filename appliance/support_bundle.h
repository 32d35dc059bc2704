/* appliance/support_bundle.h: `cairn support-bundle`: what somebody needs who helps from afar, as a tar
 * file without secrets and without a word of a conversation.
 *
 * Threads: main only.
 * Memory:  freed when it returns. */
#pragma once

int cn_support_bundle_run(int argc, char **argv);
