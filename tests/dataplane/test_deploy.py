"""deploy/dpdk: the demo in namespaces, and binding of a card in a /sys that is written for the test."""
from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
CARD, OTHER = "0000:81:00.0", "0000:81:00.1"


def test_the_demo_answers_and_cleans_up() -> None:
    before = subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout.split("\n")
    done = subprocess.run([TOP / "deploy/dpdk/netns-demo"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"object":"chat.completion"' in done.stdout
    assert "Rex" in done.stdout.split("the openai client")[1]
    assert " frames, 0 lost" in done.stdout and "== drained" in done.stdout
    after = subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout
    assert not [line for line in after.split("\n") if "cairn-demo" in line and line not in before]


def test_the_demo_stops_without_privileges() -> None:
    done = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", TOP / "deploy/dpdk/netns-demo"],
                          capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "netns-demo: must run as root: it makes network namespaces\n"


class Machine:
    """A /sys and /proc with one card, eth1, driven by ixgbe, in an IOMMU group of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.put("proc/net/route", "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
                                   "eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\n"
                                   "eth1\t0000A8C0\t00000000\t0001\t0\t0\t0\t0000FFFF\n")
        self.put("proc/net/ipv6_route", self.route6("00200200", "eth1"))
        for name in ("free_hugepages", "nr_hugepages"):
            self.put(f"sys/kernel/mm/hugepages/hugepages-2048kB/{name}", "28\n")
        for name in ("ixgbe", "vfio-pci"):
            self.put(f"sys/bus/pci/drivers/{name}/unbind", "")
        self.put("sys/bus/pci/drivers_probe", "")
        self.put(f"sys/bus/pci/devices/{CARD}/driver_override", "")
        self.put(f"sys/bus/pci/devices/{CARD}/net/eth1/mtu", "1500")
        self.put(f"sys/kernel/iommu_groups/17/devices/{CARD}/class", "0x020000")
        self.put("sys/class/net/virtual0/mtu", "1500")
        self.link(f"sys/bus/pci/devices/{CARD}/driver", "sys/bus/pci/drivers/ixgbe")
        self.link(f"sys/bus/pci/devices/{CARD}/iommu_group", "sys/kernel/iommu_groups/17")
        self.link("sys/class/net/eth1/device", f"sys/bus/pci/devices/{CARD}")

    @staticmethod
    def route6(flags: str, interface: str) -> str:
        return f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} 00000400 00000001 00000000 {flags} {interface}\n"

    def put(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def get(self, path: str) -> str:
        return (self.root / path).read_text()

    def link(self, path: str, target: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).unlink(missing_ok=True)
        (self.root / path).symlink_to(self.root / target)

    def bind(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([TOP / "deploy/dpdk/bind", *arguments], env=os.environ | {"CN_ROOT": str(self.root)},
                              capture_output=True, text=True)

    def refuses(self, *arguments: str) -> str:
        before = {p: p.read_text() for p in self.root.rglob("*") if p.is_file()}
        done = self.bind(*arguments)
        assert done.returncode == 1 and done.stdout == "", done
        assert before == {p: p.read_text() for p in self.root.rglob("*") if p.is_file()}, "it changed something"
        return done.stderr.removeprefix("bind: ").rstrip("\n")


@pytest.fixture()
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("name", ["eth1", CARD, "81:00.0"])
def test_a_card_is_bound(machine: Machine, name: str) -> None:
    done = machine.bind(name)
    assert done.returncode == 0, done
    assert machine.get(f"sys/bus/pci/devices/{CARD}/driver_override") == "vfio-pci\n"
    assert machine.get("sys/bus/pci/drivers/ixgbe/unbind") == f"{CARD}\n"
    assert machine.get("sys/bus/pci/drivers_probe") == f"{CARD}\n"
    assert machine.get("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages") == "128\n"
    assert f"{CARD} (was eth1) is bound to vfio-pci" in done.stdout and f'device: "{CARD}"' in done.stdout


def test_a_card_is_given_back(machine: Machine) -> None:
    machine.link(f"sys/bus/pci/devices/{CARD}/driver", "sys/bus/pci/drivers/vfio-pci")
    assert machine.bind(CARD).stdout == f"bind: {CARD} is bound to vfio-pci already\n"
    assert machine.bind("--undo", CARD).returncode == 0
    assert machine.get("sys/bus/pci/drivers/vfio-pci/unbind") == f"{CARD}\n"
    assert machine.get(f"sys/bus/pci/devices/{CARD}/driver_override") == "\n"
    machine.link(f"sys/bus/pci/devices/{CARD}/driver", "sys/bus/pci/drivers/ixgbe")
    assert machine.refuses("--undo", CARD) == f"{CARD} is driven by ixgbe, not by vfio-pci; there is nothing to undo"


def test_a_dry_run_changes_nothing(machine: Machine) -> None:
    done = machine.bind("eth1", "--dry-run", "--pages", "4")
    assert done.stdout.splitlines()[:3] == [
        f"echo vfio-pci > /sys/bus/pci/devices/{CARD}/driver_override",
        f"echo {CARD} > /sys/bus/pci/drivers/ixgbe/unbind", f"echo {CARD} > /sys/bus/pci/drivers_probe"]
    assert machine.get("sys/bus/pci/drivers_probe") == ""


def test_the_default_route_is_refused(machine: Machine) -> None:
    says = "eth1 carries the default route and is refused: this machine could be cut off; use a card of its own"
    machine.put("proc/net/ipv6_route", machine.route6("00000003", "eth1"))
    assert machine.refuses("eth1") == machine.refuses(CARD) == says
    machine.put("proc/net/ipv6_route", "")
    machine.put("proc/net/route", machine.get("proc/net/route").replace("eth0", "eth1"))
    assert machine.refuses("eth1") == says


def test_cards_that_are_refused(machine: Machine) -> None:
    assert machine.refuses("eth9") == "eth9 is neither an interface nor a PCI address such as 0000:81:00.0"
    assert machine.refuses(OTHER) == f"{OTHER} is not on the PCI bus"
    assert machine.refuses("virtual0").startswith("virtual0 has no PCI device; a virtual interface is used as it is")
    machine.put(f"sys/kernel/iommu_groups/17/devices/{OTHER}/class", "0x020000")
    machine.link(f"sys/kernel/iommu_groups/17/devices/{OTHER}/driver", "sys/bus/pci/drivers/ixgbe")
    assert machine.refuses("eth1").startswith(f"{OTHER} is in the same IOMMU group and driven by ixgbe")
    machine.put(f"sys/kernel/iommu_groups/17/devices/{OTHER}/class", "0x060400")      # a bridge stays
    assert machine.bind("eth1").returncode == 0
    (machine.root / f"sys/bus/pci/devices/{CARD}/iommu_group").unlink()
    assert machine.refuses("eth1").startswith("no IOMMU: switch it on")
    machine.put("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "N\n")
    assert machine.bind("eth1", "--no-iommu").returncode == 0
    assert machine.get("sys/module/vfio/parameters/enable_unsafe_noiommu_mode") == "Y\n"
    machine.link(f"sys/bus/pci/devices/{CARD}/driver", "sys/bus/pci/drivers/mlx5_core")
    assert "stays with mlx5_core" in machine.refuses("eth1")
    assert machine.bind().returncode == machine.bind("eth1", "eth2").returncode == machine.bind("--pages", "x").returncode == 2
