"""The Debian package: built by deploy/package from the program that is there, twice; looked at by lintian; unpacked
and run. What its scripts do to a system is seen with commands that only write down how they were called."""
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import urllib.request
from pathlib import Path

import pytest

from cli.program import CAIRN, CLEAN, TOP, run

BUILD = CAIRN.parent
# The other build directories are of sanitizers, whose programs nobody installs.
pytestmark = [pytest.mark.skipif("asan" in BUILD.name or "tsan" in BUILD.name, reason="not a release build"),
              pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no dpkg here")]


def build() -> Path:
    done = subprocess.run([TOP / "deploy/package", BUILD], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = build()
    return shutil.copy(built, tmp_path_factory.mktemp("deb") / built.name)


@pytest.fixture(scope="module")
def root(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    subprocess.run(["dpkg-deb", "-x", deb, root], check=True)
    subprocess.run(["dpkg-deb", "-e", deb, root / "DEBIAN"], check=True)
    return root


def field(deb: Path, name: str) -> str:
    return subprocess.run(["dpkg-deb", "-f", deb, name], capture_output=True, text=True, check=True).stdout.strip()


def test_built_twice_it_is_the_same(deb: Path) -> None:
    """tests/soak/package compares builds from nothing in two directories."""
    assert hashlib.sha256(deb.read_bytes()).hexdigest() == hashlib.sha256(build().read_bytes()).hexdigest()


@pytest.mark.skipif(not shutil.which("lintian"), reason="no lintian here")
def test_lintian_finds_nothing(deb: Path) -> None:
    done = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", "--no-cfg", deb],
                          capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_what_it_says_of_itself(deb: Path) -> None:
    version = run("version", "--json").stdout
    assert field(deb, "Package") == "cairn" and field(deb, "Version") == json.loads(version)["version"]
    depends = field(deb, "Depends")
    assert "libc6 (>=" in depends and "libhiredis" in depends and "systemd" in depends
    assert "redis-server" in field(deb, "Recommends")


def test_what_is_in_it(root: Path) -> None:
    pages = {p.name for p in (root / "usr/share/man").rglob("*.gz")}
    assert pages == {f"{page}.gz" for page in run("manual").stdout.split()}
    assert gzip.open(root / "usr/share/man/man1/cairn-serve.1.gz", "rt").read() == run("manual", "cairn-serve.1").stdout
    for shell, path in (("bash", "bash-completion/completions/cairn"), ("zsh", "zsh/vendor-completions/_cairn"),
                        ("fish", "fish/vendor_completions.d/cairn.fish")):
        assert (root / "usr/share" / path).read_text() == run("completion", shell).stdout
    conffiles = (root / "DEBIAN/conffiles").read_text().split()
    assert conffiles and all((root / path[1:]).is_file() for path in conffiles)
    assert (root / "lib/systemd/system/cairn.service").read_text() == (TOP / "deploy/systemd/cairn.service").read_text()
    # What `cairn doctor` tells people to copy is where it says.
    doctor = "".join(p.read_text() for p in [*(TOP / "appliance").glob("doctor*.c"), TOP / "dataplane/nic_doctor.c"])
    named = set(re.findall(r"/usr/share/cairn/[\w./-]+|/usr/lib/sysusers.d/[\w.]+", doctor))
    assert named and all((root / path[1:]).is_file() for path in named)


def test_every_file_has_the_time_of_the_commit(deb: Path) -> None:
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
        assert len({m.mtime for m in members}) == 1 and {(m.uid, m.gid) for m in members} == {(0, 0)}


def test_the_installed_program_serves_its_demo(root: Path, tmp_path: Path) -> None:
    """As the unit starts it, but for the places that only a real installation has."""
    program, config = root / "usr/bin/cairn", tmp_path / "cairn.yaml"
    text = (root / "etc/cairn/cairn.yaml").read_text()
    assert '\nmodel: "/usr/share/cairn/demo"\n' in text
    config.write_text(text.replace("/usr/share/cairn", f"{root}/usr/share/cairn"))
    server = subprocess.Popen([program, "serve", "--config", config, "--listen", "127.0.0.1:0", "--run_directory",
                               tmp_path / "run"], env=CLEAN | {"STATE_DIRECTORY": str(tmp_path / "state")},
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        url = "http://" + re.fullmatch(r"listening on (\S+)\n", server.stdout.readline())[1]
        body = json.dumps({"messages": [{"role": "user", "content": "Hi!"}], "max_tokens": 8}).encode()
        request = urllib.request.Request(f"{url}/v1/chat/completions", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            assert json.load(answer)["choices"][0]["message"]["content"]
    finally:
        server.terminate()
        assert server.wait(120) == 0


# ---- the scripts -------------------------------------------------------------------------------

@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """Commands that write down how they were called, in front of the real ones."""
    log = tmp_path / "calls"
    log.write_text("")
    for name in ("systemd-sysusers", "systemd-tmpfiles", "systemctl", "deb-systemd-invoke", "rm", "rmdir"):
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f'#!/bin/sh\necho {name} "$@" >> {log}\n')
        command.chmod(0o755)
    return log


@pytest.mark.parametrize("script, arguments, wanted", [
    ("postinst", ["configure", ""], ["systemd-sysusers cairn.conf", "systemd-tmpfiles --create cairn.conf"]),
    ("postinst", ["abort-upgrade", "0.1.0"], []),
    ("prerm", ["upgrade", "0.2.0"], []),
    ("postrm", ["remove"], []),
    ("postrm", ["purge"], ["rm -rf /var/lib/cairn /etc/cairn/api-keys"]),
])
def test_scripts(root: Path, calls: Path, script: str, arguments: list[str], wanted: list[str]) -> None:
    subprocess.run(["sh", root / "DEBIAN" / script, *arguments], check=True,
                   env={"PATH": f"{calls.parent}/bin:/usr/bin:/bin"})
    seen = calls.read_text().splitlines()
    assert [c for c in seen if not c.startswith(("systemctl", "deb-systemd-invoke"))] == wanted
    if Path("/run/systemd/system").is_dir() and script == "postinst" and arguments[0] == "configure":
        assert "systemctl --system daemon-reload" in seen


# ---- the list of what it is made of ------------------------------------------------------------

def test_the_bill_of_materials(root: Path) -> None:
    """SPDX 2.3: the fields that every document and package must have, references that lead somewhere, and the
    libraries that the program really wants."""
    document = json.loads((root / "usr/share/doc/cairn/cairn.spdx.json").read_text())
    assert document["spdxVersion"] == "SPDX-2.3" and document["dataLicense"] == "CC0-1.0"
    assert document["SPDXID"] == "SPDXRef-DOCUMENT" and re.fullmatch(r"https://\S+[^#]", document["documentNamespace"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["creationInfo"]["created"])
    assert all(re.match(r"(Tool|Person|Organization): ", c) for c in document["creationInfo"]["creators"])
    packages = {p["SPDXID"]: p for p in document["packages"]}
    assert len(packages) == len(document["packages"])
    for package in packages.values():
        assert re.fullmatch(r"SPDXRef-[\w.-]+", package["SPDXID"]), package
        assert package["name"] and package["versionInfo"] not in ("", "unknown"), package
        assert package["downloadLocation"] and package["filesAnalyzed"] is False
    for relation in document["relationships"]:
        assert {relation["spdxElementId"], relation["relatedSpdxElement"]} <= {*packages, "SPDXRef-DOCUMENT"}
    assert {"DESCRIBES", "STATIC_LINK", "DYNAMIC_LINK"} == {r["relationshipType"] for r in document["relationships"]}
    needed = re.findall(r"NEEDED.*\[(.*)\]", subprocess.run(["readelf", "-d", root / "usr/bin/cairn"],
                                                            capture_output=True, text=True, check=True).stdout)
    names = {p["name"] for p in packages.values()}
    owners = subprocess.run(["dpkg", "-S", *(f"*/{library}" for library in needed)], capture_output=True,
                            text=True).stdout
    for library in needed:
        assert names & set(re.findall(rf"^([^:\s]+)(?::\w+)?: \S*/{re.escape(library)}$", owners, re.M)), library


def test_the_licence_of_what_is_linked_in(root: Path) -> None:
    text = (root / "usr/share/doc/cairn/copyright").read_text()
    assert "lwIP" in text and "Redistribution and use in source and binary forms" in text
    assert os.access(root / "usr/share/cairn/bind", os.X_OK)


def test_a_library_of_no_package_is_refused(tmp_path: Path) -> None:
    """A list that leaves something out would be worse than none."""
    (tmp_path / "own.c").write_text("int own(void) { return 0; }\n")
    (tmp_path / "main.c").write_text("int own(void);\nint main(void) { return own(); }\n")
    subprocess.run("cc -shared -fPIC -o libown.so own.c && cc -o main main.c -L. -lown -Wl,-rpath,$PWD", shell=True,
                   check=True, cwd=tmp_path)
    sbom = TOP / "deploy/debian/sbom"
    done = subprocess.run([sbom, tmp_path / "main", "1"], capture_output=True, text=True,
                          env={"PATH": os.environ["PATH"], "SOURCE_DATE_EPOCH": "1"})
    assert done.returncode == 1 and done.stderr == f"sbom: no package owns {tmp_path}/libown.so\n"
    for script, arguments in ((sbom, [CAIRN, "1"]), (TOP / "deploy/debian/stage", [CAIRN, tmp_path / "stage", "1"])):
        done = subprocess.run([script, *arguments], capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
        assert done.returncode != 0 and "SOURCE_DATE_EPOCH is not set; must be the time of the commit" in done.stderr
