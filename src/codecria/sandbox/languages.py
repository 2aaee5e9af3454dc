r"""Programs in other languages than Python: how a text is built and run, and when it has passed.

A program and its tests are one text and run in one process, as MultiPL-E has it. MultiPL-E passes whatever ends with
status 0: a program that leaves early, PHP that closes its tag before the tests, a shell script whose unfinished heredoc
swallows them. Here a line must also be printed that the sandbox puts behind the last test, drawn for that run and
written in two halves that only running joins, so that printing the text itself does not print it. Besides, C++ tests
get `assert` back whatever the program made of it, and C#'s `Debug.Assert`, which Mono only reports, ends the program.

What cannot be mended in one process: a program that sets out to cheat can read its own source or binary and print the
line, or replace what the tests call (JavaScript's `assert.deepEqual`, the shell's `[[`). Python alone is judged from a
second process. Such a verdict is one on a program that means to solve its task.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codecria.common.errors import CodecriaError
from codecria.sandbox.limits import Limits
from codecria.sandbox.verdict import Status, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TOOLCHAIN_LIMITS = Limits(
    wall_s=60.0, build_wall_s=120.0, cpu_s=15.0, memory_bytes=1 << 30, processes=32, threads=96, file_bytes=64 << 20
)
"""MultiPL-E gives a program 15 s; here they are seconds of processor time. A JVM alone has 20 threads."""

_BUILD, _RUN = "build", "run"
_NO_MEMORY = re.compile(
    r"OutOfMemory|heap out of memory|Allowed memory size of|std::bad_alloc|[Cc]annot allocate|[Oo]ut of memory"
)
_TELLING = re.compile(r"(error|exception)\b[^:]*:|syntax error|^exception in|assertion.* failed", re.IGNORECASE)
_DETAIL_CHARACTERS = 400
_ABORTED = re.compile(r": Assertion `.*' failed\.$", re.MULTILINE)
_BUILD_LINES, _RUN_LINES = 3, 2


@dataclass(frozen=True)
class Source:
    """A program in a language of `LANGUAGES`.

    Attributes:
        language: its name there.
        code: the program.
        tests: what follows it, after a line end. In C++, Java and C# it ends with the braces that close `main` and, in
            the last two, its class.
    """

    language: str
    code: str
    tests: str


@dataclass(frozen=True)
class Language:
    """How programs of a language are built and run.

    Attributes:
        title: its name for people.
        file: what the text is written to.
        commands: one to run it, before that one to build it where there is one. `{tool}` is a file of `tools`,
            `{heap_mb}` half of the memory a program may hold, for those that would else take what the machine has.
        tools: programs and files it needs; see `toolchains`.
        install: how to get them on Debian or Ubuntu; `{cache}` is the cache folder.
        mark: the statement that prints the two halves `{a}` and `{b}` as one line.
        closing: how many braces of the tests close what the mark must stand in.
        settings: patterns of folders outside of `/usr` that the tools read.
        environment: besides the sandbox's own.
    """

    title: str
    file: str
    commands: tuple[str, ...]
    tools: tuple[str, ...]
    install: str
    mark: str
    closing: int = 0
    settings: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


_NODE = "{node} --max-old-space-size={heap_mb} "
_NODE_MARK = 'globalThis.process.stdout.write("\\n" + "{a}" + "{b}" + "\\n");'
_NODE_SETTINGS = (("OPENSSL_CONF", "/dev/null"),)
_JVM = "-XX:+UseSerialGC -XX:-UsePerfData -XX:TieredStopAtLevel=1"
_JVM_OF_JAVAC = _JVM.replace("-XX", "-J-XX")

LANGUAGES: dict[str, Language] = {
    "cpp": Language(
        "C++",
        "program.cpp",
        ("{g++} program.cpp -o program -std=c++17", "./program"),
        ("g++",),
        "apt install g++",
        '__builtin_puts("\\n{a}" "{b}");',
        closing=1,
    ),
    "java": Language(
        "Java",
        "Problem.java",
        (
            f"{{javac}} -J-Xmx{{heap_mb}}m {_JVM_OF_JAVAC} -encoding UTF8 -cp {{javatuples}} Problem.java",
            f"{{java}} -Xmx{{heap_mb}}m {_JVM} -ea -cp .:{{javatuples}} Problem",
        ),
        ("javac", "java", "javatuples"),
        "apt install openjdk-17-jdk-headless libjavatuples-java",
        'System.out.println("\\n{a}" + "{b}");',
        closing=2,
        settings=("/etc/java-*-openjdk",),
    ),
    "php": Language(
        "PHP",
        "program.php",
        ("{php} -d memory_limit={heap_mb}M program.php",),
        ("php",),
        "apt install php-cli",
        'fwrite(STDOUT, "\\n{a}" . "{b}\\n");',
        settings=("/etc/php",),
    ),
    "ts": Language(
        "TypeScript",
        "program.ts",
        (_NODE + "{tsc} --target esnext program.ts", _NODE + "program.js"),
        ("node", "tsc"),
        "apt install nodejs npm, then npm install --prefix {cache}/typescript typescript@5",
        f"(globalThis as any){_NODE_MARK.removeprefix('globalThis')}",
        environment=_NODE_SETTINGS,
    ),
    "cs": Language(
        "C#",
        "program.cs",
        ("{mono} {mcs} -nologo -d:DEBUG -r:System.Numerics.dll -out:program.exe program.cs", "{mono} program.exe"),
        ("mono", "mcs"),
        "apt install mono-mcs mono-runtime",
        'System.Console.WriteLine("\\n{a}" + "{b}");',
        closing=2,
        settings=("/etc/mono",),
        environment=(("MONO_DISABLE_SHARED_AREA", "1"),),
    ),
    "sh": Language(
        "shell (bash)",
        "program.sh",
        ("{bash} program.sh",),
        ("bash",),
        "apt install bash",
        "builtin printf '\\n%s%s\\n' {a} {b}",
    ),
    "js": Language(
        "JavaScript",
        "program.js",
        (_NODE + "program.js",),
        ("node",),
        "apt install nodejs",
        _NODE_MARK,
        environment=_NODE_SETTINGS,
    ),
}
"""By the names MultiPL-E gives them: the paper's six, and JavaScript."""


