#include "appliance/doctor_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/host_tree.h"

// Where systemd looks for a unit, in its order.
static const char *const unit_places[] = {
    "/etc/systemd/system/cairn.service", "/run/systemd/system/cairn.service",
    "/usr/local/lib/systemd/system/cairn.service", "/usr/lib/systemd/system/cairn.service",
    "/lib/systemd/system/cairn.service"};

static const char *find_unit(const cn_doctor_case *c)
{
    for (size_t i = 0; i < sizeof unit_places / sizeof *unit_places; i++) {
        if (cn_host_tree_exists(c->root, "%s", unit_places[i])) return unit_places[i];
    }
    return NULL;
}

static bool has_systemd(const cn_doctor_case *c)
{
    return cn_host_tree_exists(c->root, "/run/systemd/system");
}

static bool look_at_unit(const cn_doctor_case *c, cn_doctor_finding *f)
{
    if (!has_systemd(c)) return false;
    const char *unit = find_unit(c);
    cn_doctor_say(f, unit ? CN_NIC_FINE : CN_NIC_POOR, unit ? "%s"
                  : "cairn.service is not installed, so nothing starts Cairn again%s", unit ? unit : "");
    cn_doctor_fix(f, "apt-get install -y ./cairn_" CN_VERSION "_amd64.deb   # deploy/package builds it");
    return true;
}

static bool look_at_enabled(const cn_doctor_case *c, cn_doctor_finding *f)
{
    if (!has_systemd(c) || !find_unit(c)) return false;
    const bool enabled =
        cn_host_tree_exists(c->root, "/etc/systemd/system/multi-user.target.wants/cairn.service");
    cn_doctor_say(f, enabled ? CN_NIC_FINE : CN_NIC_POOR, enabled ? "starts with the machine"
                  : "cairn.service is not enabled: it does not start with the machine");
    cn_doctor_fix(f, "systemctl enable cairn.service");
    return true;
}

static bool look_at_user(const cn_doctor_case *c, cn_doctor_finding *f)
{
    char rest[256];
    if (!find_unit(c)) return false;
    const bool there = cn_host_tree_field(c->root, "/etc/passwd", "cairn:", rest, sizeof rest);
    cn_doctor_say(f, there ? CN_NIC_FINE : CN_NIC_BROKEN, there ? "the user cairn is there"
                  : "there is no user cairn, as which cairn.service runs");
    cn_doctor_fix(f, "systemd-sysusers /usr/lib/sysusers.d/cairn.conf");
    return true;
}

// "90", "90s", "2min", "1min 30s", "infinity": seconds; 0 for what is none of them.
static uint64_t parse_span(const char *text)
{
    uint64_t sum = 0;
    char *end;
    if (strncmp(text, "infinity", 8) == 0) return UINT64_MAX;
    for (; *text; text = end) {
        const uint64_t n = strtoull(text, &end, 10);
        if (end == text) return 0;
        const size_t len = strcspn(end, " 0123456789");
        if (len == 0 || strncmp(end, "s", len) == 0 || strncmp(end, "sec", len) == 0) sum += n;
        else if (strncmp(end, "min", len) == 0 || strncmp(end, "m", len) == 0) sum += n * 60;
        else if (strncmp(end, "h", len) == 0) sum += n * 3600;
        else return 0;
        end += len + strspn(end + len, " ");
    }
    return sum;
}

// systemd kills what does not end in time, answers and all.
static bool look_at_stop(const cn_doctor_case *c, cn_doctor_finding *f)
{
    enum { LEAST_AFTER_S = 15 };             // to write pages and end the private servers
    char span[64] = "90s";                   // systemd's default
    const char *unit = find_unit(c);
    const uint64_t need = c->settings->drain_seconds + LEAST_AFTER_S;
    if (!unit) return false;
    cn_host_tree_field(c->root, unit, "TimeoutStopSec=", span, sizeof span);
    cn_host_tree_field(c->root, "/etc/systemd/system/cairn.service.d/stop.conf", "TimeoutStopSec=", span,
                       sizeof span);
    const bool fits = parse_span(span) >= need;
    cn_doctor_say(f, fits ? CN_NIC_FINE : CN_NIC_BROKEN, fits ? "systemd waits %s for %llu s"
                  : "systemd waits TimeoutStopSec=%s and then kills; drain.seconds and saving need %llu s",
                  span, (unsigned long long)need);
    cn_doctor_fix(f, "mkdir -p /etc/systemd/system/cairn.service.d && printf "
                  "'[Service]\\nTimeoutStopSec=%llu\\n' > /etc/systemd/system/cairn.service.d/stop.conf && "
                  "systemctl daemon-reload", (unsigned long long)need);
    return true;
}

static bool look_at_sysctl(const cn_doctor_case *c, cn_doctor_finding *f)
{
    static const char *const places[] = {"/etc/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"};
    if (!find_unit(c)) return false;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (!cn_host_tree_exists(c->root, "%s/60-cairn.conf", places[i])) continue;
        cn_doctor_say(f, CN_NIC_FINE, "%s/60-cairn.conf is read at boot", places[i]);
        return true;
    }
    cn_doctor_say(f, CN_NIC_POOR, "60-cairn.conf is not installed: variables of the kernel fall back at "
                  "the next boot");
    cn_doctor_fix(f, "install -m 644 /usr/share/cairn/60-cairn.conf /etc/sysctl.d/60-cairn.conf");
    return true;
}

static const cn_doctor_check checks[] = {
    {"unit", "whether systemd knows Cairn", look_at_unit},
    {"unit_enabled", "whether it starts with the machine", look_at_enabled},
    {"unit_user", "whether the user that it runs as is there", look_at_user},
    {"unit_stop", "whether systemd waits for draining", look_at_stop},
    {"sysctl_kept", "whether variables of the kernel outlive a reboot", look_at_sysctl},
};

const cn_doctor_group cn_doctor_service = {"Service", checks, sizeof checks / sizeof *checks};
