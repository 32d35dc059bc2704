"""A machine that `cairn doctor --root` looks at: the files of /proc, /sys, /etc and /run that say that all is
well. A test breaks one of them."""
import re
import subprocess
from pathlib import Path

GPU = "0000:17:00.0"
NIC = "0000:81:00.0"
FLAGS = "fpu sse4_2 avx2 fma f16c avx512f avx512bw avx512vl avx512dq avx512_bf16"
UNIT = "[Service]\nTimeoutStopSec=120\n"
ROUTE = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max core file size        0                    unlimited            bytes
Max processes             96000                96000                processes
Max open files            65536                65536                files
Max locked memory         unlimited            unlimited            bytes
"""
HEALTHY = {
    "proc/cpuinfo": f"processor\t: 0\nflags\t\t: {FLAGS}\n",
    "proc/meminfo": "MemTotal:       67108864 kB\nMemAvailable:   60000000 kB\nSwapTotal:      1000 kB\n"
                    "HugePages_Total:       0\nHugepagesize:       2048 kB\n",
    "proc/self/cgroup": "0::/system.slice/cairn.service\n",
    "proc/self/limits": LIMITS,
    "proc/self/status": "Name:\tcairn\nCapEff:\t0000000000003000\n",
    "proc/net/tcp": "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
    "proc/net/route": ROUTE,
    "proc/net/ipv6_route": "",
    "proc/irq/30/smp_affinity_list": "0-1\n",
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.247.01\n",
    "proc/sys/kernel/osrelease": "6.1.0-30-amd64\n",
    "proc/sys/kernel/numa_balancing": "0\n",
    "proc/sys/kernel/randomize_va_space": "2\n",
    "proc/sys/kernel/yama/ptrace_scope": "1\n",
    "proc/sys/kernel/random/entropy_avail": "256\n",
    "proc/sys/fs/file-max": "1000000\n",
    "proc/sys/fs/protected_symlinks": "1\n",
    "proc/sys/vm/swappiness": "1\n",
    "proc/sys/vm/zone_reclaim_mode": "0\n",
    "proc/sys/vm/overcommit_memory": "1\n",
    "proc/sys/vm/max_map_count": "65530\n",
    "proc/sys/vm/nr_hugepages": "0\n",
    "proc/sys/net/core/somaxconn": "4096\n",
    "proc/sys/net/ipv4/tcp_max_syn_backlog": "4096\n",
    "proc/sys/net/ipv4/tcp_syncookies": "1\n",
    "proc/sys/net/ipv4/tcp_slow_start_after_idle": "0\n",
    "proc/sys/net/netfilter/nf_conntrack_count": "10\n",
    "proc/sys/net/netfilter/nf_conntrack_max": "262144\n",
    "sys/devices/system/cpu/online": "0-3\n",
    "sys/devices/system/cpu/isolated": "2-3\n",
    "sys/devices/system/cpu/cpu3/online": "1\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "performance\n",
    "sys/devices/system/cpu/vulnerabilities/meltdown": "Not affected\n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
    "sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc hpet acpi_pm\n",
    "sys/devices/system/edac/mc/mc0/ue_count": "0\n",
    "sys/devices/system/node/node0/cpu0/online": "1\n",
    "sys/devices/system/node/node1/cpu3/online": "1\n",
    "sys/fs/cgroup/system.slice/cairn.service/cpu.max": "max 100000\n",
    "sys/fs/cgroup/system.slice/cairn.service/memory.max": "max\n",
    "sys/fs/cgroup/system.slice/cairn.service/pids.max": "4096\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "sys/kernel/mm/transparent_hugepage/defrag": "always defer [madvise] never\n",
    "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages": "4096\n",
    f"sys/bus/pci/devices/{NIC}/vendor": "0x8086\n",
    f"sys/bus/pci/devices/{NIC}/numa_node": "1\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\ncairn:x:998:998::/var/lib/cairn:/usr/sbin/nologin\n",
    "etc/systemd/system/multi-user.target.wants/cairn.service": UNIT,
    "etc/sysctl.d/60-cairn.conf": "vm.swappiness = 1\n",
    "lib/systemd/system/cairn.service": UNIT,
    "run/systemd/system/x": "",
    "run/systemd/timesync/synchronized": "",
}
GPU_FILES = {
    f"sys/bus/pci/devices/{GPU}/vendor": "0x10de\n",
    f"sys/bus/pci/devices/{GPU}/class": "0x030200\n",
    f"sys/bus/pci/devices/{GPU}/current_link_width": "16\n",
    f"sys/bus/pci/devices/{GPU}/max_link_width": "16\n",
    "dev/nvidiactl": "", "dev/nvidia0": "", "dev/nvidia-uvm": "",
    "run/nvidia-persistenced/socket": "",
}


class Machine:
    def __init__(self, root: Path) -> None:
        self.root = root
        for path, text in HEALTHY.items():
            self.put(path, text)
        self.link(f"sys/bus/pci/devices/{NIC}/driver", "../../../bus/pci/drivers/vfio-pci")
        self.link(f"sys/bus/pci/devices/{NIC}/iommu_group", "../../../kernel/iommu_groups/17")

    def put(self, path: str, text: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def link(self, path: str, to: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(to)

    def remove(self, path: str) -> None:
        target = self.root / path
        assert target.exists() or target.is_symlink(), path
        target.unlink()

    def swap(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text()
        assert old in text, path
        self.put(path, text.replace(old, new))

    def add_gpu(self) -> None:
        for path, text in GPU_FILES.items():
            self.put(path, text)

    def carry_out(self, fix: str) -> bool:
        """Does what the command would do to this machine, as far as it is a file here; false: it is not."""
        if found := re.fullmatch(r"sysctl -w ([\w.]+)=(\d+)", fix):
            self.put("proc/sys/" + found[1].replace(".", "/"), found[2] + "\n")
        elif found := re.fullmatch(r"echo (\w+) > (/sys\S+)", fix):
            # The kernel shows the choice in brackets where it shows all.
            self.put(found[2][1:], f"[{found[1]}]\n" if "hugepage" in found[2] else found[1] + "\n")
        elif found := re.fullmatch(r"mkdir -p (\S+) && (printf '[^']*') > (\S+) && systemctl daemon-reload", fix):
            text = subprocess.run(["sh", "-c", found[2]], capture_output=True, text=True, check=True).stdout
            self.put(found[3][1:], text)
        else:
            return False
        return True