def assemble(source: Source, nonce: str) -> str:
    """The whole text: program, a line end, tests, and behind the last test the statement that prints the nonce.

    Raises:
        CodecriaError: the tests do not end as the language has it.
    """
    language = LANGUAGES[source.language]
    half = len(nonce) // 2
    mark = language.mark.replace("{a}", nonce[:half]).replace("{b}", nonce[half:])
    tests, at = source.tests, len(source.tests)
    for _ in range(language.closing):
        at = tests.rfind("}", 0, max(at, 0))
    if at < 0 or tests[at:].replace("}", "").strip():
        what = f"tests in {language.title} end with the {language.closing} braces that close main"
        raise CodecriaError(what, where="sandbox", mend="give them as MultiPL-E publishes them")
    start, end = "", ""
    if source.language == "cpp":
        start = "#undef NDEBUG\n#include <assert.h>\n"
    elif source.language == "cs":
        tests = f"{tests[:at].replace('Debug.Assert(', 'CodecriaTests.Assert(')}{tests[at:]}"
        at = len(tests) - len(source.tests) + at
        end = _CS_ASSERT
    return f"{source.code}\n{start}{tests[:at]}\n{mark}\n{tests[at:]}{end}"


_CS_ASSERT = """
static class CodecriaTests {
    public static void Assert(bool held) { if (!held) throw new System.Exception("assertion failed"); }
}
"""


def steps(source: Source, tools: Mapping[str, Path], limits: Limits, nonce: str) -> dict[str, Any]:
    """What a server is asked (`server.steps`) to build and run a program.

    Raises:
        CodecriaError: see `assemble`.
    """
    language = LANGUAGES[source.language]
    values = {**tools, "heap_mb": (limits.memory_bytes >> 20) // 2}
    names = (_BUILD, _RUN)[-len(language.commands) :]
    return {
        "files": {language.file: assemble(source, nonce)},
        "environment": dict(language.environment),
        "steps": [
            {
                "name": name,
                "command": [word.format(**values) for word in command.split()],
                "wall_s": limits.wall_s if name == _RUN else limits.build_wall_s,
                "cpu_s": limits.cpu_s if name == _RUN else limits.build_wall_s,
            }
            for name, command in zip(names, language.commands, strict=True)
        ],
    }


def conclude(answer: Mapping[str, Any], nonce: str) -> Verdict:
    """The verdict on what a server answered. Passed: it ended with status 0 and printed the nonce."""
    status, building, output = answer["status"], answer["step"] == _BUILD, str(answer["output"])
    detail, wall_s = str(answer["detail"]), float(answer["wall_s"])
    marked = f"\n{nonce}\n"
    printed = output.replace("\r\n", "\n")
    said = printed.replace(marked, "", 1)
    found: Status
    if status == "done":
        found = "passed" if marked in printed else "failed"
        detail = "" if found == "passed" else "it ended (status 0) before the tests were done"
    elif status in ("exited", "crashed"):
        # A failed `assert` of C++ ends in SIGABRT.
        found = "failed" if status == "exited" or _ABORTED.search(said) else "crashed"
        found = "build" if building else found
        found = "memory" if _NO_MEMORY.search(said) else found
        told = _told(said, _BUILD_LINES if building else _RUN_LINES)
        detail = f"{told} ({detail})" if told else detail
    else:
        found = status
        detail = f"the compiler: {detail}" if building else detail
    return Verdict(found, detail, wall_s, said)


def _told(output: str, count: int) -> str:
    """The first lines that tell of an error, as one; the last line where none does."""
    lines = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line)]
    return "; ".join((telling or lines[-1:])[:count])[:_DETAIL_CHARACTERS]
