"""Manual pages and completions, which are made from the tables: complete, sound troff, and what the shells do with
them."""
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cli.program import CAIRN, refuses, run

PAGES = run("manual").stdout.split()
COMMANDS = re.findall(r"^  (\w[\w-]*) ", run("--help").stdout, re.M)


def render(page: str, width: int = 200) -> str:
    text = run("manual", page).stdout
    return subprocess.run(["man", "-l", "-"], input=text, capture_output=True, text=True, check=True,
                          env={"PATH": "/usr/bin:/bin", "MANWIDTH": str(width), "LC_ALL": "C.UTF-8"}).stdout


def test_there_is_a_page_for_everything() -> None:
    assert PAGES == ["cairn.1", *(f"cairn-{c}.1" for c in COMMANDS), "cairn.yaml.5", "cairn-errors.7"]


@pytest.mark.skipif(not shutil.which("man"), reason="no man here")
@pytest.mark.parametrize("page", PAGES)
def test_pages_are_sound(page: str) -> None:
    """groff warns of whatever it does not understand, and of a table or request that is not closed."""
    text = run("manual", page).stdout
    done = subprocess.run(["man", "--warnings=mac,reg,el,scale,syntax,input,missing", "-E", "UTF-8", "-l", "-Tutf8", "-Z",
                           "-"], input=text, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert f"\n.SH NAME\n{page.rsplit('.', 1)[0]} ".replace("-", "\\-") in text


@pytest.mark.skipif(not shutil.which("man"), reason="no man here")
def test_pages_say_what_the_tables_say() -> None:
    keys = json.loads(run("config", "print", "--json").stdout)
    config = render("cairn.yaml.5")
    for key in keys:
        assert key == "api_keys" or re.search(rf"^ +{re.escape(key)} (TEXT|N)$", config, re.M), key
    errors = render("cairn-errors.7")
    for entry in map(json.loads, run("explain", "--json").stdout.splitlines()):
        assert f"{entry['name']}  {entry['status']}  {entry['code']}".strip() in errors
        assert entry["example"] in re.sub(r"\s+", " ", errors).replace("\u2010", "-")
    doctor = render("cairn-doctor.1")
    for check in re.findall(r"^  ([a-z]\w+) ", run("doctor", "--help").stdout, re.M):
        assert re.search(rf"^ +{check}\b", doctor, re.M), check
    bench = render("cairn-bench.1")
    assert "--max-concurrency N" in bench and "--stall-at N" in bench


def test_an_unknown_page_is_told() -> None:
    assert refuses("manual", "cairn-serv.1") == "unknown page cairn-serv.1; is this meant: cairn manual cairn-serve.1"


# ---- completion --------------------------------------------------------------------------------

# What was typed, the word under the cursor, and some of what must be offered; None: nothing else may be.
CASES = [
    ("cairn ", {"serve", "session", "doctor", "version"}, set()),
    ("cairn ser", {"serve"}, {"session"}),
    ("cairn serve --kv", {"--kv.bytes", "--kv.host_bytes"}, {"--listen"}),
    ("cairn session ", {"ls", "show", "export"}, {"serve"}),
    ("cairn session fork --", {"--at", "--url", "--help"}, {"--kv.bytes"}),
    ("cairn bench ", {"run", "capacity", "sink"}, set()),
    ("cairn bench sink --st", {"--stall", "--stall-at"}, {"--stream"}),
    ("cairn config ", {"check", "print"}, set()),
    ("cairn doctor --ro", {"--root"}, {"--run_directory"}),
    ("cairn completion ", {"bash", "zsh", "fish"}, set()),
]


def check(offered: set[str], wanted: set[str], unwanted: set[str]) -> None:
    assert wanted <= offered, offered
    assert not unwanted & offered, offered


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("completion")
    found = {}
    for shell, name in (("bash", "cairn.bash"), ("zsh", "_cairn"), ("fish", "cairn.fish")):
        found[shell] = directory / name
        found[shell].write_text(run("completion", shell).stdout)
    return found


@pytest.mark.parametrize("typed, wanted, unwanted", CASES, ids=[c[0] for c in CASES])
def test_bash_completes(scripts: dict[str, Path], typed: str, wanted: set[str], unwanted: set[str]) -> None:
    script = f"""source {scripts['bash']}; COMP_LINE=$1; read -ra COMP_WORDS <<< "$1"
        [[ $1 == *" " ]] && COMP_WORDS+=(""); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _cairn
        printf '%s\\n' "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-u", "-c", script, "bash", typed], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    check(set(done.stdout.split()), wanted, unwanted)


def test_bash_offers_files_behind_a_flag_that_takes_one(scripts: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text("")
    script = (f"source {scripts['bash']}; COMP_WORDS=(cairn serve --config some); COMP_CWORD=3; _cairn; "
              "echo ${COMPREPLY[@]}; COMP_WORDS=(cairn doctor --json --ro); _cairn; echo ${COMPREPLY[@]}")
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "some.yaml\n--root\n"


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish here")
@pytest.mark.parametrize("typed, wanted, unwanted", CASES, ids=[c[0] for c in CASES])
def test_fish_completes(scripts: dict[str, Path], tmp_path: Path, typed: str, wanted: set[str],
                        unwanted: set[str]) -> None:
    done = subprocess.run(["fish", "--no-config", "-c", f"source {scripts['fish']}; complete -C {json.dumps(typed)}"],
                          capture_output=True, text=True, cwd=tmp_path,
                          env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "TERM": "dumb"})
    assert done.returncode == 0 and done.stderr == ""
    check({line.split("\t")[0] for line in done.stdout.splitlines()}, wanted, unwanted)


# zsh's completion runs in its editor alone, so what the function would describe is looked at.
ZSH = """autoload -U compinit; _describe() { shift $(($# - 1)); printf '%s\\n' "${(P)1[@]}"; return 0; }
words=(${(z)1}); [[ $1 == *" " ]] && words+=(""); CURRENT=$#words; f() { source SCRIPT }; f"""


@pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh here")
@pytest.mark.parametrize("typed, wanted, unwanted", CASES, ids=[c[0] for c in CASES])
def test_zsh_completes(scripts: dict[str, Path], typed: str, wanted: set[str], unwanted: set[str]) -> None:
    done = subprocess.run(["zsh", "-f", "-c", ZSH.replace("SCRIPT", str(scripts["zsh"])), "zsh", typed],
                          capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    word = typed.split(" ")[-1]              # _describe itself filters by what was typed
    offered = {line.split(":")[0] for line in done.stdout.splitlines()}
    check({o for o in offered if o.startswith(word)}, wanted, unwanted)


def test_flags_of_every_command_are_completed() -> None:
    """Whatever a command's help shows as a flag is in the script."""
    script = run("completion", "bash").stdout
    for command in COMMANDS:
        line = re.search(rf'^    "{command}"\*\) words="([^"]*)"', script, re.M)
        assert line, command
        shown = re.findall(r"^  (--[a-z][\w.-]*)", run(command, "--help").stdout, re.M)
        assert set(shown) <= set(line[1].split()), command
    assert CAIRN.exists()
