#include "base/metrics.h"

#include <string.h>

void cn_metrics_init(cn_metrics *metrics) { memset(metrics, 0, sizeof *metrics); }
