"""Programs in other languages: `add` right and wrong, and what programs must not get away with.

Each is (code, tests) as MultiPL-E lays them out: the tests close what the code leaves open. `{path}` is a file outside,
`{port}` a listening one of the machine.
"""

from __future__ import annotations

TESTS = {
    "cpp": "}\nint main() {\n    assert(add(2, 3) == 5);\n    assert(add(0, 0) == 0);\n}\n",
    "java": "    }\n    public static void main(String[] args) {\n    assert(add(2, 3) == 5);\n    }\n\n}\n",
    "cs": "    }\n    public static void Main(string[] args) {\n    Debug.Assert(add(2, 3) == 5);\n    }\n\n}\n",
    "php": 'function test(): void {\n    if (add(2, 3) !== 5) { throw new Exception("Test failed!"); }\n}\n\ntest();',
    "ts": "declare var require: any;\nconst assert = require('node:assert');\n\n"
    "function test() {\n  assert.deepEqual(add(2, 3),5);\n}\n\ntest();",
    "js": "const assert = require('node:assert');\n\nfunction test() {\n  assert.deepEqual(add(2, 3),5);\n}\n\ntest();",
    "sh": '}\n\nset -e\nrun_test() {\n    [[ $(add "2" "3") = "5" ]]\n}\n\nrun_test',
}
HEADS = {
    "cpp": "#include<assert.h>\n#include<bits/stdc++.h>\n#include <sys/socket.h>\n#include <netinet/in.h>\n"
    "#include <arpa/inet.h>\n#include <unistd.h>\nlong add(long a, long b) {\n",
    "java": "import java.util.*;\nimport org.javatuples.*;\nclass Problem {\n"
    "    public static long add(long a, long b) {\n",
    "cs": "using System;\nusing System.Diagnostics;\nusing System.Collections.Generic;\n"
    "class Problem {\n    public static long add(long a, long b) {\n",
    "php": "<?php\nfunction add($a, $b) {\n",
    "ts": "function add(a: number, b: number): number {\n",
    "js": "function add(a, b) {\n",
    "sh": "#!/bin/bash\nadd() {\n",
}
_CLOSED = {"php": "\n}\n", "ts": "\n}\n", "js": "\n}\n"}
"""What the code itself closes; elsewhere the tests do."""


def program(language: str, body: str) -> tuple[str, str]:
    """The function `add` with a body, and its tests."""
    return HEADS[language] + body + _CLOSED.get(language, ""), TESTS[language]


RIGHT = dict.fromkeys(("cpp", "java", "cs", "ts", "js"), "    return a + b;") | {
    "php": "    return $a + $b;",
    "sh": "    echo $(($1 + $2))",
}
WRONG = dict.fromkeys(("cpp", "java", "cs", "ts", "js"), "    return a - b;") | {
    "php": "    return $a - $b;",
    "sh": "    echo $(($1 - $2))",
}
TOLD = {
    "cpp": "Assertion `add(2, 3) == 5' failed",
    "java": "java.lang.AssertionError",
    "cs": "System.Exception: assertion failed",
    "php": "Uncaught Exception: Test failed!",
    "ts": "AssertionError [ERR_ASSERTION]",
    "js": "AssertionError [ERR_ASSERTION]",
    "sh": "exit status 1",
}
"""What the verdict on a wrong program tells."""

UNBUILDABLE = {
    "cpp": '    return "text";',
    "java": '    return "text";',
    "cs": '    return "text";',
    "ts": '    return "text";',
}
ENDLESS = {
    "cpp": "    for (volatile long i = 0; ; i++) if (i < 0) return a;",
    "java": "    while (true) a++;",
    "cs": "    while (true) a++;",
    "php": "    while (true) $a++;",
    "ts": "    while (true) a++;",
    "js": "    while (true) a++;",
    "sh": "    while :; do :; done",
}
HUNGRY = {
    "cpp": "    std::vector<std::vector<char>> held; while (true) held.emplace_back(1 << 20, 'x');",
    "java": "    List<byte[]> held = new ArrayList<>(); while (true) held.add(new byte[1 << 20]);",
    "cs": "    var held = new List<byte[]>(); while (true) { var part = new byte[1 << 20];\n"
    "    for (int i = 0; i < part.Length; i += 512) part[i] = 1; held.Add(part); }",
    "php": "    $held = []; while (true) $held[] = str_repeat('x', 1 << 20);",
    "ts": "    const held: any[] = []; while (true) held.push(new Array(1 << 17).fill(1.5));",
    "js": "    const held = []; while (true) held.push(Buffer.alloc(1 << 20, 1));",
    "sh": "    local held=xxxxxxxxxxxxxxxx; while :; do held=$held$held; done",
}
LEAVING = {
    "cpp": "    exit(0);",
    "java": "    System.exit(0); return 0;",
    "cs": "    Environment.Exit(0); return 0;",
    "php": "    exit(0);",
    "ts": "    (globalThis as any).process.exit(0);\n    return 0;",
    "js": "    process.exit(0);",
    "sh": "    :\n}\nexit 0\n{",
}
"""Passed by whoever looks at the exit status alone."""

CHEATS = {
    "the tests are printed, not run": ("php", "    return 0;\n}\n?>\n<?php\nfunction other() {\n?>"),
    "the tests are a text of the program's": ("sh", "    :\n}\ncat <<'EOF'\n{"),
    "assert is switched off": ("cpp", "    return 0;\n}\n#define NDEBUG\n#include <assert.h>\nvoid other() {"),
    "assert is redefined": ("cpp", "    return 0;\n}\n#undef assert\n#define assert(x)\nvoid other() {"),
    "failed assertions go nowhere": ("cs", "    Debug.Listeners.Clear(); return 0;"),
}
WRITING = {
    "cpp": '    FILE *file = fopen("{path}", "w"); if (!file) abort(); fputs("x", file); fclose(file); return a + b;',
    "java": '    try {{ java.nio.file.Files.writeString(java.nio.file.Path.of("{path}"), "x"); }}\n'
    "    catch (java.io.IOException error) {{ throw new RuntimeException(error); }} return a + b;",
    "cs": '    System.IO.File.WriteAllText("{path}", "x"); return a + b;',
    "php": "    if (file_put_contents('{path}', 'x') === false) exit(1); return $a + $b;",
    "ts": "    require('node:fs').writeFileSync('{path}', 'x'); return a + b;",
    "js": "    require('node:fs').writeFileSync('{path}', 'x'); return a + b;",
    "sh": "    echo x > {path} || exit 1; echo $(($1 + $2))",
}
CONNECTING = {
    "cpp": "    sockaddr_in to{{}}; to.sin_family = AF_INET; to.sin_port = htons({port});\n"
    "    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK); int s = socket(AF_INET, SOCK_STREAM, 0);\n"
    "    if (connect(s, (sockaddr *)&to, sizeof to)) abort(); return a + b;",
    "java": '    try {{ new java.net.Socket("127.0.0.1", {port}).close(); }}\n'
    "    catch (java.io.IOException error) {{ throw new RuntimeException(error); }} return a + b;",
    "cs": '    new System.Net.Sockets.TcpClient("127.0.0.1", {port}).GetStream().WriteByte(1); return a + b;',
    "php": "    if (!stream_socket_client('tcp://127.0.0.1:{port}')) exit(1); return $a + $b;",
    "ts": "    require('node:child_process').execFileSync('/usr/bin/bash', ['-c', ': > /dev/tcp/127.0.0.1/{port}']);\n"
    "    return a + b;",
    "js": "    require('node:child_process').execFileSync('/usr/bin/bash', ['-c', ': > /dev/tcp/127.0.0.1/{port}']);\n"
    "    return a + b;",
    "sh": "    : > /dev/tcp/127.0.0.1/{port} || exit 1; echo $(($1 + $2))",
}
